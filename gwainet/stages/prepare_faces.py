"""Stage `prepare_faces`: crops, identity filter, splits, low-resolution images, guides and the manifest (Sec. 4.1).

Photos are decoded in the order of the final rows and written as they come, so that memory does not grow with their
number. Which photos are usable is known only then: an identity left with too few is cut off the arrays' end again.

Everything random comes from three generators seeded by (`prepare_faces.seed`, 0), (seed, 1) and (seed, 2): which people
are kept, who is in which split, and which guides are fixed.
"""

import hashlib
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from gwainet.errors import DataError
from gwainet.files import file_digest, say_bytes, staged_directory, write_json
from gwainet.images import grid
from gwainet.params import SCALE, Params, PrepareFaces
from gwainet.progress import progress, say
from gwainet.recorder import Recorder
from gwainet.sources import SPLITS, Listing, Photo, Rejection, reopen
from gwainet.sources.bucket import bring_again
from gwainet.sources.crop import Face, write_faces
from gwainet.sources.packed import PackedPictures, picture_bytes
from gwainet.sources.photo import check_disjoint

_PEOPLE_PER_SPLIT = 2  # another person's guide (GWAnet-R, D9) must come from the same split
_SHEET_FACES = 12
_BYTES_BESIDE = 256  # a face's share of the manifest and the lists, at most: file name, digest, a few numbers

_T = TypeVar("_T")
_Key = tuple[str | None, str]  # split where the source brings it, identity


@dataclass(frozen=True, slots=True)
class _Entry:
    """A photo that is to become a row; `guide` is the pair's own, for sources that bring it."""

    file: str
    is_target: bool
    guide: str | None = None


@dataclass(frozen=True, slots=True)
class _Group:
    """All photos of one person in one split, sorted by file: a run of rows."""

    split: str
    identity: str
    entries: tuple[_Entry, ...]


