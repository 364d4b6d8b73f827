"""`python -m tests.faults`: what preparation does when it is killed, when the disk is full, and with damaged photos.

Three tables for docs/reliability.md, made with drawn people:

1. `fetch_faces` and `prepare_faces` run in a process that is killed (SIGKILL) at a moment drawn over its whole length,
   beside an earlier output or none; then they run again.
2. One photo in a hundred is replaced by a damaged or strange one, a kind at a time, in a zip and in a folder.
3. The disk fills up: a small file system of its own, which only root can mount; and a limit on the size of files.
"""

import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import pandas as pd
import psutil
import typer
from rich.progress import track

from gwainet.errors import GwainetError
from gwainet.files import tree_digest
from gwainet.params import DrawnPeople, Params, check_params
from gwainet.people import draw_photo
from gwainet.recorder import NullRecorder
from gwainet.stages import check_faces, fetch_faces, prepare_faces
from tests.damage import FOLDER_TRICKS, KINDS, ZIP_TRICKS, Kind, Trick, with_kind
from tests.full_disk import fill_disks, small_disk
from tests.photos import encoded, write_folder, write_zip

PEOPLE, PHOTOS = 60, 5
SOURCE = "set"  # a zip or a folder below source/
COPIES = 8  # of each photo while preparations are killed: it must take long enough to be hit

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["pandas", "pyarrow", "tests.faults"])


def params(seed: int = 0, workers: int = 1, **prepare: object) -> Params:
    """Of a folder or zip of people; `seed` draws the splits."""
    return check_params(
        {
            "profile": "faults",
            "fetch_faces": {"source": "folder", "images": SOURCE},
            "prepare_faces": {"seed": seed, **prepare},
            "runtime": {"workers": workers},
        }
    )


def draw(people: int = PEOPLE, photos: int = PHOTOS) -> dict[str, bytes]:
    """Photos of drawn people, one folder a person."""
    settings = DrawnPeople()
    return {
        f"person{person:03}/{number}.jpg": encoded(
            draw_photo(settings.seed, person, number, 1), "JPEG", quality=settings.jpeg_quality
        )
        for person in track(range(people), "drawing")
        for number in range(photos)
    }


def prepare(root: Path, settings: Params, out: Path | None = None) -> Path:
    """Run both stages; the folder of the faces."""
    source, raw, faces = root / "source", root / "data" / "raw", out or root / "data" / "faces"
    fetch_faces.run(settings, source=source, out=raw, recorder=NullRecorder())
    prepare_faces.run(settings, source=source, raw=raw, out=faces, recorder=NullRecorder())
    return faces


def listing(root: Path) -> dict[str, tuple[int, int]]:
    """All names below a folder with inode and time of change, but for `data/`, where output belongs."""
    found = {}
    for folder, folders, names in os.walk(root):
        if Path(folder) == root and "data" in folders:
            folders.remove("data")
        for name in (*folders, *names):
            path = Path(folder, name)
            found[str(path.relative_to(root))] = path.lstat().st_ino, path.lstat().st_mtime_ns
    return found


# --- killed ----------------------------------------------------------------------------------------------------------


@dataclass
class Killed:
    """What became of killed preparations."""

    found: Counter[str] = field(default_factory=Counter)
    ended_first: int = 0
    leftovers: int = 0
    orphans: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """How often a process was killed."""
        return sum(self.found.values())


def quietly(root: Path, settings: Params) -> None:
    """`prepare` in a process of its own."""
    with (root / "log").open("a") as log:
        sys.stdout = sys.stderr = log  # of this process alone
        prepare(root, settings)


def seconds_of(root: Path, settings: Params) -> float:
    """How long an undisturbed run takes in a process."""
    started = time.monotonic()
    process = _CONTEXT.Process(target=quietly, args=(root, settings))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit((root / "log").read_text())
    return time.monotonic() - started


