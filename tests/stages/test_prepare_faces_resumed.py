"""A preparation that was stopped is taken over by the next run, which writes what an undisturbed one writes."""

import errno
import os
import re
import shutil
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import pytest

from gwainet.errors import DataError
from gwainet.files import tree_digest
from gwainet.params import Params
from gwainet.recorder import NullRecorder
from gwainet.sources import crop, jpeg, packed
from gwainet.sources.journal import Journal
from gwainet.sources.photo import Rejection
from gwainet.sources.store import Reader
from gwainet.stages import fetch_faces, prepare_faces
from gwainet.stages.prepare_faces_parts import write_part
from tests.photos import celeba_rows, params, people, write_celeba, write_folder, write_landmarks, write_zip

TOGETHER = 4  # photos of a line of the journal here
PHOTOS = 30


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crop, "_CHUNK", TOGETHER)
    monkeypatch.setattr(prepare_faces, "_NOTED", TOGETHER)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(prepare_faces, "say", lines.append)
    return lines


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the photos that were read."""
    names: list[str] = []
    usual = Reader.read

    def read(self, name, place):
        names.append(name)
        return usual(self, name, place)

    monkeypatch.setattr(Reader, "read", read)
    return names


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten people of three photos, a damaged one among the first and one among the last, and the undisturbed output."""
    members = people(10) | {"set/person01/1.png": b"damaged", "set/person08/2.png": b"damaged as well"}
    write_zip(tmp_path / "source" / "set.zip", members)
    fetch_faces.run(settings(), source=tmp_path / "source", out=tmp_path / "data" / "raw", recorder=NullRecorder())
    run(tmp_path, "undisturbed")
    return tmp_path


def settings(**prepare: int) -> Params:
    return params("folder", "set.zip", **prepare)


def run(root: Path, out: str = "faces", of: Params | None = None) -> str:
    """The stage; the digest of what it wrote."""
    faces = root / "data" / out
    prepare_faces.run(
        of or settings(), source=root / "source", raw=root / "data" / "raw", out=faces, recorder=NullRecorder()
    )
    return tree_digest(faces)


def stop(root: Path, after: int, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object] | None = None) -> None:
    """Run, and stop as nothing but a signal does when so many photos have been read."""
    usual, count = Reader.read, 0

    def read(self, name, place):
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt
        return usual(self, name, place)

    with monkeypatch.context() as patch:
        patch.setattr(Reader, "read", read)
        with pytest.raises(KeyboardInterrupt):
            (act or (lambda: run(root)))()


def left(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "data").iterdir())


def test_landmarks_of_a_stopped_preparation_are_those_of_an_undisturbed_one(tmp_path, monkeypatch):
    rows, of = celeba_rows(people_per_split=3), params("celeba")
    write_celeba(tmp_path / "source", rows, {"000002.png": b"damaged"})
    write_landmarks(tmp_path / "source", rows)
    fetch_faces.run(of, source=tmp_path / "source", out=tmp_path / "data" / "raw", recorder=NullRecorder())
    undisturbed = run(tmp_path, "undisturbed", of)
    stop(tmp_path, 13, monkeypatch, lambda: run(tmp_path, of=of))
    assert run(tmp_path, of=of) == undisturbed
    assert (tmp_path / "data" / "faces" / "landmarks.npy").is_file()


@pytest.mark.parametrize(("after", "done"), [(0, 0), (3, 0), (13, 12), (29, 28)])
def test_a_rerun_reads_the_other_photos_alone(root, reads, said, monkeypatch, after: int, done: int):
    stop(root, after, monkeypatch)
    assert left(root) == [".faces.partial", "raw", "undisturbed"]
    reads.clear(), said.clear()
    assert run(root) == tree_digest(root / "data" / "undisturbed")
    assert len(reads) == PHOTOS - done
    assert (f"prepare_faces goes on: {done} of {PHOTOS} photos were done when a run was stopped" in said) == bool(done)
    assert left(root) == ["faces", "raw", "undisturbed"]


def test_a_run_that_is_stopped_again_and_again_gets_on(root, reads, monkeypatch):
    for _ in range(3):
        stop(root, 2 * TOGETHER, monkeypatch)
    reads.clear()
    assert run(root) == tree_digest(root / "data" / "undisturbed")
    assert len(reads) == PHOTOS - 6 * TOGETHER


