import errno
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gwainet import files
from gwainet.errors import DataError
from gwainet.files import (
    Resumed,
    code_digest,
    file_digest,
    say_bytes,
    staged_directory,
    staged_file,
    tree_digest,
    write_json,
)
from tests.faults.full_disk import small_disk


def listing(directory: Path) -> dict[str, str]:
    """Every file and directory below, hidden ones too."""
    return {
        path.relative_to(directory).as_posix(): path.read_text() if path.is_file() else "directory"
        for path in sorted(directory.rglob("*"))
    }


def write_old(target: Path) -> None:
    (target / "inner").mkdir(parents=True)
    (target / "old.txt").write_text("old")
    (target / "inner" / "deep.txt").write_text("deep")


# ---------------------------------------------------------------- directories


def test_a_directory_appears_whole_and_only_at_the_end(tmp_path):
    target = tmp_path / "made" / "on the way" / "out"
    with staged_directory(target) as partial:
        (partial / "a.txt").write_text("a")
        assert not target.exists()
        assert partial.parent == target.parent  # one file system: the rename is one step
        assert partial.name.startswith(".")
    assert listing(target.parent) == {"out": "directory", "out/a.txt": "a"}


def test_a_directory_replaces_the_earlier_one_with_nothing_of_it_left(tmp_path):
    target = tmp_path / "out"
    write_old(target)
    with staged_directory(target) as partial:
        (partial / "new.txt").write_text("new")
        assert (target / "old.txt").read_text() == "old"
    assert listing(tmp_path) == {"out": "directory", "out/new.txt": "new"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_failed_directory_leaves_nothing_behind_and_the_earlier_one_whole(tmp_path, error, earlier):
    target = tmp_path / "out"
    if earlier:
        write_old(target)
    before = listing(tmp_path)
    with pytest.raises(error), staged_directory(target) as partial:  # noqa: PT012
        (partial / "half.txt").write_text("half")
        raise error
    assert listing(tmp_path) == before


def test_an_error_between_the_two_renames_puts_the_earlier_directory_back(tmp_path):
    target = tmp_path / "out"
    write_old(target)
    before = listing(tmp_path)
    with pytest.raises(FileNotFoundError), staged_directory(target) as partial:
        partial.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").rmdir()
    assert listing(tmp_path) == before


def test_a_directory_takes_the_place_of_a_file_and_of_a_link_without_touching_what_the_link_shows(tmp_path):
    (tmp_path / "file").write_text("x")
    with staged_directory(tmp_path / "file") as partial:
        (partial / "new.txt").write_text("new")
    assert (tmp_path / "file" / "new.txt").is_file()
    elsewhere = tmp_path / "elsewhere"
    write_old(elsewhere)
    for name, aim in (("link", elsewhere), ("dangling", tmp_path / "nowhere")):
        (tmp_path / name).symlink_to(aim)
        with staged_directory(tmp_path / name) as partial:
            (partial / "new.txt").write_text("new")
        assert not (tmp_path / name).is_symlink()
        assert listing(tmp_path / name) == {"new.txt": "new"}
    assert (elsewhere / "inner" / "deep.txt").read_text() == "deep"


def test_read_only_files_as_dvc_links_them_are_replaced(tmp_path):
    target = tmp_path / "out"
    write_old(target)
    (target / "old.txt").chmod(0o444)
    with staged_directory(target) as partial:
        (partial / "new.txt").write_text("new")
    assert listing(tmp_path) == {"out": "directory", "out/new.txt": "new"}


# ---------------------------------------------------------------- files


def test_a_file_appears_whole_and_only_at_the_end(tmp_path):
    target = tmp_path / "made" / "out.txt"
    with staged_file(target) as partial:
        partial.write_text("new")
        assert not target.exists()
    assert listing(target.parent) == {"out.txt": "new"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_failed_file_leaves_nothing_behind_and_the_earlier_one_whole(tmp_path, error, earlier):
    target = tmp_path / "out.txt"
    if earlier:
        target.write_text("old")
    before = listing(tmp_path)
    with pytest.raises(error), staged_file(target) as partial:  # noqa: PT012
        partial.write_text("half")
        raise error
    assert listing(tmp_path) == before


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_earlier_file(tmp_path):
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), staged_file(target):
        pass
    assert listing(tmp_path) == {"out.txt": "old"}


def test_a_file_written_over_a_link_leaves_what_the_link_shows(tmp_path):
    (tmp_path / "cache").write_text("old")
    (tmp_path / "out.txt").symlink_to(tmp_path / "cache")
    with staged_file(tmp_path / "out.txt") as partial:
        partial.write_text("new")
    assert (tmp_path / "cache").read_text() == "old"
    assert listing(tmp_path) == {"cache": "old", "out.txt": "new"}


def test_json_is_the_same_bytes_for_the_same_value(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [0.1, None, "é"]})
    write_json(tmp_path / "b.json", {"a": [0.1, None, "é"], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.json").read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_json_that_no_one_could_read_is_refused_and_the_earlier_file_stays(tmp_path, value):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", {"a": [1, value]})
    assert listing(tmp_path) == {"a.json": "1\n"}


# ---------------------------------------------------------------- no room


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_is_told_with_place_bytes_and_what_is_left(tmp_path, number):
    def fill(target: Path) -> str:
        with pytest.raises(DataError) as caught, staged_directory(target, needed=5_000_000) as partial:  # noqa: PT012
            (partial / "a.txt").write_bytes(bytes(2500))
            raise OSError(number, os.strerror(number))
        return str(caught.value)

    message = fill(tmp_path / "out")
    for said in (
        str(tmp_path / "out"),
        "2.5 kB of it were written, 5.0 MB are needed",
        "nothing was left behind",
        "again",
    ):
        assert said in message
    assert listing(tmp_path) == {}
    write_old(tmp_path / "out")
    before = listing(tmp_path)
    assert "the earlier one is as it was" in fill(tmp_path / "out")
    assert listing(tmp_path) == before


def test_a_file_without_room_in_a_directory_is_told_as_the_directory(tmp_path):
    out = staged_directory(tmp_path / "out")
    with pytest.raises(DataError) as caught, out as partial, staged_file(partial / "a.json"):
        raise OSError(errno.ENOSPC, "full")
    assert str(caught.value).startswith(f"{tmp_path / 'out'} could not be written, the disk is full")
    assert listing(tmp_path) == {}


def test_other_errors_of_the_system_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError), staged_directory(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "no")


