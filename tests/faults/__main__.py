"""`python -m tests.faults`: what preparation does when it is killed, when the disk is full, and with damaged photos.

Four tables for docs/reliability.md, made with drawn people:

1. `fetch_faces` and `prepare_faces` run in a process that is killed (SIGKILL) at a moment drawn over its whole length,
   beside an earlier output or none; then they run again.
2. One photo in a hundred is replaced by a damaged or strange one, a kind at a time, in a zip and in a folder.
3. Several kinds at once, up to the share that `check_faces` lets pass and beyond.
4. The disk fills up: a small file system of its own, which only root can mount; and a limit on the size of files.

Nothing heavy is imported here: the processes that prepare photos import this file, as their main one.
"""

import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.progress import track

COPIES = 8  # of each photo while preparations are killed: it must take long enough to be hit


def table(columns: str, rows: list[list[object]]) -> None:
    """A table in Markdown."""
    print(f"| {columns} |\n|" + "---|" * len(columns.split(" | ")))
    for row in rows:
        print("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |")
    print()


def show_killed(root: Path, photos: Mapping[str, bytes], kills: int, seed: int) -> list[str]:
    """Kill preparations and print the table."""
    from tests.faults.killed import kill_preparations
    from tests.faults.project import write_source

    many = {name.replace("/", f"/{n}-"): content for name, content in photos.items() for n in range(COPIES)}
    write_source(root, "zip", many)
    seconds, killed = kill_preparations(root, kills, seed)
    median = f"{statistics.median(killed.resumed):.0f}" if killed.resumed else "-"
    rest = killed.leftovers, len(killed.resumed), median, killed.orphans, len(killed.wrong)
    states = ("none", "old", "old, set aside", "new", "half")
    table(
        "photos | one run, s | kills | output then: none | the old one | the old one, set aside | the new one | half of"
        " one | kills that left a partial folder | next runs that went on with it | photos taken over, median | worker"
        " processes left | next run wrong",
        [[len(many), f"{seconds:.1f}", killed.kills, *(killed.found[name] for name in states), *rest]],
    )
    return killed.wrong


def show_planted(root: Path, photos: Mapping[str, bytes], seed: int) -> list[str]:
    """Damage photos and print the tables."""
    from tests.faults.damage import FOLDER_TRICKS, KINDS, ZIP_TRICKS
    from tests.faults.planted import at_the_limit, plant
    from tests.faults.project import params

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
    from gwainet.recorder import NullRecorder
    from gwainet.stages import prepare_faces
    from tests.faults.full_disk import fill_disks, small_disk
    from tests.faults.project import params, prepare, write_source

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
    from tests.faults.project import draw

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