def state(data: Path, digests: Mapping[str, str]) -> str:
    """What a killed run has left for readers: none, a whole output by its name in `digests`, or something else."""
    faces, waiting = data / "faces", data / ".faces.previous"
    if faces.exists():
        return next((name for name, digest in digests.items() if digest == tree_digest(faces)), "half")
    return "none" if not waiting.exists() else "old, set aside" if tree_digest(waiting) == digests["old"] else "half"


def kill_preparations(root: Path, kills: int, seed: int, workers: int = 2) -> tuple[float, Killed]:
    """Kill preparations of `root`, every other one beside an earlier output; seconds of one, and what became."""
    draws, killed = random.Random(seed), Killed()
    data, kept = root / "data", root / "kept"
    old, new = params(seed=1, workers=workers), params(seed=2, workers=workers)
    seconds_of(root, old)  # it waits for imports, which later ones find done
    shutil.copytree(data, kept)
    seconds = seconds_of(root, new)
    digests = {"old": tree_digest(kept / "faces"), "new": tree_digest(data / "faces")}
    if digests["old"] == digests["new"]:
        raise SystemExit("the seed must change the output, or nothing could be told apart")
    while killed.kills < kills:
        shutil.rmtree(data)
        beside_old = killed.kills % 2 == 0
        if beside_old:
            shutil.copytree(kept, data)
        process = _CONTEXT.Process(target=quietly, args=(root, new))
        process.start()
        process.join(draws.random() * seconds)
        if not process.is_alive():
            killed.ended_first += 1
            continue
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.join()
        _, alive = psutil.wait_procs(children, timeout=10)
        killed.orphans += len(alive)
        for orphan in alive:
            orphan.kill()
        found = state(data, digests)
        killed.found[found] += 1
        if found == "half" or (beside_old and found == "none"):
            killed.wrong.append(f"kill {killed.kills}: the output is {found}")
        left = [path.name for path in data.iterdir() if path.name not in ("raw", "faces")] if data.exists() else []
        killed.leftovers += bool(left)
        seconds_of(root, new)
        if tree_digest(data / "faces") != digests["new"]:
            killed.wrong.append(f"kill {killed.kills}: the next run wrote other bytes")
        if sorted(path.name for path in data.iterdir()) != ["faces", "raw"]:
            killed.wrong.append(f"kill {killed.kills}: leftovers {[path.name for path in data.iterdir()]}")
    return seconds, killed


# --- damaged photos --------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What preparation made of a source with some bad photos.

    Attributes:
        kind: what was wrong with them.
        source: zip or folder.
        planted: how many.
        counted: reason -> how many, of `faces.json`.
        listed: how many of those planted are listed under their names, with the reason that was expected.
        detail: of the first one in the list.
        faces: images made.
        wrong: what was not as it should be.
    """

    kind: str
    source: str
    planted: int
    counted: dict[str, int] = field(default_factory=dict)
    listed: int = 0
    detail: str = ""
    faces: int = 0
    wrong: list[str] = field(default_factory=list)


def pictures(faces: Path) -> dict[str, bytes]:
    """SHA-256 of a photo's file -> its pixels."""
    manifest = pd.read_parquet(faces / "manifest.parquet")
    hr = np.load(faces / "hr.npy", mmap_mode="r")
    return {digest: hr[row].tobytes() for row, digest in zip(manifest["row"], manifest["source_sha256"], strict=True)}