@pytest.mark.parametrize("kind", [staged_directory, staged_file])
def test_a_real_disk_that_is_full_stops_with_the_message_and_holds_nothing_of_it(tmp_path, kind):
    disk = tmp_path / "disk"
    try:
        opened = small_disk(disk, 2**20)
        opened.__enter__()
    except (PermissionError, FileNotFoundError) as error:
        pytest.skip(f"no small file system can be mounted here: {error}")
    try:
        with pytest.raises(DataError, match=r"the disk is full .* has 1\.0 MB free now"), kind(disk / "out") as partial:
            (partial / "big" if partial.is_dir() else partial).write_bytes(bytes(2**21))
        assert listing(disk) == {}
    finally:
        opened.__exit__(None, None, None)


def test_bytes_are_said_in_the_unit_that_people_would_use():
    assert [say_bytes(count) for count in (0, 999, 1500, 72_576_000, 15 * 10**12)] == [
        "0 bytes",
        "999 bytes",
        "1.5 kB",
        "72.6 MB",
        "15,000.0 GB",
    ]


# ---------------------------------------------------------------- killed processes

# `KILL_AT` counts calls that change the file system: the process is killed by the system just before that one
KILLED = """
import os, signal, sys
from pathlib import Path
from gwainet.files import staged_directory, staged_file
target, kind, kill_at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
changes = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}
calls = 0
def audit(event, arguments):
    global calls
    if event in changes and "out" in str(arguments) and not (event == "open" and arguments[1] in ("r", None)):
        if calls == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
sys.addaudithook(audit)
if kind == "directory":
    with staged_directory(target) as partial:
        (partial / "new.txt").write_text("new")
        (partial / "newer.txt").write_text("newer")
else:
    with staged_file(target) as partial:
        partial.write_text("new")
os._exit(0)
"""


def killed(target: Path, kind: str, kill_at: int) -> int:
    return subprocess.run([sys.executable, "-c", KILLED, str(target), kind, str(kill_at)], check=False).returncode


def test_a_directory_is_old_or_new_but_never_half_whenever_the_process_is_killed(tmp_path):
    old = {"inner": "directory", "inner/deep.txt": "deep", "old.txt": "old"}
    new = {"new.txt": "new", "newer.txt": "newer"}
    seen = []
    for kill_at in range(30):
        target = tmp_path / str(kill_at) / "out"
        write_old(target)
        code = killed(target, "directory", kill_at)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        # between the two renames the whole earlier directory waits under another name
        found = listing(target) if target.exists() else listing(target.with_name(".out.previous"))
        assert found in (old, new), f"killed before change {kill_at}"
        seen.append(found == new)
        if not seen[-1]:  # a next run that fails leaves the old whole, too
            with pytest.raises(ValueError, match="again"), staged_directory(target):
                raise ValueError("again")
            assert listing(target) == old
            assert [path.name for path in target.parent.iterdir()] == ["out"]
        with staged_directory(target) as partial:
            (partial / "third.txt").write_text("third")
        assert listing(target.parent) == {"out": "directory", "out/third.txt": "third"}
    assert code == 0
    # old until a rename, then new: kills came both before it and after it
    assert seen == sorted(seen)
    assert set(seen) == {False, True}


def test_a_file_is_old_or_new_but_never_half_whenever_the_process_is_killed(tmp_path):
    target = tmp_path / "out.txt"
    for kill_at in range(10):
        target.write_text("old")
        code = killed(target, "file", kill_at)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        assert target.read_text() == "old"
        with staged_file(target) as partial:
            assert not partial.exists()  # a leftover cannot be appended to
            partial.write_text("third")
        assert listing(tmp_path) == {"out.txt": "third"}
    assert code == 0
    assert kill_at >= 2
    assert target.read_text() == "new"


