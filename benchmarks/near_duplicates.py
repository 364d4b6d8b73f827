"""How well near-duplicates are found, and at what cost: `python -m benchmarks.near_duplicates --faces DIR --pairs CSV`.

Recall is measured on known pairs, further pairs are counted on all of the data. What is flagged beyond the known pairs
is a false alarm only where a person who looks at it says so: `--sheet` writes a picture of those pairs. The cost of the
comparison of splits is measured on hashes as many as CelebA's photos.
"""

import argparse
import resource
import time
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from gwainet import duplicates
from gwainet.dataset import Faces
from gwainet.images import Uint8, grid

LIMITS = (0.8, 0.82, 0.84, 0.85, 0.86, 0.88, 0.9, 0.95)
DISTANCES = (48, 56, 64, 72, 80)
CELEBA = (162_770, 19_867, 19_962)  # photos of its partition: training, validation, test
MEASURED = 20_000  # hashes of the first split that are compared, the time of all is in proportion


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="what prepare_faces wrote")
    parser.add_argument("--pairs", type=Path, help="CSV with columns file_a, file_b: known near-duplicates of a person")
    parser.add_argument("--sheet", type=Path, help="picture to write: flagged pairs that are not known")
    parser.add_argument("--least", type=float, default=0.85, help="correlation for the sheet")
    arguments = parser.parse_args()
    console, faces = Console(), Faces(arguments.faces)
    small, hashes, seconds = _records(faces.hr)
    console.print(f"{len(small):,} crops: small face and hash {1000 * seconds / len(small):.3f} ms each")

    started = time.perf_counter()
    everything = duplicates.alike_within(small, faces.identity, -1.0)
    console.print(f"{len(everything.first):,} pairs of one person: {time.perf_counter() - started:.2f} s")
    known = _known(faces, arguments.pairs)
    is_known = np.array([pair in known for pair in zip(everything.first, everything.second, strict=True)], bool)
    bits = np.bitwise_count(hashes[everything.first] ^ hashes[everything.second]).sum(axis=1)
    table = Table("correlation at least", f"known ({is_known.sum()})", "further pairs of a person")
    for least in LIMITS:
        kept = everything.correlation >= least
        table.add_row(f"{least:g}", f"{(kept & is_known).sum()}", f"{(kept & ~is_known).sum()}")
    console.print(table)
    table = Table("bits of 256 that differ, at most", f"known ({is_known.sum()})", "further pairs of a person")
    for distance in DISTANCES:
        kept = bits <= distance
        table.add_row(f"{distance}", f"{(kept & is_known).sum()}", f"{(kept & ~is_known).sum()}")
    console.print(table)

    split = faces.manifest["split"].to_numpy()
    rows = [np.flatnonzero(split == name) for name in ("train", "validation", "test")]
    for distance, least in ((64, 0.95), (64, 0.85), (80, 0.85)):
        found = [
            duplicates.alike_between(small, hashes, rows[first], rows[second], distance, least)
            for first, second in ((0, 1), (0, 2), (1, 2))
        ]
        count = sum(len(pair.first) for pair in found)
        console.print(f"between splits, hashes within {distance} bits and correlation from {least:g}: {count:,} pairs")
    highest = duplicates.alike_within(small, np.zeros(len(small), np.int64), 0.85)  # everybody as one person
    other = faces.identity[highest.first] != faces.identity[highest.second]
    across = split[highest.first] != split[highest.second]
    for least in (0.85, 0.9, 0.95):
        kept = other & (highest.correlation >= least)
        console.print(
            f"two people, all pairs, no hashes, from {least:g}: {kept.sum()}, between splits {(kept & across).sum()}"
            f"; the highest is {highest.correlation[other].max(initial=0):.3f}"
        )
    _cost(console)
    if arguments.sheet:
        kept = (everything.correlation >= arguments.least) & ~is_known
        order = np.flatnonzero(kept)[np.argsort(-everything.correlation[kept])]
        lines = [[faces.hr[everything.first[i]], faces.hr[everything.second[i]]] for i in order]
        grid(lines).save(arguments.sheet)


def _records(crops: Uint8) -> tuple[Uint8, duplicates.Hashes, float]:
    started = time.perf_counter()
    small = duplicates.small_faces(crops)
    hashes = np.stack([duplicates.perceptual_hash(np.asarray(crop)) for crop in crops])
    return small, hashes, time.perf_counter() - started


def _known(faces: Faces, path: Path | None) -> set[tuple[int, int]]:
    """Rows of the known pairs whose photos were both kept."""
    if path is None:
        return set()
    row = {PurePosixPath(file).name: index for index, file in enumerate(faces.manifest["source_file"])}
    table = pd.read_csv(path)
    pairs = [(row.get(a), row.get(b)) for a, b in zip(table["file_a"], table["file_b"], strict=True)]
    return {(min(a, b), max(a, b)) for a, b in pairs if a is not None and b is not None}


def _cost(console: Console) -> None:
    """Compare random hashes, as many as CelebA has photos."""
    random = np.random.default_rng(0)
    count, (train, validation, test) = sum(CELEBA), CELEBA
    hashes = random.integers(0, 2**64, (count, 4), dtype=np.uint64)
    first, second = np.arange(MEASURED), np.arange(train, count)
    started = time.perf_counter()
    near = sum(len(rows) for rows, _ in duplicates.near_hashes(hashes, first, second, 64))
    seconds = time.perf_counter() - started
    pairs, everything = len(first) * len(second), train * (validation + test) + validation * test
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(
        f"{count:,} hashes, {pairs:,} of {everything:,} pairs compared in {seconds:.1f} s ({near} near): all of them "
        f"{seconds * everything / pairs:.0f} s; most memory of this process {memory:.0f} MiB"
    )


if __name__ == "__main__":
    main()
