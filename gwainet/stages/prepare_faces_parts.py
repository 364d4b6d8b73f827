"""`prepare_faces` in parts, each on a machine of its own, then put together: the same files, byte for byte.

Every part plans all rows, from names alone, and decodes those of its own people: a run of neighbours in the order of
the final rows. So what a rejected photo changes (a pair's guide, people left with too few) stays inside its part, and
putting parts together is copying one after the other. What depends on all rows (fixed guides, means, digest) comes
after that, by the code of the stage itself.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gwainet.errors import DataError
from gwainet.files import file_digest, staged_directory, write_json
from gwainet.images import mapped
from gwainet.params import Params
from gwainet.progress import progress, say
from gwainet.recorder import Recorder
from gwainet.sources import Rejection
from gwainet.sources.landmarks import POINTS, Places
from gwainet.sources.packed import FaceArrays
from gwainet.stages.prepare_faces import (
    LANDMARKS_FILE,
    SMALL,
    Group,
    Made,
    Unused,
    bytes_needed,
    check_space,
    finish,
    landmarks_of,
    listed,
    planned,
    read_source,
    reopened,
    tell,
    written_rows,
)

FORMAT = 3
_FACTS = "part.json"


def write_part(params: Params, part: int, parts: int, *, source: Path, raw: Path, out: Path) -> dict[str, float]:
    """Decode and write the rows of one part (docs/formats.md).

    Args:
        params: as for the stage.
        part: which one, from 0.
        parts: how many there are.
        source: `data/source/<profile>/`, what the user brought.
        raw: what `fetch_faces` wrote.
        out: gets the part.

    Returns:
        Its counts: photos looked at, rows made, photos rejected and dropped.

    Raises:
        SourceError, StorageError, DataError: as for the stage.
    """
    settings = params.prepare_faces
    info = read_source(raw)
    with planned(reopened(info, source, raw), settings) as (store, listing, groups, dropped):
        own = share(groups, part, parts)
        photos = sum(len(group.entries) for group in own)
        with written_rows(params, own, store, raw, out) as (partial, made, done):
            made.rows().to_parquet(partial / "rows.parquet", index=False)
            places = landmarks_of(made, listing.landmarks, settings)
            if places is not None:  # the merge opens no list
                np.save(partial / LANDMARKS_FILE, places)
            facts = {
                "format": FORMAT,
                "part": part,
                "parts": parts,
                "plan": _plan_digest(params, groups),
                "source_digest": file_digest(raw / "source.json"),
                "runs": made.runs,
                "sizes": made.sizes,
                "sums": made.sums.tolist(),
                "converted": made.converted,
                "rejected": _lines(made.rejected),
                "dropped": _lines(made.dropped),
                "landmarks": places is not None,
            }
            if part == 0:  # what no part decodes
                facts["listed"] = {
                    "counts": listed(listing),
                    "rejected": _lines(listing.rejected),
                    "dropped": _lines(dropped),
                }
            write_json(partial / _FACTS, facts)
            done()
    counts = {"photos": photos, "rows": len(made.files), "rejected": len(made.rejected), "dropped": len(made.dropped)}
    say(f"prepare_faces, part {part + 1} of {parts}: " + ", ".join(f"{name} {n:,}" for name, n in counts.items()))
    return {name: float(count) for name, count in counts.items()}


def share(groups: Sequence[Group], part: int, parts: int) -> list[Group]:
    """A part's people: neighbours, with as near as can be an equal share of the photos; nobody is in two parts."""
    sizes = np.array([len(group.entries) for group in groups])
    middle = np.cumsum(sizes) - sizes / 2
    mine = np.flatnonzero(np.minimum(middle * parts // sizes.sum(), parts - 1).astype(int) == part)
    return [groups[index] for index in mine.tolist()]


def merge(params: Params, *, raw: Path, parts: Sequence[Path], out: Path, recorder: Recorder) -> None:
    """Put parts together into what `prepare_faces` alone would have written. Opens no photo.

    Args:
        params: as for the parts.
        raw: what `fetch_faces` wrote.
        parts: what `write_part` wrote, in any order.
        out: `data/<profile>/faces/`.
        recorder: as for the stage.

    Raises:
        DataError: a part is missing or damaged, or of other photos or params; too few usable photos or people for three
            splits; too little space on the disk.
    """
    settings = params.prepare_faces
    info, source_digest = read_source(raw), file_digest(raw / "source.json")
    facts = _in_order({folder: _read(folder) for folder in parts}, source_digest)
    rows = sum(sum(part["sizes"]) for part in facts.values())
    made, needed = Made(), bytes_needed(rows, settings)
    places: list[Places] = []
    with staged_directory(out, needed) as partial:
        check_space(partial, rows, needed)
        with (
            closing(FaceArrays(partial, settings.crop, create=True)) as arrays,
            progress("prepare_faces, merging", len(facts), "parts") as ticker,
        ):
            for folder, part in facts.items():
                table, start = _rows(folder), len(made.files)
                for pictures, name in zip(arrays.all, arrays.NAMES, strict=True):
                    if pictures.append(start, folder / name) != len(table):
                        raise DataError(f"{folder}: {name} and rows.parquet differ in length: prepare this part again")
                if sum(part["sizes"]) != len(table):
                    raise DataError(f"{folder}: {_FACTS} and rows.parquet differ in length: prepare this part again")
                if part["landmarks"]:
                    places.append(_landmarks(folder, len(table)))
                made.append([(split, identity) for split, identity in part["runs"]], part["sizes"], table)
                made.sums += np.array(part["sums"], np.int64)
                made.converted += [(file, what) for file, what in part["converted"]]
                made.rejected += _rejections(part["rejected"])
                made.dropped += _rejections(part["dropped"])
                ticker.advance()
            arrays.finish(len(made.files))
        first = next(iter(facts.values()))["listed"]
        unused = Unused(first["counts"], _rejections(first["rejected"]), _rejections(first["dropped"]))
        together = np.concatenate(places) if places else None
        manifest, told = finish(partial, made, unused, info["source"], source_digest, settings, together)
        (partial / SMALL).unlink()
    tell(params.profile, manifest, told, out, recorder)


def _in_order(facts: dict[Path, dict[str, Any]], source_digest: str) -> dict[Path, dict[str, Any]]:
    """The parts, first to last, checked to be all parts of one plan."""
    ordered = dict(sorted(facts.items(), key=lambda item: int(item[1]["part"])))
    first = next(iter(ordered.values()), None)
    numbers = [part["part"] for part in ordered.values()]
    if first is None or numbers != list(range(first["parts"])):
        expected = f"0 to {first['parts'] - 1}" if first else "some"
        raise DataError(f"the parts of prepare_faces are {numbers}, and {expected} are needed, each once")
    for folder, part in ordered.items():
        if (part["plan"], part["parts"]) != (first["plan"], first["parts"]):
            raise DataError(f"{folder} is a part of other photos or other params than the first: prepare it again")
        if part["source_digest"] != source_digest:
            raise DataError(f"{folder} was made of other photos than fetch_faces describes: prepare all parts again")
    return ordered


def _read(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            raise ValueError(f"of format {facts['format']}, not {FORMAT}")
        needed = (
            "parts",
            "plan",
            "source_digest",
            "runs",
            "sizes",
            "sums",
            "converted",
            "rejected",
            "dropped",
            "landmarks",
        )
        for name in (*needed, *(("listed",) if facts["part"] == 0 else ())):
            facts[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} is no complete part ({error!r}): prepare this part again") from error
    return facts


def _rows(folder: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(folder / "rows.parquet")
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / 'rows.parquet'} cannot be read ({error}): prepare this part again") from error


def _landmarks(folder: Path, count: int) -> Places:
    """Of a part's rows."""
    path = folder / LANDMARKS_FILE
    try:
        places: Places = mapped(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): prepare this part again") from error
    if places.shape != (count, len(POINTS), 2) or places.dtype != np.float32:
        raise DataError(f"{path} holds {places.shape}, {places.dtype}, for {count:,} rows: prepare this part again")
    return places


def _plan_digest(params: Params, groups: Sequence[Group]) -> str:
    """SHA-256 over the settings and all planned rows."""
    digest = hashlib.sha256(params.prepare_faces.model_dump_json().encode())
    for group in groups:
        entries = [(entry.file, entry.is_target, entry.guide) for entry in group.entries]
        digest.update(json.dumps([group.split, group.identity, entries]).encode())
    return digest.hexdigest()


def _lines(rejections: Sequence[Rejection]) -> list[tuple[str, str, str]]:
    return [(line.file, line.reason, line.detail) for line in rejections]


def _rejections(lines: Sequence[tuple[str, str, str]]) -> list[Rejection]:
    return [Rejection(*line) for line in lines]
