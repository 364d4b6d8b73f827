"""Stage `prepare_faces`: crops, identity filter, splits, low-resolution images, guides and the manifest (Sec. 4.1).

Photos are decoded in the order of the final rows and written as they come, so that memory does not grow with their
number. Which photos are usable is known only then: an identity left with too few is cut off the arrays' end again.

Everything random comes from three generators seeded by (`prepare_faces.seed`, 0), (seed, 1) and (seed, 2): which people
are kept, who is in which split, and which guides are fixed.
"""

import hashlib
import itertools
import json
import shutil
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import PIL
from PIL import Image

import gwainet
from gwainet import compiled
from gwainet.collector import frozen, uncollected
from gwainet.duplicates import SIDE, guides_apart
from gwainet.errors import DataError
from gwainet.files import Resumed, code_digest, file_digest, say_bytes, staged_directory, write_json
from gwainet.images import grid, mapped
from gwainet.params import SCALE, Crop, Params, PrepareFaces
from gwainet.progress import progress, say
from gwainet.recorder import Recorder
from gwainet.sources import SPLITS, Files, Listing, Photo, Rejection, Store, jpeg, open_store, reopen
from gwainet.sources.bucket import bring_again
from gwainet.sources.crop import UNREAD, Again, Face, write_faces
from gwainet.sources.journal import Journal
from gwainet.sources.landmarks import Landmarks, Places
from gwainet.sources.packed import FaceArrays, picture_bytes
from gwainet.sources.photo import check_disjoint

SMALL = FaceArrays.NAMES[2]
LANDMARKS_FILE = "landmarks.npy"
_PEOPLE_PER_SPLIT = 2  # another person's guide (GWAnet-R, D9) must come from the same split
_SHEET_FACES = 12
_CHUNK = 1 << 16  # rows that are Python's objects at a time
_NOTED = 64  # photos that become a line of the journal: as many as a process is asked for
_BYTES_BESIDE = 512  # a face's share of manifest, lists and journal, at most: file name, digest, a few numbers

_SHA256, _CHECKSUM = 32, 12  # bytes of a photo's digest, of `pixel_digest`

_T = TypeVar("_T")
_Key = tuple[str | None, str]  # split where the source brings it, identity


@dataclass(frozen=True, slots=True)
class Entry:
    """A photo that is to become a row; `guide` is the pair's own, for sources that bring it."""

    file: str
    is_target: bool
    guide: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """All photos of one person in one split, sorted by file: a run of rows."""

    split: str
    identity: str
    entries: tuple[Entry, ...]


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
    info = read_source(raw)
    with (
        planned(reopened(info, source, raw), settings) as (store, listing, groups, dropped),
        written_rows(params, groups, store, raw, out) as (partial, made, done),
    ):
        unused = Unused(listed(listing), list(listing.rejected), dropped)
        digest, places = file_digest(raw / "source.json"), landmarks_of(made, listing.landmarks, settings)
        manifest, facts = finish(partial, made, unused, info["source"], digest, settings, places)
        done()
        (partial / SMALL).unlink()
    tell(params.profile, manifest, facts, out, recorder)


@contextmanager
def planned(files: Files, settings: PrepareFaces) -> Iterator[tuple[Store, Listing, list[Group], list[Rejection]]]:
    """Open the photos, list them and make the plan.

    Yields:
        the photos, opened, what is listed, and what `plan` gives.

    Raises:
        SourceError, DataError: as for the stage.
    """
    with closing(open_store(files.images)) as store:
        with uncollected():
            listing = files.listing(store)
            groups, dropped = plan(listing, settings)
        yield store, listing, groups, dropped


@contextmanager
def written_rows(
    params: Params, groups: Sequence[Group], store: Store, raw: Path, out: Path
) -> Iterator[tuple[Path, "Made", Callable[[], None]]]:
    """Write rows beside `out`, or go on where a killed run stopped; what the block adds moves there with them.

    Yields:
        the directory beside, what was made, and what to call when all is done but the move.

    Raises:
        DataError: too little space on the disk, or another run is at work there.
    """
    settings, photos = params.prepare_faces, sum(len(group.entries) for group in groups)
    needed, resumed = bytes_needed(photos, settings), Resumed()
    with staged_directory(out, needed, resumed) as partial:
        journal = begin(partial, settings.crop, fingerprint(params, store.path, groups, raw), photos, needed)
        resumed.begun = True
        made = write_rows(partial, groups, store, settings, params.runtime.workers, journal)
        yield partial, made, journal.forget


