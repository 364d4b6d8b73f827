"""Damaged photos among good ones: are they counted, listed, skipped, and the others as they were?"""

import json
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from gwainet.errors import GwainetError
from gwainet.params import Params
from gwainet.recorder import NullRecorder
from gwainet.stages import check_faces
from tests.faults.damage import FOLDER_TRICKS, KINDS, ZIP_TRICKS, Kind, Trick, with_kind
from tests.faults.project import SOURCE, clear, prepare, write_source


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
    facts = json.loads((faces / "faces.json").read_text())
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
        text = f"{type(error).__name__}: " + " ".join(str(error).split())
        return "refuses: `few_rejected`" if "few_rejected" in text else text
    return "passes"


def at_the_limit(root: Path, photos: Mapping[str, bytes], settings: Params) -> Iterator[list[object]]:
    """Prepare folders with more and more kinds of bad photos at once: found, rejected, and what the contract says."""
    for each, kinds in ((3, KINDS[:1]), (3, KINDS[:5]), (3, KINDS[:6]), (2, KINDS)):
        made, rest = dict(photos), list({name.split("/")[0]: name for name in photos}.values())
        for kind in kinds:
            bad, rest = rest[:each], rest[each:]
            made = with_kind(made, bad, kind)[0]
        write_source(root, "folder", made)
        facts = json.loads((prepare(root, settings) / "faces.json").read_text())
        rejected = sum(facts["rejected"].values())
        yield [len(kinds), facts["found"], rejected, f"{rejected / facts['found']:.1%}", check(root, settings)]