# ---------------------------------------------------------------- digests


def test_a_file_digest_is_sha_256_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    big = os.urandom(3_000_001)
    (tmp_path / "b").write_bytes(big)
    assert file_digest(tmp_path / "b") == hashlib.sha256(big).hexdigest()
    assert tree_digest(tmp_path / "b") == file_digest(tmp_path / "b")


def test_a_tree_digest_feels_bytes_names_and_places_but_not_times_order_or_where_the_tree_lies(tmp_path):
    def tree(name: str, files: dict[str, str]) -> str:
        for path, text in files.items():
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tree_digest(tmp_path / name)

    files = {"a.txt": "1", "sub/b.txt": "2"}
    digest = tree("one", files)
    assert tree("two", dict(reversed(files.items()))) == digest
    os.utime(tmp_path / "two" / "a.txt", (1, 1))
    assert tree_digest(tmp_path / "two") == digest
    changed = [
        {"a.txt": "1", "sub/b.txt": "3"},
        {"a.txt": "2", "sub/b.txt": "1"},
        {"a.txt": "1", "sub/c.txt": "2"},
        {"a.txt": "1", "b.txt": "2"},
        {"a.txt": "1"},
        {**files, "c.txt": ""},
        {**files, ".hidden": "1"},
    ]
    digests = {tree(f"changed {number}", other) for number, other in enumerate(changed)}
    assert len(digests | {digest}) == len(changed) + 1


def test_the_digest_of_code_is_over_sources_and_templates_at_the_names_alone(tmp_path):
    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    write("nets/wnet.py", "flow")
    write("page.html", "<p>")
    names = ["nets", "page.html"]
    first = code_digest(tmp_path, names)
    write("nets/__pycache__/wnet.pyc", "compiled")
    write("other.py", "of another stage")
    assert code_digest(tmp_path, names) == code_digest(tmp_path, names[::-1]) == first
    write("page.html", "<b>")
    changed = code_digest(tmp_path, names)
    assert changed != first
    (tmp_path / "nets" / "wnet.py").rename(tmp_path / "nets" / "cnet.py")
    assert code_digest(tmp_path, names) not in {first, changed}


# ---------------------------------------------------------------- two at once

HOLDS = """
import sys
from pathlib import Path
from gwainet.files import Resumed, staged_directory
with staged_directory(Path(sys.argv[1]), resume=Resumed()) as partial:
    (partial / "mine.txt").write_text("mine")
    print("begun", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holding(tmp_path):
    """Another process that is at work on `out` until its standard input is closed."""
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        yield process
        process.kill()


def test_a_directory_that_another_process_works_on_is_left_to_it(tmp_path, holding):
    with (
        pytest.raises(DataError, match="another run is at work on"),
        staged_directory(tmp_path / "out", resume=Resumed()),
    ):
        pass
    holding.communicate()
    assert holding.returncode == 0
    assert listing(tmp_path) == {"out": "directory", "out/mine.txt": "mine"}  # and no lock
    with staged_directory(tmp_path / "out", resume=Resumed()) as partial:
        (partial / "next.txt").write_text("next")
    assert listing(tmp_path) == {"out": "directory", "out/next.txt": "next"}


def test_the_lock_of_a_killed_process_keeps_nobody_away(tmp_path, holding):
    holding.kill()
    holding.wait()
    with staged_directory(tmp_path / "out", resume=Resumed()) as partial:
        assert (partial / "mine.txt").read_text() == "mine"
    assert listing(tmp_path) == {"out": "directory", "out/mine.txt": "mine"}


def test_a_lock_that_its_owner_removed_meanwhile_is_no_lock(tmp_path, monkeypatch):
    usual, calls = fcntl.flock, 0

    def flock(lock: int, how: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            (tmp_path / ".out.lock").unlink()
        usual(lock, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with staged_directory(tmp_path / "out", resume=Resumed()):
        assert calls == 2
        assert (tmp_path / ".out.lock").exists()
    assert listing(tmp_path) == {"out": "directory"}


@pytest.mark.parametrize("how", ["no fcntl", "no locks"])
def test_a_system_without_locks_goes_without(tmp_path, monkeypatch, how):
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    if how == "no fcntl":
        monkeypatch.setattr(files, "fcntl", None)
    else:
        monkeypatch.setattr(fcntl, "flock", refused)
    with staged_directory(tmp_path / "out", resume=Resumed()) as partial:
        (partial / "a.txt").write_text("a")
    assert (tmp_path / "out" / "a.txt").read_text() == "a"


def test_no_room_for_the_lock_itself_is_told_as_well(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    with (
        pytest.raises(DataError, match="out could not be written, the disk is full"),
        staged_directory(tmp_path / "out", resume=Resumed()),
    ):
        pass
