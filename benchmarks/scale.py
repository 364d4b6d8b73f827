"""`python -m benchmarks.scale`: lists, manifest and its checks at sizes up to 10 million photos, without any pixels.

What runs is the code of the stages: reading lists, planning splits, sorting out rows, fixed guides, digest, opening for
training, tables and expectations of the contract. What a photo would have given (a digest, its size, sums of its
colours) is made up. The two arrays are files of the right length with nothing in them: a disk stores none of it.

People have 2 to 35 photos, 20 in the mean, which lie apart in the list, as CelebA's do. Preparation and checks of
each size run in processes of their own; of each step the CPU seconds and the process's peak of memory are printed.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from gwainet.collector import uncollected
from gwainet.sources.packed import FaceArrays
from gwainet.sources.photo import Rejection
from gwainet.sources.store import FolderStore, ZipStore

SIZES = (100_000, 1_000_000, 10_000_000)
ZIPPED = 1_000_000  # above it no zip is made: its table of contents is timed up to there
HEIGHT, WIDTH, SCALE = 168, 144, 8
_FOLDER = "img_align_celeba"
_GREY = 128  # of every pixel, as the sums say


class Steps:
    """Seconds and peak of memory of each step."""

    def __init__(self) -> None:
        self.measured: list[tuple[str, float, float]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure what the block does."""
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = time.process_time()
        yield
        seconds = time.process_time() - before
        self.measured.append((name, seconds, _memory("VmHWM")))
        print(f"{name}: {seconds:.1f} s, {self.measured[-1][2]:.2f} GB", file=sys.stderr, flush=True)


def _memory(field: str) -> float:
    """GB, as the kernel counts them."""
    match = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024 / 1e9