def examine(
    root: Path,
    case: Kind | Trick,
    names: list[str],
    source: str,
    planted: int,
    good: Mapping[str, bytes],
    settings: Params,
) -> Found:
    """Prepare a source with bad photos and hold what came out against what should.

    Args:
        root: of the project.
        case: what is wrong with the bad ones.
        names: under which they must be listed.
        source: zip or folder.
        planted: how many there are.
        good: what an undisturbed run makes of all photos, `pictures`.
        settings: of both.
    """
    result, used = Found(case.name, source, planted), isinstance(case, Kind) and case.used
    before = listing(root)
    try:
        faces = prepare(root, settings)
    except Exception as error:  # noqa: BLE001 (nothing at all may come out of here, so anything is told)
        result.wrong.append(f"{type(error).__name__}: {error}")
        return result
    if listing(root) != before:
        result.wrong.append("something was written outside data/")
    facts = pd.read_json(faces / "faces.json", typ="series")
    rejected = pd.read_csv(faces / "rejected.csv", keep_default_na=False)
    converted = pd.read_csv(faces / "converted.csv", keep_default_na=False)
    result.counted = {**facts["rejected"], **facts["dropped"], **facts["converted"]}
    lines = (
        dict(zip(converted["source_file"], converted["converted"], strict=True))
        if used
        else dict(zip(rejected["source_file"], rejected["reason"], strict=True))
    )
    result.listed = sum(lines.get(name) == case.outcome for name in names)
    result.detail = "" if rejected.empty else str(rejected["detail"].iloc[0])
    result.faces = sum(facts["images"].values())
    if result.counted != ({case.outcome: planted} if case.outcome else {}) or result.listed != len(names):
        result.wrong.append(f"counted {result.counted}, listed {lines}")
    made = pictures(faces)
    common = made.keys() & good.keys()
    expected = len(good) - (0 if not case.outcome else planted)
    if len(common) < expected or any(made[digest] != good[digest] for digest in common):
        result.wrong.append(f"{len(common)} of {expected} good photos are as they were")
    return result


def write_source(root: Path, kind: str, photos: Mapping[str, bytes]) -> None:
    """A zip or a folder of photos at the place of the source."""
    clear(root)
    (write_zip if kind == "zip" else write_folder)(root / "source" / SOURCE, photos)


def clear(root: Path) -> None:
    """Remove source and output."""
    for path in (root / "source", root / "data"):
        shutil.rmtree(path, ignore_errors=True)
    (root / "source").mkdir(parents=True)


def plant(
    root: Path, photos: Mapping[str, bytes], settings: Params, share: float = 0.01, seed: int = 0
) -> Iterator[Found]:
    """Each kind and each trick in so many of the photos, in a zip and in a folder; no person gets two."""
    write_source(root, "zip", photos)
    good = pictures(prepare(root, settings))
    firsts = list({name.split("/")[0]: name for name in photos}.values())
    bad = random.Random(seed).sample(firsts, max(1, round(share * len(photos))))
    for source in ("zip", "folder"):
        for kind in KINDS:
            made, names = with_kind(photos, bad, kind)
            write_source(root, source, made)
            yield examine(root, kind, names, source, len(bad), good, settings)
        for trick in ZIP_TRICKS if source == "zip" else FOLDER_TRICKS:
            clear(root)
            names = trick.write(root / "source" / SOURCE, photos, bad)
            yield examine(root, trick, names, source, len(bad), good, settings)


def check(root: Path, settings: Params) -> str:
    """What the data contract says of what was prepared."""
    try:
        check_faces.run(settings, faces=root / "data" / "faces", out=root / "data" / "report", recorder=NullRecorder())
    except GwainetError as error:
        return f"{type(error).__name__}: " + " ".join(str(error).split())
    return "passes"


def at_the_limit(root: Path, photos: Mapping[str, bytes], settings: Params) -> Iterator[list[object]]:
    """Prepare folders with more and more kinds of bad photos at once: found, rejected, and what the contract says."""
    for each, kinds in ((3, KINDS[:1]), (3, KINDS[:5]), (3, KINDS[:6]), (2, KINDS)):
        made, rest = dict(photos), list({name.split("/")[0]: name for name in photos}.values())
        for kind in kinds:
            bad, rest = rest[:each], rest[each:]
            made = with_kind(made, bad, kind)[0]
        write_source(root, "folder", made)
        facts = pd.read_json(prepare(root, settings) / "faces.json", typ="series")
        rejected = sum(facts["rejected"].values())
        yield [len(kinds), facts["found"], rejected, f"{rejected / facts['found']:.1%}", check(root, settings)]