def test_what_was_done_is_taken_over_when_guides_and_manifest_were_next(root, reads, monkeypatch):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    clean = people(10)
    write_zip(root / "source" / "set.zip", clean)  # none is rejected, so no row moves
    fetch_faces.run(settings(), source=root / "source", out=root / "data" / "raw", recorder=NullRecorder())
    with monkeypatch.context() as patch:
        patch.setattr(prepare_faces, "finish", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(root)
    reads.clear()
    digest = run(root)
    assert reads == []
    assert digest == run(root, "again")
    assert len(reads) == PHOTOS


def test_rows_that_were_moving_are_made_again(root, reads, monkeypatch):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(packed.FaceArrays, "finish", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(root)
    reads.clear()
    assert run(root) == tree_digest(root / "data" / "undisturbed")
    assert len(reads) == PHOTOS


def other_params(root: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    return settings(seed=5)


def other_code(root: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.setattr(prepare_faces, "code_digest", lambda *_: "another")
    return settings()


def another_decoder(root: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.setattr(jpeg, "VERSION", "absent")
    return settings()


def other_photos(root: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    write_zip(root / "source" / "set.zip", people(10, 4))
    fetch_faces.run(settings(), source=root / "source", out=root / "data" / "raw", recorder=NullRecorder())
    return settings()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_params, "prepare_faces.seed"),
        (other_code, "code"),
        (another_decoder, "simplejpeg"),
        (other_photos, "photos, rows"),
    ],
)
def test_what_was_made_of_something_else_is_not_taken_over(root, reads, said, monkeypatch, change, named: str):
    stop(root, 20, monkeypatch)
    of = change(root, monkeypatch)
    reads.clear(), said.clear()
    digest = run(root, of=of)
    planned = set(reads)
    assert said[0].startswith("prepare_faces starts afresh")
    assert "other " + named in said[0]
    assert len(reads) == len(planned) >= PHOTOS - 3
    assert digest == run(root, "again", of)


def test_a_photo_of_a_folder_that_changed_meanwhile_is_looked_at_again(root, reads, said, monkeypatch):
    write_folder(root / "source" / "set", {name.removeprefix("set/"): of for name, of in people(10).items()})
    of = params("folder", "set")
    fetch_faces.run(of, source=root / "source", out=root / "data" / "raw", recorder=NullRecorder())
    stop(root, 20, monkeypatch, lambda: run(root, of=of))
    one, other = (root / "source" / "set" / name for name in ("person00/0.png", "person00/1.png"))
    content = other.read_bytes()
    same_size = content if len(content) == one.stat().st_size else one.read_bytes()
    one.write_bytes(same_size)
    os.utime(one, (1, 1))
    reads.clear(), said.clear()
    run(root, of=of)
    assert "other photos" in said[0]
    assert len(reads) == PHOTOS


def test_a_photo_exchanged_under_its_old_size_and_time_is_looked_at_again(root, reads, said, monkeypatch):
    write_folder(root / "source" / "set", {name.removeprefix("set/"): of for name, of in people(10).items()})
    of = params("folder", "set")
    fetch_faces.run(of, source=root / "source", out=root / "data" / "raw", recorder=NullRecorder())
    stop(root, 20, monkeypatch, lambda: run(root, of=of))
    photo = root / "source" / "set" / "person00" / "0.png"
    facts, content = photo.stat(), photo.read_bytes()
    photo.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(photo, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    reads.clear(), said.clear()
    run(root, of=of)
    assert "other photos" in said[0]
    assert len(reads) == PHOTOS


def test_a_photo_that_could_not_be_read_for_a_while_is_looked_at_again(root, reads, monkeypatch):
    usual, unread = Reader.read, 5

    def read(self, name, place):
        if len(reads) == unread:
            reads.append(name)
            raise OSError(errno.EIO, "Input/output error")
        return usual(self, name, place)

    reads.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Reader, "read", read)
        stop(root, 20, patch)
    failed = reads[unread]
    reads.clear()
    stop(root, 2 * TOGETHER, monkeypatch)  # looked at, and at again by the run after this one
    reads.clear()
    assert run(root) == tree_digest(root / "data" / "undisturbed")
    assert reads[0] == failed
    assert len(reads) == 1 + PHOTOS - 20 - TOGETHER


def journal(root: Path) -> Path:
    return root / "data" / ".faces.partial" / "journal"


def cut_short(root: Path) -> int:
    content = journal(root).read_bytes()
    journal(root).write_bytes(content[:-5])
    return 16


def changed_inside(root: Path) -> int:
    lines = journal(root).read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"set/", b"sat/", 1) if b"set/" in lines[3] else lines[3].replace(b"1", b"2", 1)
    journal(root).write_bytes(b"".join(lines))
    return 8


def lost_its_first_line(root: Path) -> int:
    journal(root).write_bytes(journal(root).read_bytes()[3:])
    return 0


def no_journal(root: Path) -> int:
    journal(root).unlink()
    return 0


def row_not_as_written(root: Path) -> int:
    with (root / "data" / ".faces.partial" / "hr.npy").open("r+b") as file:
        file.seek(128 + 9 * CROP_BYTES + 5)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    return 8


def rows_lost(root: Path) -> int:
    with (root / "data" / ".faces.partial" / "lr.npy").open("r+b") as file:
        file.truncate(128 + 13 * CROP_BYTES // 64)
    return 12


def small_faces_lost(root: Path) -> int:
    path = root / "data" / ".faces.partial" / "small.npy"
    content = path.read_bytes()
    path.write_bytes(content[:128] + bytes(len(content) - 128))
    return 0


def one_small_face_not_as_written(root: Path) -> int:
    with (root / "data" / ".faces.partial" / "small.npy").open("r+b") as file:
        file.seek(128 + 13 * 32 * 32 + 5)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    return 12


def array_lost(root: Path) -> int:
    (root / "data" / ".faces.partial" / "small.npy").unlink()
    return 0


def header_emptied(root: Path) -> int:
    (root / "data" / ".faces.partial" / "hr.npy").write_bytes(b"")
    return 0


def header_cut(root: Path) -> int:
    os.truncate(root / "data" / ".faces.partial" / "lr.npy", 70)
    return 0


def header_zeroed(root: Path) -> int:
    with (root / "data" / ".faces.partial" / "hr.npy").open("r+b") as file:
        file.write(bytes(128))
    return 0


def header_of_another_shape(root: Path) -> int:
    path = root / "data" / ".faces.partial" / "hr.npy"
    head, rest = path.read_bytes()[:128], path.read_bytes()[128:]
    path.write_bytes(re.sub(rb", 3\)", b", 4)", head) + rest)
    return 0


CROP_BYTES = 3 * settings().prepare_faces.crop.height * settings().prepare_faces.crop.width


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        changed_inside,
        lost_its_first_line,
        no_journal,
        row_not_as_written,
        rows_lost,
        small_faces_lost,
        one_small_face_not_as_written,
        array_lost,
        header_emptied,
        header_cut,
        header_zeroed,
        header_of_another_shape,
    ],
)
def test_what_the_disk_lost_or_changed_is_made_again(root, reads, said, monkeypatch, damage):
    stop(root, 21, monkeypatch)
    kept = damage(root)
    reads.clear(), said.clear()
    assert run(root) == tree_digest(root / "data" / "undisturbed")
    assert len(reads) == PHOTOS - kept
    if "header" in damage.__name__ or damage is array_lost:
        assert said[0].startswith("prepare_faces starts afresh: what a run that was stopped has left is damaged (")


def test_a_line_that_the_system_takes_bit_by_bit_is_written_whole(tmp_path: Path) -> None:
    class Slow(FileIO):
        def write(self, content) -> int:
            return super().write(memoryview(content)[:7])

    facts = {"code": "a"}
    written = Journal(tmp_path, facts)
    written.open()
    assert written._file is not None
    written._file.close()
    written._file = Slow(written.path, "r+")
    written._file.seek(0, os.SEEK_END)
    written.add([Rejection(f"{number}.png", "grey", "mode L") for number in range(5)])
    written.close()
    found = Journal(tmp_path, facts)
    assert (found.found, found.done) == (True, 5)


def test_a_failure_leaves_nothing(root, monkeypatch):
    stop(root, 20, monkeypatch)

    def failed(*_: object) -> None:
        raise DataError("too few people")

    monkeypatch.setattr(prepare_faces, "finish", failed)
    with pytest.raises(DataError, match="too few people"):
        run(root)
    assert left(root) == ["raw", "undisturbed"]


def test_too_little_space_keeps_what_a_killed_run_did(root, reads, monkeypatch):
    stop(root, 20, monkeypatch)
    usual = shutil.disk_usage
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usual(path)._replace(free=0))
        with pytest.raises(DataError, match=r"are written: make room.* What a run that was stopped has done is kept"):
            run(root)
    assert left(root) == [".faces.partial", "raw", "undisturbed"]
    reads.clear()
    assert run(root) == tree_digest(root / "data" / "undisturbed")
    assert len(reads) == PHOTOS - 20


def test_too_little_space_from_the_start_leaves_nothing(root, monkeypatch):
    usual = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usual(path)._replace(free=0))
    with pytest.raises(DataError, match="Nothing was written"):
        run(root)
    assert left(root) == ["raw", "undisturbed"]


def test_space_that_is_written_already_is_not_asked_for_again(tmp_path: Path) -> None:
    prepare_faces.check_space(tmp_path, 10, 10**18, written=10**18)
    with pytest.raises(DataError, match="free"):
        prepare_faces.check_space(tmp_path, 10, 10**18, written=0)


def test_a_part_is_taken_over_as_well(root, reads, monkeypatch):
    of, where = settings(), {"source": root / "source", "raw": root / "data" / "raw"}
    reads.clear()
    write_part(of, 1, 2, **where, out=root / "data" / "undisturbed part")
    photos = len(reads)
    stop(root, 9, monkeypatch, lambda: write_part(of, 1, 2, **where, out=root / "data" / "part"))
    reads.clear()
    write_part(of, 1, 2, **where, out=root / "data" / "part")
    assert len(reads) == photos - 2 * TOGETHER
    assert tree_digest(root / "data" / "part") == tree_digest(root / "data" / "undisturbed part")
