"""Sources whose bytes were changed at random: a reason or a SourceError, never another error, much memory or a hang."""

import os
import resource
import shutil
import tracemalloc
import zipfile
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gwainet.errors import DataError, SourceError
from gwainet.params import Crop
from gwainet.recorder import NullRecorder
from gwainet.sources import Rejection
from gwainet.sources.crop import Cropped, crop_photo
from gwainet.sources.store import MOST_BYTES, UNREADABLE, Reader, TooLargeError, open_store
from gwainet.stages import fetch_faces, prepare_faces
from tests.photos import (
    CROP,
    celeba_rows,
    encoded,
    params,
    photo,
    pixels,
    write_celeba,
    write_folder,
    write_landmarks,
    write_zip,
)

BOX = Crop(**CROP)
REASONS = {"unreadable", "not an image", "animated", "too small", "too large", "grey"}
MORE = int(os.environ.get("GWAINET_FUZZ", "1"))  # times as many examples, to look for hours
SECONDS = 20  # a changed file that takes as long hangs; a usual one takes a millisecond
FUZZ = settings(deadline=SECONDS * 1000, suppress_health_check=[HealthCheck.too_slow])

# what is done to bytes: (kind, where as a share of the length, new bytes)
Edits = list[tuple[str, float, bytes]]
EDITS: st.SearchStrategy[Edits] = st.lists(
    st.tuples(
        st.sampled_from(["put", "insert", "remove", "cut", "repeat"]),
        st.floats(0, 1),
        st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f"])),
    ),
    min_size=1,
    max_size=6,
)


def edited(content: bytes, edits: Edits, start: int = 0, end: int | None = None) -> bytes:
    """The bytes with some of those between `start` and `end` changed."""
    before, changed, after = content[:start], bytearray(content[start:end]), b"" if end is None else content[end:]
    for kind, share, new in edits:
        place = int(share * len(changed))
        if kind == "put":
            changed[place : place + len(new)] = new
        elif kind == "insert":
            changed[place:place] = new
        elif kind == "remove":
            del changed[place : place + len(new)]
        elif kind == "repeat":
            changed[place:place] = changed[place : place + 64] * 3
        else:
            del changed[max(place, 1) :]
    return before + bytes(changed) + after


# --- photos ----------------------------------------------------------------------------------------------------------


def with_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x8769] = 6, "words", {0x9286: b"more words"}
    return encoded(pixels(2), "JPEG", exif=exif)


PHOTOS = {
    "jpeg": photo(1, "JPEG"),
    "progressive": encoded(pixels(1), "JPEG", progressive=True),
    "cmyk": encoded(Image.fromarray(pixels(1)).convert("CMYK"), "JPEG"),
    "exif": with_exif(),
    "png": photo(1),
    "palette": encoded(Image.fromarray(pixels(1)).convert("P")),
    "animated png": encoded(Image.fromarray(pixels(1)), save_all=True, append_images=[Image.fromarray(pixels(2))]),
    "webp": photo(1, "WEBP"),
    "bmp": photo(1, "BMP"),
}


def judged(content: bytes) -> Cropped | Rejection:
    return crop_photo("p", content, BOX, np.zeros((BOX.height, BOX.width, 3), np.uint8))


@settings(FUZZ, max_examples=400 * MORE)
@given(kind=st.sampled_from(sorted(PHOTOS)), edits=EDITS, head=st.booleans())
def test_a_changed_photo_is_usable_or_has_a_reason(kind: str, edits: Edits, head: bool) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = judged(edited(PHOTOS[kind], edits, 0, 200 if head else None))
    if isinstance(result, Rejection):
        assert result.reason in REASONS
        assert "0x" not in result.detail  # an address in memory would differ from run to run
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # kilobytes: a gigabyte


# --- zips ------------------------------------------------------------------------------------------------------------

MEMBERS = {f"set/person{n // 2:02}/{n}.png": photo(n) for n in range(12)}


def zipped(method: int) -> tuple[bytes, int]:
    """A zip, and where its table of contents begins."""
    with TemporaryDirectory() as folder:
        path = write_zip(Path(folder) / "set.zip", MEMBERS, method)
        with zipfile.ZipFile(path) as archive:
            return path.read_bytes(), archive.start_dir


METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
ZIPS = {method: zipped(method) for method in METHODS}