def run(params: Params, *, source: Path, raw: Path, out: Path, recorder: Recorder) -> None:
    """Write prepared faces (docs/formats.md).

    Args:
        params: section `prepare_faces` shapes the result, `runtime.workers` the time.
        source: `data/source/<profile>/`, what the user brought.
        raw: what `fetch_faces` wrote.
        out: `data/<profile>/faces/`.
        recorder: gets counts, `faces.json`, `rejected.csv`, the data set and a contact sheet.

    Raises:
        SourceError: the source's files are gone or have changed, or a person lies in two splits.
        StorageError: the bucket that they come from refuses, does not answer or has changed.
        DataError: too few usable photos or people for three splits, or too little space on the disk.
    """
    settings = params.prepare_faces
    try:
        info = json.loads((raw / "source.json").read_text(encoding="utf-8"))
        inside_raw = bool(info["inside_raw"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{raw / 'source.json'} cannot be read ({error}): run fetch_faces again") from error
    bring_again(raw, source)
    files = reopen(info, raw if inside_raw else source)
    listing = files.listing()
    groups, dropped = _plan(listing, settings)
    images = sum(len(group.entries) for group in groups)
    needed = _needed(images, settings)
    with staged_directory(out, needed) as partial:  # which has removed what a killed run left, before space is checked
        _check_space(partial, images, needed)
        made = _write(partial, groups, files.images, settings, params.runtime.workers)
        dropped += made.dropped
        rejected = [*listing.rejected, *made.rejected]
        _check_people(Counter(split for split, _ in made.runs), settings, [*rejected, *dropped])
        manifest = made.manifest(settings)
        manifest.to_parquet(partial / "manifest.parquet", index=False)
        facts = {
            "format": 1,
            "source": info["source"],
            "height": settings.crop.height,
            "width": settings.crop.width,
            "scale": SCALE,
            "means": made.means(settings),
            "images": _per_split(manifest["split"]),
            "identities": _per_split(split for split, _ in made.runs),
            "found": listing.found,
            "rejected": _per_reason(rejected),
            "dropped": _per_reason(dropped),
            "converted": dict(sorted(Counter(what for _, what in made.converted).items())),
            "guides": "fixed" if info["source"] == "pairs" else "sampled",
            "digest": faces_digest(manifest, made.pixels),
            "source_digest": file_digest(raw / "source.json"),
        }
        write_json(partial / "faces.json", facts)
        lines = sorted((r.file, r.reason, r.detail) for r in (*rejected, *dropped))
        _write_list(partial / "rejected.csv", lines, ("source_file", "reason", "detail"))
        _write_list(partial / "converted.csv", sorted(made.converted), ("source_file", "converted"))
    recorder.picture("faces", _contact_sheet(out, manifest))
    _report(params.profile, facts, out, recorder)


def _write_list(path: Path, lines: Sequence[tuple[str, ...]], columns: Sequence[str]) -> None:
    pd.DataFrame(lines, columns=list(columns)).to_csv(path, index=False, lineterminator="\n")


def faces_digest(manifest: pd.DataFrame, pixels: Sequence[str]) -> str:
    """SHA-256 over the manifest's content and both arrays.

    Args:
        manifest: as written, columns included.
        pixels: `gwainet.sources.crop.pixel_digest` of each row.
    """
    digest = hashlib.sha256(json.dumps(list(manifest.columns)).encode())
    columns = [manifest[name].tolist() for name in manifest.columns]
    for *values, pixel in zip(*columns, pixels, strict=True):
        digest.update(f"\n{json.dumps(values)} {pixel}".encode())
    return digest.hexdigest()


# --- who is kept, and in which split ---------------------------------------------------------------------------------


def _plan(listing: Listing, settings: PrepareFaces) -> tuple[list[_Group], list[Rejection]]:
    """Choose people and splits before any photo is opened.

    1. People with fewer than `min_images` listed photos (in a split, where the source brings splits) are dropped (D1).
    2. `max_identities` of the rest are drawn; where the source brings splits, two of each split, then in proportion.
    3. Where the source brings no split, people (or pairs, D11) are drawn into test and validation by their shares, two
       at least, and the rest is the training split.
    """
    units: dict[_Key, list[Photo]] = defaultdict(list)
    for photo in listing.photos:
        units[photo.split, photo.identity].append(photo)
    by_image = settings.split_pairs_by == "image" and any(photo.guide for photo in listing.photos)
    if not by_image:
        remedy = "correct its list (for pairs, prepare_faces.split_pairs_by=image accepts it, as the paper's way does)"
        check_disjoint(listing.photos, "the source", remedy)
        if settings.max_identities is not None and settings.max_identities < _PEOPLE_PER_SPLIT * len(SPLITS):
            raise DataError(
                f"prepare_faces.max_identities is {settings.max_identities}; {_PEOPLE_PER_SPLIT * len(SPLITS)} are the "
                "fewest: two people in each split"
            )
    kept, dropped = {}, []
    for key, photos in sorted(units.items(), key=lambda unit: (unit[0][0] or "", unit[0][1])):
        files = _files(photos)
        if len(files) >= settings.min_images:
            kept[key] = photos
        else:
            dropped += [_too_few(file, len(files), settings) for file in files]
    chosen = _limit(list(kept), settings)
    for key in kept.keys() - chosen:
        detail = f"{settings.max_identities} people are kept"
        dropped += [Rejection(file, "over max_identities", detail) for file in _files(kept[key])]
    kept = {key: photos for key, photos in kept.items() if key in chosen}
    if any(split is None for split, _ in kept):
        kept = _draw_splits(kept, settings, by_image)
    _check_people(Counter(str(split) for split, _ in kept), settings, [*listing.rejected, *dropped])
    groups = [_Group(str(split), identity, _entries(photos)) for (split, identity), photos in kept.items()]
    return sorted(groups, key=lambda group: (SPLITS.index(group.split), group.identity)), dropped


def _files(photos: Iterable[Photo]) -> list[str]:
    """All files of photos, guides included, each once."""
    return list(dict.fromkeys(file for photo in photos for file in (photo.file, photo.guide) if file is not None))


def _entries(photos: Iterable[Photo]) -> tuple[_Entry, ...]:
    entries = {photo.guide: _Entry(photo.guide, False) for photo in photos if photo.guide is not None}
    entries |= {photo.file: _Entry(photo.file, True, photo.guide) for photo in photos}
    return tuple(entries[file] for file in sorted(entries))


def _too_few(file: str, count: int, settings: PrepareFaces) -> Rejection:
    return Rejection(file, "too few images", f"{count} of the identity in its split, {settings.min_images} are needed")


def _limit(keys: list[_Key], settings: PrepareFaces) -> set[_Key]:
    """Draw `max_identities` of them, generator (seed, 0)."""
    if settings.max_identities is None or settings.max_identities >= len(keys):
        return set(keys)
    random = np.random.default_rng((settings.seed, 0))
    by_split: dict[str | None, list[_Key]] = defaultdict(list)
    for key in keys:
        by_split[key[0]].append(key)
    least = {s: min(len(of), _PEOPLE_PER_SPLIT) if s is not None else 0 for s, of in by_split.items()}
    spare = max(settings.max_identities - sum(least.values()), 0)
    rest = {split: len(of) - least[split] for split, of in by_split.items()}
    exact = {split: spare * count / max(sum(rest.values()), 1) for split, count in rest.items()}
    count = {split: least[split] + int(exact[split]) for split in by_split}
    # largest remainders first, so that the counts add up
    ordered = sorted(by_split, key=lambda split: (int(exact[split]) - exact[split], split or ""))
    for split in ordered[: spare - sum(int(value) for value in exact.values())]:
        count[split] += 1
    return {key for split, of in by_split.items() for key in _shuffled(of, random)[: count[split]]}


def _draw_splits(kept: Mapping[_Key, list[Photo]], settings: PrepareFaces, by_image: bool) -> dict[_Key, list[Photo]]:
    """Draw splits of people, or of single pairs (D11), generator (seed, 1)."""
    random = np.random.default_rng((settings.seed, 1))
    if by_image:
        units = [(identity, [photo]) for (_, identity), photos in kept.items() for photo in photos]
    else:
        units = [(identity, photos) for (_, identity), photos in kept.items()]
    counts = {
        split: max(round(share * len(units)), _PEOPLE_PER_SPLIT) if share else 0
        for split, share in (("test", settings.test), ("validation", settings.validation))
    }
    fewest = sum(counts.values()) + _PEOPLE_PER_SPLIT
    if len(units) < fewest:
        what = "pairs" if by_image else f"people with {settings.min_images} photos or more"
        raise DataError(
            f"too few {what}: {len(units)}, and {fewest} are the fewest for training, validation and test. Another "
            "person's guide (GWAnet-R) needs two people in each split"
        )
    order = _shuffled(units, random)
    drawn: dict[_Key, list[Photo]] = defaultdict(list)
    for split in ("test", "validation", "train"):
        count = counts.get(split, len(order))
        for identity, photos in order[:count]:
            drawn[split, identity] += photos
        order = order[count:]
    return drawn


def _shuffled(values: Sequence[_T], random: np.random.Generator) -> list[_T]:
    """In random order; by sorting plain uniform numbers, whose stream NumPy keeps the same over its versions."""
    return [values[index] for index in np.argsort(random.random(len(values)), kind="stable")]


def _check_people(people: Mapping[str, int], settings: PrepareFaces, unusable: Sequence[Rejection]) -> None:
    """Stop where a split has too few people to go on with; say what became of the photos."""
    short = [split for split in SPLITS if people.get(split, 0) < _PEOPLE_PER_SPLIT]
    if not short:
        return
    counts = ", ".join(f"{split} {people.get(split, 0)}" for split in SPLITS)
    lines = [
        f"too few people with {settings.min_images} usable photos or more: {counts}. Each split needs two, since "
        "another person's guide (GWAnet-R) comes from the same split."
    ]
    for split in short:
        if getattr(settings, split, None) == 0:
            lines.append(f"prepare_faces.{split} is 0: give it a share of the people.")
    for reason, count in _per_reason(unusable).items():
        example = next(line for line in unusable if line.reason == reason)
        lines.append(f"  {reason}: {count:,} photos, such as {example.file} ({example.detail})")
    raise DataError("\n".join(lines))


def _needed(images: int, settings: PrepareFaces) -> int:
    """Bytes on the disk: pictures, and for each a row of the manifest and a line of a list."""
    pictures = images * (picture_bytes(settings.crop.height, settings.crop.width) * (SCALE**2 + 1)) // SCALE**2
    return pictures + images * _BYTES_BESIDE


def _check_space(directory: Path, images: int, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise DataError(
            f"{directory.parent} has {say_bytes(free)} free; {images:,} faces need {say_bytes(needed)}: make room, or "
            "set prepare_faces.max_identities. Nothing was written"
        )


# --- decoding and writing --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """A written face: its photo, and the row where it lies until its person is complete."""

    entry: _Entry
    place: int
    face: Face


class _Made:
    """The rows written, and what became of the other photos.

    Attributes:
        runs: (split, identity) of each run of rows.
        sizes: rows of each run.
        files: of each row.
        guides: the pair's own guide's row, -1 where there is none.
        is_target: of each row.
        pixels: digest of each row.
        sums: of the training split, as `Face.sums`.
    """

    def __init__(self) -> None:
        self.runs: list[tuple[str, str]] = []
        self.sizes: list[int] = []
        self.guides: list[int] = []
        self.is_target: list[bool] = []
        self.pixels: list[str] = []
        self.rejected: list[Rejection] = []
        self.dropped: list[Rejection] = []
        self.converted: list[tuple[str, str]] = []
        self.sums = np.zeros((2, 3), np.int64)
        self._photos: list[tuple[str, str, int, int]] = []

    def add(self, group: _Group, rows: Sequence[_Row], targets: frozenset[str]) -> None:
        """Take a person's final rows."""
        place = {row.entry.file: len(self.pixels) + index for index, row in enumerate(rows)}
        for row in rows:
            is_target = row.entry.file in targets
            self.guides.append(place[row.entry.guide] if is_target and row.entry.guide is not None else -1)
            self.is_target.append(is_target)
            photo = row.face.photo
            self.pixels.append(row.face.pixels)
            self._photos.append((row.entry.file, photo.sha256, photo.height, photo.width))
            if photo.converted_from is not None:
                self.converted.append((row.entry.file, photo.converted_from))
            if group.split == "train":
                self.sums += np.array(row.face.sums)
        self.runs.append((group.split, group.identity))
        self.sizes.append(len(rows))

    def means(self, settings: PrepareFaces) -> dict[str, list[float]]:
        """Means of the training split in [0, 1] (D6), from sums of integers: exact, whatever the order."""
        images = sum(size for (split, _), size in zip(self.runs, self.sizes, strict=True) if split == "train")
        pixels = settings.crop.height * settings.crop.width * images
        lr, hr = self.sums.tolist()
        return {"lr": [s * SCALE**2 / (255 * pixels) for s in lr], "hr": [s / (255 * pixels) for s in hr]}

    def manifest(self, settings: PrepareFaces) -> pd.DataFrame:
        """One row an image, with the fixed guides."""
        run = np.repeat(np.arange(len(self.runs)), self.sizes)
        guide, other = self._fixed_guides(run, settings)
        files, digests, heights, widths = zip(*self._photos, strict=True)
        return pd.DataFrame(
            {
                "row": np.arange(len(run), dtype=np.int64),
                "identity": [self.runs[index][1] for index in run],
                "identity_index": run.astype(np.int64),
                "split": [self.runs[index][0] for index in run],
                "source_file": files,
                "source_sha256": digests,
                "source_height": np.array(heights, np.int64),
                "source_width": np.array(widths, np.int64),
                "is_target": np.array(self.is_target, np.bool_),
                "guide_row": guide,
                "other_guide_row": other,
            }
        )

    def _fixed_guides(
        self, run: npt.NDArray[np.intp], settings: PrepareFaces
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Rows of the fixed guides (D8) and of another person's (D9), generator (seed, 2), three numbers a row.

        The guide is the pair's own, or uniformly another row of the run. The other person is drawn uniformly from the
        split's others, then uniformly one of that person's images (of a pair's guides, where the source is `pairs`).
        """
        uniform = np.random.default_rng((settings.seed, 2)).random((len(run), 3))
        sizes = np.array(self.sizes)
        first = np.cumsum(sizes) - sizes
        rows = np.arange(len(run))
        own = np.array(self.guides, np.int64)
        is_target = np.array(self.is_target)
        fixed = own.max() >= 0
        if fixed:
            guide = own
            candidates = np.unique(own[own >= 0])
        else:
            size, start = sizes[run], first[run]
            guide = start + (rows - start + 1 + (uniform[:, 0] * (size - 1)).astype(np.int64)) % size
            candidates = rows
        per_run = np.bincount(run[candidates], minlength=len(sizes))
        first_candidate = np.cumsum(per_run) - per_run
        splits = np.array([SPLITS.index(split) for split, _ in self.runs])
        people = np.bincount(splits, minlength=len(SPLITS))
        first_run = (np.cumsum(people) - people)[splits[run]]
        person = (uniform[:, 1] * (people[splits[run]] - 1)).astype(np.int64)
        person += first_run + (person >= run - first_run)  # skips the row's own person
        image = (uniform[:, 2] * per_run[person]).astype(np.int64)
        other = candidates[first_candidate[person] + image]
        return np.where(is_target, guide, -1).astype(np.int64), np.where(is_target, other, -1).astype(np.int64)


def _write(directory: Path, groups: Sequence[_Group], images: Path, settings: PrepareFaces, workers: int) -> _Made:
    """Decode all photos and write `hr.npy` and `lr.npy`.

    Each listed photo has a row; where some cannot be used, the rows of later people move up.
    """
    made = _Made()
    box = settings.crop
    files = [entry.file for group in groups for entry in group.entries]
    with (
        closing(PackedPictures(directory / "hr.npy", box.height, box.width, create=True)) as hr,
        closing(PackedPictures(directory / "lr.npy", box.height // SCALE, box.width // SCALE, create=True)) as lr,
        closing(write_faces(images, files, box, workers, directory / "hr.npy", directory / "lr.npy")) as results,
        progress("prepare_faces", len(files), "photos") as ticker,
    ):
        faces = enumerate(results)
        for group in groups:
            rows: list[_Row] = []
            for entry, (place, face) in zip(group.entries, faces, strict=False):  # `faces` goes on to the next group
                ticker.advance()
                if isinstance(face, Rejection):
                    made.rejected.append(face)
                else:
                    rows.append(_Row(entry, place, face))
            kept, targets = _usable(rows, settings, made)
            rows = [row for row in rows if row.entry.file in kept]
            if rows:
                places, start = [row.place for row in rows], len(made.pixels)
                hr.move(places, start)
                lr.move(places, start)
                made.add(group, rows, targets)
        hr.finish(len(made.pixels))
        lr.finish(len(made.pixels))
    return made


def _usable(rows: Sequence[_Row], settings: PrepareFaces, made: _Made) -> tuple[frozenset[str], frozenset[str]]:
    """Files of a person's rows to keep, and those of them that are targets; the others go to `made`."""
    digests = {row.entry.file: row.face.photo.sha256 for row in rows}
    targets, wanted = set(), set()
    for row in rows:
        file, guide = row.entry.file, row.entry.guide
        if not row.entry.is_target:
            continue
        if guide is not None and digests.get(guide) == row.face.photo.sha256:
            made.rejected.append(Rejection(file, "guide is the target", f"{guide} is the same file under another name"))
        elif guide is None or guide in digests:
            targets.add(file)
            wanted |= {file} if guide is None else {file, guide}
        else:
            made.dropped.append(Rejection(file, "no usable guide", f"its guide {guide} was rejected"))
    for row in rows:
        if not row.entry.is_target and row.entry.file not in wanted:
            made.dropped.append(Rejection(row.entry.file, "no usable target", "guide of no usable photo"))
    if len(wanted) < settings.min_images:
        made.dropped += [_too_few(file, len(wanted), settings) for file in sorted(wanted)]
        return frozenset(), frozenset()
    return frozenset(wanted), frozenset(targets)


# --- what is told ----------------------------------------------------------------------------------------------------


def _per_split(splits: Iterable[str]) -> dict[str, int]:
    counts = Counter(splits)
    return {split: counts[split] for split in SPLITS}


def _per_reason(lines: Iterable[Rejection]) -> dict[str, int]:
    return dict(sorted(Counter(line.reason for line in lines).items()))


def _contact_sheet(directory: Path, manifest: pd.DataFrame) -> Image.Image:
    """A dozen faces from all splits, each with its low-resolution image and its guide."""
    hr = np.load(directory / "hr.npy", mmap_mode="r")
    lr = np.load(directory / "lr.npy", mmap_mode="r")
    targets = manifest[manifest["is_target"]]
    chosen = targets.iloc[np.unique(np.linspace(0, len(targets) - 1, _SHEET_FACES).astype(int))]
    faces = [[hr[row], lr[row], hr[guide]] for row, guide in zip(chosen["row"], chosen["guide_row"], strict=True)]
    lines = [list(chain(*faces[start : start + 2])) for start in range(0, len(faces), 2)]
    return grid(lines, ("face", "input", "guide") * min(2, len(faces)))


def _report(profile: str, facts: Mapping[str, Any], out: Path, recorder: Recorder) -> None:
    numbers: dict[str, float] = {"found": facts["found"]}
    for group in ("images", "identities", "rejected", "dropped", "converted"):
        numbers |= {f"{group}.{name.replace(' ', '_')}": count for name, count in facts[group].items()}
    recorder.metrics(numbers)
    recorder.artifact(out / "faces.json")
    recorder.artifact(out / "rejected.csv")
    summary = {key: facts[key] for key in ("source", "height", "width", "images", "identities", "means")}
    recorder.dataset(profile, facts["digest"], summary, context="prepared")
    counts = ", ".join(
        f"{split} {facts['images'][split]:,} of {facts['identities'][split]:,} people" for split in SPLITS
    )
    say(f"prepare_faces: {counts}")
    for group, file in (("rejected", "rejected.csv"), ("dropped", "rejected.csv"), ("converted", "converted.csv")):
        if facts[group]:
            counts = ", ".join(f"{reason} {count:,}" for reason, count in facts[group].items())
            say(f"{group}: {counts}; each is listed in {out / file}")