def _lists(photos: int) -> tuple[str, str]:
    """CelebA's two lists: photos of one person lie apart, splits are 80, 10 and 10 % of the people."""
    random = np.random.default_rng(0)
    sizes = random.integers(2, 36, photos // 18)
    sizes = sizes[: int(np.searchsorted(np.cumsum(sizes), photos - 1))]
    left = photos - int(sizes.sum())
    sizes = np.append(sizes, left) if left > 1 else np.append(sizes[:-1], sizes[-1] + left)
    owners = random.permutation(np.repeat(np.arange(1, len(sizes) + 1), sizes))
    parts = np.array(list("0000000012"))[np.arange(len(sizes) + 1) % 10]
    names = [f"{number:08}.jpg" for number in range(1, photos + 1)]
    identities = "".join(f"{name} {owner}\n" for name, owner in zip(names, owners.tolist(), strict=True))
    partition = "".join(f"{name} {part}\n" for name, part in zip(names, parts[owners].tolist(), strict=True))
    return identities, partition


class _Contents(FolderStore):
    """The names in a folder or zip, without the folder or zip."""

    def __init__(self, names: Iterator[str]) -> None:
        super().__init__(Path("photos"))
        self._names = dict.fromkeys(names, 1)

    def files(self) -> dict[str, int]:
        """Name -> bytes."""
        return self._names

    def refused(self) -> list[Rejection]:
        """None: there are no files to look at."""
        return []


def prepare(photos: int, folder: Path) -> dict[str, object]:
    """From lists to the manifest of prepared faces, in this process."""
    from gwainet.params import check_params
    from gwainet.sources import celeba
    from gwainet.sources.crop import Cropped, Face
    from gwainet.stages import prepare_faces
    from gwainet.stages.prepare_faces import Group, Unused, collect, finish, listed, plan

    settings = check_params({"profile": "scale"}).prepare_faces
    steps = Steps()
    sums = [_GREY * HEIGHT * WIDTH // SCALE**2] * 3, [_GREY * HEIGHT * WIDTH] * 3
    # what looks at faces is measured by the photo, where there are some: here no two are alike
    vars(prepare_faces)["guides_apart"] = lambda manifest, crops, least: manifest

    def made_up(groups: list[Group]) -> Iterator[Face]:
        for group in groups:
            for entry in group.entries:
                digest = hashlib.sha256(entry.file.encode()).hexdigest()
                yield Face(Cropped(digest, 218, 178, None), digest[:24], sums)

    if photos <= ZIPPED:
        archive = folder / "photos.zip"
        with zipfile.ZipFile(archive, "w") as zipped:
            for number in range(1, photos + 1):
                zipped.writestr(zipfile.ZipInfo(f"{_FOLDER}/{number:08}.jpg"), b"")
        del zipped
        with steps.step("zip's table of contents"):
            store = ZipStore(archive)
            files = store.files()
            places = store.places(list(files))
        store.close()
        del store, files, places
    identities, partition = _lists(photos)
    contents = _Contents(f"{_FOLDER}/{number:08}.jpg" for number in range(1, photos + 1))
    with steps.step("lists read and joined"), uncollected():  # as the stage does
        listing = celeba.list_photos(contents, (Path("ids"), identities), (Path("parts"), partition))
    del identities, partition, contents
    with steps.step("people, splits, order"), uncollected():
        groups, dropped = plan(listing, settings)
        counts = listed(listing)
    del listing
    with steps.step("rows sorted out"):
        made = collect(groups, made_up(groups), settings, lambda places: None)
    del groups
    rows, people = len(made.files), len(made.runs)
    with closing(FaceArrays(folder, settings.crop, create=True)) as arrays:
        arrays.finish(rows)
    with steps.step("guides, manifest, digest"):
        finish(folder, made, Unused(counts, [], dropped), "celeba", "0" * 64, settings)
    size = (folder / "manifest.parquet").stat().st_size
    return {"photos": photos, "rows": rows, "people": people, "manifest": size, "steps": steps.measured}


def check(folder: Path) -> dict[str, object]:
    """Open prepared faces as trainings do, and hold the contract on them, in this process.

    Raises:
        RuntimeError: an expectation of the contract does not hold.
    """
    steps = Steps()
    with steps.step("imports"):
        from gwainet import contract_tables, duplicates, quality
        from gwainet.dataset import Faces, another_person
        from gwainet.measured import Pixels, open_prepared
        from gwainet.params import check_params

    params = check_params({"profile": "scale", "fetch_faces": {"source": "celeba"}})
    duplicates.correlations = lambda faces, first, second: np.zeros(len(first), np.float32)  # as `prepare` says
    with steps.step("opened for training"):
        faces = Faces(folder)
        train = faces.targets("train")
        some = train[:1000]
        word = np.random.default_rng(0).integers(0, 2**32, len(some), np.int64)
        another_person(faces.first_row[some], faces.identity_size[some], (0, faces.info["images"]["train"]), word)
    rows = len(faces.identity)
    del faces, train, some, word
    rules = quality.contract(params.check_faces, params.prepare_faces.near_duplicate_of("celeba"))
    rules = [rule for rule in rules if rule.name != "no_near_duplicate_across_splits"]  # no pixels, no hashes
    with steps.step("contract: opened, structure"):
        prepared = open_prepared(folder)
        outcomes = quality.validate(contract_tables.structure(prepared), rules)
    one = Pixels.empty(1)
    pixels = Pixels(
        np.full(rows, _GREY),
        np.full((rows, 3), _GREY * HEIGHT * WIDTH),
        np.full((rows, 3), _GREY * HEIGHT * WIDTH // SCALE**2),
        np.broadcast_to(one.statistics, (rows, *one.statistics.shape[1:])),
        np.broadcast_to(one.faces, (rows, *one.faces.shape[1:])),
        np.broadcast_to(one.hashes, (rows, *one.hashes.shape[1:])),
    )
    with steps.step("contract: tables"):
        tables = contract_tables.tables_of(prepared, pixels, params, across=False)
    with steps.step("contract: expectations"):
        checked = quality.validate(tables, rules)
    held = {outcome.rule.name for outcome in (*outcomes, *checked) if outcome.state == "held"}
    failed = sorted({rule.name for rule in rules} - held)
    if failed:
        raise RuntimeError(f"the contract does not hold: {failed}")
    return {"steps": steps.measured}


def main() -> None:
    """Measure each size, preparation and checks in a process of their own, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=list(SIZES), help="photos (default: 0.1, 1, 10 million)")
    parser.add_argument("--phase", choices=["prepare", "check"], help="of one size, in this process; prints JSON")
    parser.add_argument("--folder", type=Path, help="where that phase works")
    options = parser.parse_args()
    if options.phase:
        done = prepare(options.sizes[0], options.folder) if options.phase == "prepare" else check(options.folder)
        print(json.dumps(done))
        return
    measured = []
    for size in options.sizes:
        with TemporaryDirectory(prefix="gwainet-scale-") as folder:
            first, second = (_phase(size, phase, folder) for phase in ("prepare", "check"))
        measured.append({**first, "steps": [*first["steps"], *second["steps"]]})
    console = Console(width=150)
    console.print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    console.print(_table(measured))
    for each in measured:
        bytes_a_row = each["manifest"] / each["rows"]
        console.print(
            f"{each['photos']:,} photos: {each['rows']:,} rows of {each['people']:,} people, "
            f"manifest {each['manifest'] / 1e6:,.0f} MB, {bytes_a_row:.0f} bytes a row"
        )


def _phase(size: int, phase: str, folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale", str(size), "--phase", phase, "--folder", folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _table(measured: list[dict[str, Any]]) -> Table:
    """A line a step, two columns a size."""
    shown = Table("step")
    found: list[Mapping[str, tuple[float, float]]] = []
    for each in measured:
        shown.add_column(f"{each['photos']:,} photos, CPU s", justify="right")
        shown.add_column("peak GB", justify="right")
        found.append({name: (seconds, memory) for name, seconds, memory in each["steps"]})
    for name in dict.fromkeys(name for steps in found for name in steps):
        pairs = [(f"{steps[name][0]:.1f}", f"{steps[name][1]:.2f}") if name in steps else ("", "") for steps in found]
        shown.add_row(name, *(cell for pair in pairs for cell in pair))
    return shown


if __name__ == "__main__":
    main()