@settings(FUZZ, max_examples=400 * MORE)
@given(method=st.sampled_from(sorted(ZIPS)), edits=EDITS, contents=st.booleans())
def test_a_changed_zip_is_refused_or_each_member_is_read_or_has_a_reason(
    tmp_path_factory: pytest.TempPathFactory, method: int, edits: Edits, contents: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.zip"
    whole, start = ZIPS[method]
    path.write_bytes(edited(whole, edits, start if contents else 0))
    tracemalloc.start()
    try:
        with closing(open_store(path)) as store:
            names = list(store.files())
            places = store.places(names)
            refused = store.refused()
    except SourceError:
        return
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2**24
    assert all(".." not in name.split("/") and not name.startswith("/") for name in names)
    assert {line.reason for line in refused} <= {"unsafe name", "link", "name twice"}
    with closing(Reader(path)) as reader:
        for name, place in zip(names, places, strict=True):
            try:
                assert len(reader.read(name, place)) <= MOST_BYTES
            except (TooLargeError, *UNREADABLE):
                pass


# --- both stages -----------------------------------------------------------------------------------------------------


def below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def prepare_or_refuse(root: Path, source: str, images: str) -> None:
    """Run both stages: they end well, or say what is wrong; `data/` is all they write, whole or not at all."""
    before, out = below(root), root / "data" / "faces"
    settings_ = params(source, images)
    try:
        fetch_faces.run(settings_, source=root / "source", out=root / "data" / "raw", recorder=NullRecorder())
        where = {"source": root / "source", "raw": root / "data" / "raw", "out": out}
        prepare_faces.run(settings_, **where, recorder=NullRecorder())
    except (SourceError, DataError):
        assert not out.exists()
    else:
        listed = (root / "source" / "list_landmarks_align_celeba.txt").exists()
        assert {path.name for path in out.iterdir()} == {
            *(["landmarks.npy"] if listed else []),
            "hr.npy",
            "lr.npy",
            "manifest.parquet",
            "faces.json",
            "rejected.csv",
            "converted.csv",
        }
    after = below(root)
    assert {name: content for name, content in after.items() if not name.startswith("data/")} == before
    assert {path.name for path in (root / "data").iterdir()} <= {"raw", "faces"}


def fresh(factory: pytest.TempPathFactory) -> Path:
    root = factory.getbasetemp() / "fuzz"
    shutil.rmtree(root, ignore_errors=True)
    (root / "source").mkdir(parents=True)
    return root


@settings(FUZZ, max_examples=60 * MORE)
@given(method=st.sampled_from(sorted(ZIPS)), edits=EDITS, contents=st.booleans())
def test_preparation_of_a_changed_zip_ends_well_or_says_what_is_wrong(
    tmp_path_factory: pytest.TempPathFactory, method: int, edits: Edits, contents: bool
) -> None:
    root = fresh(tmp_path_factory)
    whole, start = ZIPS[method]
    (root / "source" / "set.zip").write_bytes(edited(whole, edits, start if contents else 0))
    prepare_or_refuse(root, "folder", "set.zip")


PARTS = ["..", ".", "", "a", "person", "C:", "\\", "\0", "x.jpg", "\n", "__MACOSX"]
NAMES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
    st.lists(
        st.sampled_from(PARTS),
        min_size=1,
        max_size=5,
    )
    .map("/".join)
    .filter(bool),
)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@settings(FUZZ, max_examples=80 * MORE)
@given(names=st.lists(NAMES.map(lambda name: name + ".png"), min_size=1, max_size=4))
def test_no_name_in_a_zip_leads_out_of_it(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    root = fresh(tmp_path_factory)
    write_zip(root / "source" / "set.zip", MEMBERS)
    with zipfile.ZipFile(root / "source" / "set.zip", "a") as archive:
        for name in names:
            info = zipfile.ZipInfo("name")
            info.filename = name  # as it is: Python's writer would cut it off at a NUL
            archive.writestr(info, photo(99))
    prepare_or_refuse(root, "folder", "set.zip")
    assert (root / "data" / "faces").exists()


ROWS = celeba_rows()
WORDS = [b"\n", b" ", b",", b"\0", b"1", b"-1", b"../x.png 1\n", b"\xff", b"\xe2\x80\xa8", b'"', b"000001.png"]
TEXTS = st.lists(
    st.tuples(
        st.sampled_from(["put", "insert", "remove", "cut", "repeat"]),
        st.floats(0, 1),
        st.sampled_from(WORDS),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("name", ["identity_CelebA.txt", "list_eval_partition.txt", "list_landmarks_align_celeba.txt"])
@settings(FUZZ, max_examples=60 * MORE)
@given(edits=TEXTS)
def test_preparation_with_changed_lists_ends_well_or_says_what_is_wrong(
    tmp_path_factory: pytest.TempPathFactory, name: str, edits: Edits
) -> None:
    root = fresh(tmp_path_factory)
    write_celeba(root / "source", ROWS)
    write_landmarks(root / "source", ROWS)
    path = root / "source" / name
    path.write_bytes(edited(path.read_bytes(), edits))
    prepare_or_refuse(root, "celeba", "img_align_celeba.zip")


PAIRS = "identity,target,guide,split\n" + "".join(
    f"p{n},t{n}.png,g{n}.png,{part}\n" for n, part in enumerate(["train", "validation", "test"] * 2)
)


@settings(FUZZ, max_examples=60 * MORE)
@given(edits=TEXTS)
def test_preparation_with_a_changed_list_of_pairs_ends_well_or_says_what_is_wrong(
    tmp_path_factory: pytest.TempPathFactory, edits: Edits
) -> None:
    root = fresh(tmp_path_factory)
    write_folder(
        root / "source" / "photos", {f"{kind}{n}.png": photo(n + 50 * (kind == "g")) for kind in "tg" for n in range(6)}
    )
    (root / "source" / "pairs.csv").write_bytes(edited(PAIRS.encode(), edits))
    prepare_or_refuse(root, "pairs", "photos")