def read_source(raw: Path) -> dict[str, Any]:
    """What `fetch_faces` found, from `raw/source.json`.

    Raises:
        DataError: it cannot be read.
    """
    try:
        info: dict[str, Any] = json.loads((raw / "source.json").read_text(encoding="utf-8"))
        info["inside_raw"], info["source"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{raw / 'source.json'} cannot be read ({error}): run fetch_faces again") from error
    return info


def reopened(info: Mapping[str, Any], source: Path, raw: Path) -> Files:
    """The source's files, brought from their bucket if need be, and checked to be the same still.

    Raises:
        SourceError: one is gone or has changed.
        StorageError: the bucket that they come from refuses, does not answer or has changed.
    """
    bring_again(raw, source)
    return reopen(info, raw if info["inside_raw"] else source)


@dataclass(frozen=True)
class Unused:
    """What the source lists beside the rows.

    Attributes:
        listed: what its lists hold, as `listed` counts it.
        rejected: photos that cannot be used whatever their pixels are.
        dropped: photos of people that were not planned for.
    """

    listed: dict[str, Any]
    rejected: list[Rejection]
    dropped: list[Rejection]


def landmarks_of(made: "Made", landmarks: Landmarks | None, settings: PrepareFaces) -> Places | None:
    """Where the landmarks of all rows lie in their crops; None where the source brings none."""
    if landmarks is None:
        return None
    turned = {file for file, what in made.converted if "turned" in what}  # a list knows nothing of EXIF
    return landmarks.in_crops(made.files, settings.crop, turned)


def finish(
    directory: Path,
    made: "Made",
    unused: Unused,
    source: str,
    source_digest: str,
    settings: PrepareFaces,
    landmarks: Places | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Write what is left to write when both arrays are there: manifest, `faces.json`, `rejected.csv`, `converted.csv`.

    Where there are `landmarks`, `landmarks.npy` too; where there are none, no byte tells that there could be.

    Raises:
        DataError: too few usable photos or people for three splits.
    """
    rejected, dropped = [*unused.rejected, *made.rejected], [*unused.dropped, *made.dropped]
    _check_people(Counter(split for split, _ in made.runs), settings, [*rejected, *dropped])
    manifest = made.manifest(settings)
    if source != "pairs":  # whose guides are its own
        small = mapped(directory / SMALL)
        manifest = guides_apart(manifest, small, settings.near_duplicate_of(source))
    manifest.to_parquet(directory / "manifest.parquet", index=False)
    facts = {
        "format": 1,
        "source": source,
        "height": settings.crop.height,
        "width": settings.crop.width,
        "scale": SCALE,
        "means": made.means(settings),
        "images": _per_split(manifest["split"]),
        "identities": _per_split(split for split, _ in made.runs),
        "found": unused.listed["photos"],
        "listed": unused.listed,
        "rejected": _per_reason(rejected),
        "dropped": _per_reason(dropped),
        "converted": dict(sorted(Counter(what for _, what in made.converted).items())),
        "guides": "fixed" if source == "pairs" else "sampled",
        "digest": faces_digest(manifest, made.pixels, landmarks),
        "source_digest": source_digest,
    }
    if landmarks is not None:
        np.save(directory / LANDMARKS_FILE, landmarks)
        facts["landmarks"] = int(np.isfinite(landmarks).all(axis=(1, 2)).sum())
    write_json(directory / "faces.json", facts)
    lines = sorted((r.file, r.reason, r.detail) for r in (*rejected, *dropped))
    _write_list(directory / "rejected.csv", lines, ("source_file", "reason", "detail"))
    _write_list(directory / "converted.csv", sorted(made.converted), ("source_file", "converted"))
    return manifest, facts


def tell(profile: str, manifest: pd.DataFrame, facts: Mapping[str, Any], out: Path, recorder: Recorder) -> None:
    """Record what was written."""
    recorder.picture("faces", _contact_sheet(out, manifest))
    _report(profile, facts, out, recorder)


def _write_list(path: Path, lines: Sequence[tuple[str, ...]], columns: Sequence[str]) -> None:
    pd.DataFrame(lines, columns=list(columns)).to_csv(path, index=False, lineterminator="\n")


def faces_digest(manifest: pd.DataFrame, pixels: Iterable[str], landmarks: Places | None = None) -> str:
    """SHA-256 over the manifest's content, with each photo's own SHA-256, and the checksums of both arrays' rows.

    Landmarks come after that, where there are some.

    Args:
        manifest: as written, columns included.
        pixels: `gwainet.sources.checksum.pixel_digest` of each row.
        landmarks: as written.
    """
    digest = hashlib.sha256(json.dumps(list(manifest.columns)).encode())
    rows = itertools.chain.from_iterable(
        zip(*(_as_json(manifest[name].iloc[start : start + _CHUNK]) for name in manifest.columns), strict=True)
        for start in range(0, len(manifest), _CHUNK)
    )
    for values, pixel in zip(rows, pixels, strict=True):
        digest.update(f"\n[{', '.join(values)}] {pixel}".encode())
    if landmarks is not None:
        digest.update(b"\nlandmarks " + landmarks.astype("<f4").tobytes())
    return digest.hexdigest()


def _as_json(column: "pd.Series[Any]") -> Iterator[str]:
    """Each value as JSON; a column at a time, which takes a third of the time of a row at a time."""
    ways: dict[str, Callable[[Any], str]] = {"i": str, "b": {True: "true", False: "false"}.__getitem__}
    return map(ways.get(column.dtype.kind, json.JSONEncoder().encode), column.tolist())


# --- who is kept, and in which split ---------------------------------------------------------------------------------


def plan(listing: Listing, settings: PrepareFaces) -> tuple[list[Group], list[Rejection]]:
    """Choose people and splits before any photo is opened.

    1. People with fewer than `min_images` listed photos (in a split, where the source brings splits) are dropped (D1).
    2. `max_identities` of the rest are drawn; where the source brings splits, two of each split, then in proportion.
    3. Where the source brings no split, people (or pairs, D11) are drawn into test and validation by their shares, two
       at least, and the rest is the training split.

    Raises:
        SourceError: a person lies in two splits; or the landmarks are not those of these photos.
        DataError: too few people.
    """
    if listing.landmarks is not None:
        listing.landmarks.check(settings.crop)
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
    kept, dropped = {}, [*listing.dropped]
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
    groups = [Group(str(split), identity, _entries(photos)) for (split, identity), photos in kept.items()]
    return sorted(groups, key=lambda group: (SPLITS.index(group.split), group.identity)), dropped


def _files(photos: Iterable[Photo]) -> list[str]:
    """All files of photos, guides included, each once."""
    return list(dict.fromkeys(file for photo in photos for file in (photo.file, photo.guide) if file is not None))


def _entries(photos: Iterable[Photo]) -> tuple[Entry, ...]:
    entries = {photo.guide: Entry(photo.guide, False) for photo in photos if photo.guide is not None}
    entries |= {photo.file: Entry(photo.file, True, photo.guide) for photo in photos}
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


def bytes_needed(images: int, settings: PrepareFaces) -> int:
    """Bytes of so many faces on the disk: pictures, and for each a row of the manifest and a line of a list."""
    pictures = images * (picture_bytes(settings.crop.height, settings.crop.width) * (SCALE**2 + 1)) // SCALE**2
    return pictures + images * (_BYTES_BESIDE + SIDE**2)  # small faces go in the end


def check_space(directory: Path, images: int, needed: int, written: int = 0) -> None:
    """Stop where a disk has no room for so many faces, of which so many bytes are written.

    Raises:
        DataError: says how much is needed.
    """
    free = shutil.disk_usage(directory).free
    if needed - written > free:
        done = f", of which {say_bytes(written)} are written" if written else ""
        rest = "What a run that was stopped has done is kept" if written else "Nothing was written"
        raise DataError(
            f"{directory.parent} has {say_bytes(free)} free; {images:,} faces need {say_bytes(needed)}{done}: make "
            f"room, or set prepare_faces.max_identities. {rest}"
        )


# --- going on where a killed run ended -------------------------------------------------------------------------------

_CODE = ("sources", "bicubic.py", "compiled.py", "duplicates.py", "images.py", "stages/prepare_faces.py")


def fingerprint(params: Params, images: Path, groups: Sequence[Group], raw: Path) -> dict[str, str]:
    """What rows are made of: those of a killed run are taken over where all of it is equal."""
    files = [entry.file for group in groups for entry in group.entries]
    photos = hashlib.sha256(file_digest(raw / "source.json").encode())
    if images.is_dir():  # whose photos are pinned by names and sizes alone
        for file in files:
            facts = (images / file).stat()
            photos.update(f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns} {facts.st_ino}\n".encode())
    return {
        **{name: json.dumps(value) for name, value in params.flat(("prepare_faces",)).items()},
        "photos": photos.hexdigest(),
        "rows": hashlib.sha256("\n".join(files).encode()).hexdigest(),
        "code": code_digest(Path(gwainet.__file__).parent, _CODE),
        "Pillow": PIL.__version__,
        "simplejpeg": jpeg.VERSION,
    }


def begin(directory: Path, box: Crop, facts: Mapping[str, str], images: int, needed: int) -> Journal:
    """The journal of a directory that a killed run may have left, which is emptied where it is of no use.

    Args:
        directory: where the arrays are written.
        box: of the faces.
        facts: `fingerprint`.
        images: rows planned.
        needed: `bytes_needed` for them.

    Raises:
        DataError: the disk has no room.
    """
    journal = Journal(directory, facts)
    damage = _damage(directory, box) if journal.found else None
    if not journal.found or damage is not None:
        if journal.differs:
            say(
                "prepare_faces starts afresh: what a run that was stopped has left belongs to other "
                + ", ".join(journal.differs)
            )
        elif damage is not None:
            say(f"prepare_faces starts afresh: what a run that was stopped has left is damaged ({damage})")
        shutil.rmtree(directory)
        directory.mkdir()
        journal = Journal(directory, facts)
    elif journal.done:
        say(f"prepare_faces goes on: {journal.done:,} of {images:,} photos were done when a run was stopped")
    written = sum(file.stat().st_blocks * 512 for file in directory.iterdir())  # less than their length: rows may lack
    check_space(directory, images, needed, written)
    return journal


def _damage(directory: Path, box: Crop) -> str | None:
    """Why the arrays that lie there cannot be gone on with; None if they can."""
    try:
        FaceArrays(directory, box).close()
    except (DataError, OSError) as error:
        return str(error)
    return None


# --- decoding and writing --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """A written face: its photo, and the row where it lies until its person is complete."""

    entry: Entry
    place: int
    face: Face


class Made:
    """The rows written, and what became of the other photos; of each row 100 bytes and its photo's name.

    Attributes:
        runs: (split, identity) of each run of rows.
        sizes: rows of each run.
        files: photo of each row.
        heights: of each row's photo, pixels.
        widths: of each row's photo, pixels.
        guides: the pair's own guide's row, -1 where there is none.
        is_target: of each row.
        sums: of the training split, as `Face.sums`.
    """

    def __init__(self) -> None:
        self.runs: list[tuple[str, str]] = []
        self.sizes: list[int] = []
        self.files: list[str] = []
        self.heights, self.widths = array("q"), array("q")
        self.guides, self.is_target = array("q"), array("b")
        self.rejected: list[Rejection] = []
        self.dropped: list[Rejection] = []
        self.converted: list[tuple[str, str]] = []
        self.sums = np.zeros((2, 3), np.int64)
        self._photos, self._pixels = bytearray(), bytearray()  # digests, one after the other

    @property
    def photos(self) -> Iterator[str]:
        """SHA-256 of each row's photo."""
        return _hexadecimal(self._photos, _SHA256)

    @property
    def pixels(self) -> Iterator[str]:
        """Checksum of each row's pictures, `pixel_digest`."""
        return _hexadecimal(self._pixels, _CHECKSUM)

    def add(self, group: Group, rows: Sequence[_Row], targets: frozenset[str]) -> None:
        """Take a person's final rows."""
        place = {row.entry.file: len(self.files) + index for index, row in enumerate(rows)}
        for row in rows:
            is_target = row.entry.file in targets
            self.guides.append(place[row.entry.guide] if is_target and row.entry.guide is not None else -1)
            self.is_target.append(is_target)
            photo = row.face.photo
            self._pixels += bytes.fromhex(row.face.pixels)
            self._photos += bytes.fromhex(photo.sha256)
            self.files.append(row.entry.file)
            self.heights.append(photo.height)
            self.widths.append(photo.width)
            if photo.converted_from is not None:
                self.converted.append((row.entry.file, photo.converted_from))
            if group.split == "train":
                self.sums += np.array(row.face.sums)
        self.runs.append((group.split, group.identity))
        self.sizes.append(len(rows))

    def rows(self) -> pd.DataFrame:
        """What is kept of each row of a part, for `append`."""
        columns = {"file": self.files, "photo": _texts(self.photos), "pixels": _texts(self.pixels)}
        numbers = {"height": self.heights, "width": self.widths, "guide": self.guides}
        table = pd.DataFrame({**columns, **{name: np.array(values, np.int64) for name, values in numbers.items()}})
        return table.assign(is_target=np.array(self.is_target, np.bool_))

    def append(self, runs: Iterable[tuple[str, str]], sizes: Iterable[int], rows: pd.DataFrame) -> None:
        """Take the rows of the next part, as its `rows` gave them."""
        start = len(self.files)
        self.runs += runs
        self.sizes += sizes
        self.files += rows["file"].tolist()
        self._photos += bytes.fromhex("".join(rows["photo"]))
        self._pixels += bytes.fromhex("".join(rows["pixels"]))
        guides = rows["guide"].to_numpy(np.int64)
        self.guides.frombytes(np.where(guides < 0, -1, guides + start).astype(np.int64).tobytes())
        self.is_target.frombytes(rows["is_target"].to_numpy(np.int8).tobytes())
        self.heights.frombytes(rows["height"].to_numpy(np.int64).tobytes())
        self.widths.frombytes(rows["width"].to_numpy(np.int64).tobytes())

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
        splits, people = (pd.Series(list(names), dtype="str") for names in zip(*self.runs, strict=True))
        return pd.DataFrame(
            {
                "row": np.arange(len(run), dtype=np.int64),
                "identity": people.take(run).array,
                "identity_index": run.astype(np.int64),
                "split": splits.take(run).array,
                "source_file": _texts(self.files),
                "source_sha256": _texts(self.photos),
                "source_height": np.array(self.heights, np.int64),
                "source_width": np.array(self.widths, np.int64),
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


def _hexadecimal(content: bytearray, size: int) -> Iterator[str]:
    return (content[start : start + size].hex() for start in range(0, len(content), size))


def _chunks(values: Iterable[_T]) -> Iterator[list[_T]]:
    remaining = iter(values)
    return iter(lambda: list(itertools.islice(remaining, _CHUNK)), [])


def _texts(values: Iterable[str]) -> "pd.Series[Any]":
    """A column of texts, brought into pandas' memory by and by: as Python's objects they take three times as much."""
    chunks = [pd.Series(chunk, dtype="str") for chunk in _chunks(values)]
    return pd.concat(chunks, ignore_index=True) if chunks else pd.Series([], dtype="str")


def write_rows(
    directory: Path, groups: Sequence[Group], store: Store, settings: PrepareFaces, workers: int, journal: Journal
) -> Made:
    """Decode all photos and write `FaceArrays`, from where `journal` ends.

    Each listed photo has a row; where some cannot be used, the rows of later people move up, when all are written.
    """
    files = [entry.file for group in groups for entry in group.entries]
    places = array("q")  # where the final rows were written
    compiled.expect(journal.done)  # rows that are read back
    with (
        frozen(),  # the lists: there are more of their objects than of any others
        closing(FaceArrays(directory, settings.crop, create=not journal.found)) as arrays,
        closing(journal),
        closing(_results(journal, arrays, store, files, settings.crop, workers)) as results,
    ):
        made = collect(groups, results, settings, places.extend)
        if len(places) and places[-1] != len(places) - 1:
            journal.forget()  # a row on its way up may be written over one that the journal tells of
            for start in range(0, len(places), _CHUNK):
                arrays.move(places[start : start + _CHUNK], start)
        arrays.finish(len(places))
    return made


def _results(
    journal: Journal, arrays: FaceArrays, store: Store, files: Sequence[str], box: Crop, workers: int
) -> Generator[Face | Rejection, None, None]:
    """What became of each photo: first of those that a killed run has done, then of the others, noting it.

    Photos that could not be read are looked at again: the reason may have passed.
    """
    journal.open()
    with progress("prepare_faces", len(files), "photos", journal.done) as ticker:
        with closing(Again(store.path, box, arrays.directory)) as again:
            for row, result in enumerate(journal.finished(arrays)):
                passing = isinstance(result, Rejection) and result.reason == UNREAD
                yield again.write(row, files[row]) if passing else result
        first = journal.done  # fewer than said, where a row is not as it was written
        with closing(write_faces(store, files[first:], box, workers, arrays.directory, first)) as results:
            while some := list(itertools.islice(results, _NOTED)):
                journal.add(some)
                ticker.advance(len(some))
                yield from some


def collect(
    groups: Sequence[Group],
    results: Iterator[Face | Rejection],
    settings: PrepareFaces,
    keep: Callable[[Sequence[int]], None],
) -> Made:
    """Sort out what became of the photos, person by person.

    Args:
        groups: the people planned.
        results: of each of their photos, in order.
        settings: how many photos a person needs.
        keep: told where the rows of the next person were written.
    """
    made = Made()
    place = itertools.count()
    for group in groups:
        rows: list[_Row] = []
        for entry, face in zip(group.entries, results, strict=False):  # `results` goes on to the next group
            written = next(place)
            if isinstance(face, Rejection):
                made.rejected.append(face)
            else:
                rows.append(_Row(entry, written, face))
        kept, targets = _usable(rows, settings, made)
        rows = [row for row in rows if row.entry.file in kept]
        if rows:
            keep([row.place for row in rows])
            made.add(group, rows, targets)
    return made


def _usable(rows: Sequence[_Row], settings: PrepareFaces, made: Made) -> tuple[frozenset[str], frozenset[str]]:
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


def listed(listing: Listing) -> dict[str, Any]:
    """What the source's lists hold, before any photo is left out; splits only where the source brings them."""
    splits = _per_split(photo.split for photo in listing.photos if photo.split is not None)
    return {"photos": listing.found, "identities": listing.identities, "splits": splits if any(splits.values()) else {}}


def _per_reason(lines: Iterable[Rejection]) -> dict[str, int]:
    return dict(sorted(Counter(line.reason for line in lines).items()))


def _contact_sheet(directory: Path, manifest: pd.DataFrame) -> Image.Image:
    """A dozen faces from all splits, each with its low-resolution image and its guide."""
    hr, lr = mapped(directory / "hr.npy"), mapped(directory / "lr.npy")
    targets = manifest[manifest["is_target"]]
    chosen = targets.iloc[np.unique(np.linspace(0, len(targets) - 1, _SHEET_FACES).astype(int))]
    faces = [[hr[row], lr[row], hr[guide]] for row, guide in zip(chosen["row"], chosen["guide_row"], strict=True)]
    lines = [list(itertools.chain(*faces[start : start + 2])) for start in range(0, len(faces), 2)]
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
    if "landmarks" in facts:
        say(f"landmarks: all five of {facts['landmarks']:,} faces, in {out / LANDMARKS_FILE}")
    for group, file in (("rejected", "rejected.csv"), ("dropped", "rejected.csv"), ("converted", "converted.csv")):
        if facts[group]:
            counts = ", ".join(f"{reason} {count:,}" for reason, count in facts[group].items())
            say(f"{group}: {counts}; each is listed in {out / file}")
