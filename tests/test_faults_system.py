"""A preparation that is killed or meets a full disk leaves a whole output or none, and runs again."""

from functools import partial

import pytest

from gwainet.recorder import NullRecorder
from gwainet.stages import prepare_faces
from tests.faults.full_disk import fill_disks, small_disk
from tests.faults.killed import kill_preparations
from tests.faults.project import draw, params, prepare, write_source


@pytest.fixture(scope="module", name="photos")
def _photos():
    return draw(people=12, photos=3)


@pytest.mark.system
def test_killed_preparations_leave_a_whole_output_or_none_and_run_again_to_the_same_bytes(tmp_path, photos):
    many = {name.replace("/", f"/{n}-"): content for name, content in photos.items() for n in range(20)}
    write_source(tmp_path, "zip", many)
    _, killed = kill_preparations(tmp_path, kills=6, seed=1)
    assert killed.wrong == []
    assert (killed.kills, killed.orphans) == (6, 0)
    assert killed.resumed  # a moment drawn over the whole run lies behind its first 64 photos nearly always
    assert all(0 < photos <= len(many) for photos in killed.resumed)


@pytest.mark.system
def test_a_full_disk_stops_preparation_with_the_message_and_leaves_nothing(tmp_path, photos):
    try:
        with small_disk(tmp_path / "disk", 10**6):
            pass
    except (PermissionError, FileNotFoundError) as error:
        pytest.skip(f"no small file system can be mounted here: {error}")
    write_source(tmp_path, "zip", photos)
    prepare(tmp_path, params())
    where = {"source": tmp_path / "source", "raw": tmp_path / "data" / "raw"}
    again = partial(prepare_faces.run, params(), **where, recorder=NullRecorder())
    found = list(fill_disks(tmp_path, again, tries=3, seed=1))
    assert {case.case: case.wrong for case in found if case.wrong} == {}
    assert [case.stopped for case in found] == [3, 3, 3, 3]