# --- tables ----------------------------------------------------------------------------------------------------------


def table(columns: str, rows: list[list[object]]) -> None:
    """A table in Markdown."""
    print(f"| {columns} |\n|" + "---|" * len(columns.split(" | ")))
    for row in rows:
        print("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |")
    print()


def show_killed(root: Path, photos: Mapping[str, bytes], kills: int, seed: int) -> list[str]:
    """Kill preparations and print the table."""
    many = {name.replace("/", f"/{n}-"): content for name, content in photos.items() for n in range(COPIES)}
    write_source(root, "zip", many)
    seconds, killed = kill_preparations(root, kills, seed)
    rest = killed.leftovers, killed.orphans, len(killed.wrong)
    states = ("none", "old", "old, set aside", "new", "half")
    table(
        "photos | one run, s | kills | output then: none | the old one | the old one, set aside | the new one | half of"
        " one | kills that left a partial folder | worker processes left | next run wrong",
        [[len(many), f"{seconds:.1f}", killed.kills, *(killed.found[name] for name in states), *rest]],
    )
    return killed.wrong


def show_planted(root: Path, photos: Mapping[str, bytes], seed: int) -> list[str]:
    """Damage photos and print the tables."""
    many = 2 * len(KINDS) + len(ZIP_TRICKS) + len(FOLDER_TRICKS)
    found = list(track(plant(root, photos, params(), seed=seed), "damaging", many))
    rows: dict[tuple[object, ...], list[str]] = {}
    for f in found:
        counted = ", ".join(f"{name} {count}" for name, count in f.counted.items()) or "nothing"
        rows.setdefault((f.kind, f.planted, counted, f.listed, f.faces, f.detail, len(f.wrong)), []).append(f.source)
    table(
        f"what | in a | planted | counted | listed | faces, of {len(photos)} | detail of the first | wrong",
        [[kind, ", ".join(sources), *rest] for (kind, *rest), sources in rows.items()],
    )
    table("kinds at once | found | rejected | share | check_faces", list(at_the_limit(root, photos, params())))
    return [f"{f.kind}, {f.source}: {line}" for f in found for line in f.wrong]


def show_full(root: Path, photos: Mapping[str, bytes], tries: int, seed: int) -> list[str]:
    """Fill disks and print the table."""
    try:
        with small_disk(root / "disk", 10**6):
            pass
    except (PermissionError, FileNotFoundError) as error:
        print(f"A full disk was not tried: mounting a small one was refused ({error})\n")
        return []
    write_source(root, "zip", photos)
    prepare(root, params())
    where = {"source": root / "source", "raw": root / "data" / "raw"}
    again = partial(prepare_faces.run, params(), **where, recorder=NullRecorder())
    found = list(fill_disks(root, again, tries, seed))
    table(
        "disk | tries | stopped with a message | wrong | the first message",
        [[f.case, f.tries, f.stopped, len(f.wrong), f.message.replace(str(root), "...")] for f in found],
    )
    return [f"{f.case}: {line}" for f in found for line in f.wrong]


def main(
    kills: Annotated[int, typer.Option(help="Preparations to kill.", min=0)] = 50,
    tries: Annotated[int, typer.Option(help="Full disks of each kind.", min=0)] = 10,
    planted: Annotated[bool, typer.Option(help="Damage photos.")] = True,
    seed: Annotated[int, typer.Option(help="Of moments, photos and sizes.")] = 0,
) -> None:
    """Kill preparations, damage photos and fill disks; print what happened."""
    wrong: list[str] = []
    with TemporaryDirectory(prefix="gwainet-faults-") as directory:
        root, photos = Path(directory), draw()
        if kills:
            wrong += show_killed(root / "killed", photos, kills, seed)
        if planted:
            wrong += show_planted(root / "planted", photos, seed)
        if tries:
            wrong += show_full(root / "full", photos, tries, seed)
    for line in wrong:
        print(line)
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    typer.run(main)
