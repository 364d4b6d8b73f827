"""The quick way to a JPEG's pixels: Pillow's pixels and Pillow's verdict, whatever became of the file."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from gwainet.params import Crop
from gwainet.people.photo import draw_photo
from gwainet.sources import crop, jpeg
from gwainet.sources.crop import Cropped, crop_photo
from gwainet.sources.jpeg import decode_plain, is_plain
from gwainet.sources.photo import Rejection
from tests.photos import encoded, pixels

BOX = Crop(top=1, left=2, height=16, width=24)
FACE = draw_photo(0, 0, 0, 1)
WAYS: dict[str, dict[str, object]] = {
    "4:2:0": {"quality": 88, "subsampling": 2},
    "4:2:2": {"quality": 75, "subsampling": 1},
    "4:4:4": {"quality": 95, "subsampling": 0},
    "worst": {"quality": 5},
    "best": {"quality": 100, "subsampling": 0},
    "progressive": {"quality": 85, "progressive": True},
    "optimised": {"quality": 85, "optimize": True},
    "restarts": {"quality": 85, "restart_marker_blocks": 3},
    "comment": {"quality": 85, "comment": b"a comment"},
    "dpi": {"quality": 85, "dpi": (300, 300)},
}


def by_pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


def judged(content: bytes) -> tuple[Cropped | Rejection, bytes]:
    """The verdict and, of a usable photo, the crop."""
    hr = np.zeros((BOX.height, BOX.width, 3), np.uint8)
    result = crop_photo("p.jpg", content, BOX, hr)
    return result, hr.tobytes() if isinstance(result, Cropped) else b""


def judged_by_pillow(content: bytes) -> tuple[Cropped | Rejection, bytes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crop, "decode_plain", lambda _: None)
        return judged(content)


# --- pixels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_plain_jpegs_have_pillows_pixels(way: str) -> None:
    for picture in (FACE, pixels(1), pixels(2, 17, 31), pixels(3, 1, 1), pixels(4, 8, 16), pixels(5, 33, 9)):
        content = encoded(picture, "JPEG", **WAYS[way])
        decoded = decode_plain(content)
        assert decoded is not None
        assert np.array_equal(decoded, by_pillow(content))


@settings(max_examples=100, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    quality=st.integers(1, 100),
    subsampling=st.integers(0, 2),
    progressive=st.booleans(),
    noise=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_plain_jpeg_has_pillows_pixels(height, width, quality, subsampling, progressive, noise, seed) -> None:
    picture = (
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        if noise
        else pixels(seed, height, width)
    )
    content = encoded(picture, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
    decoded = decode_plain(content)
    assert decoded is not None
    assert np.array_equal(decoded, by_pillow(content))


# --- what Pillow must look at ----------------------------------------------------------------------------------------


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


NOT_PLAIN: dict[str, Callable[[], bytes]] = {
    "turned by EXIF": lambda: encoded(FACE, "JPEG", exif=turned()),
    "CMYK": lambda: encoded(Image.fromarray(FACE).convert("CMYK"), "JPEG"),
    "grey": lambda: encoded(FACE[..., 0], "JPEG"),
    "RGB kept": lambda: encoded(FACE, "JPEG", keep_rgb=True),
    "colour profile": lambda: encoded(FACE, "JPEG", icc_profile=b"a profile"),
    "no end": lambda: encoded(FACE, "JPEG")[:-2],
    "cut": lambda: encoded(FACE, "JPEG")[:-2000],
    "cut, ended": lambda: encoded(FACE, "JPEG")[:-2000] + b"\xff\xd9",
    "progressive, cut, ended": lambda: encoded(FACE, "JPEG", progressive=True)[:-3000] + b"\xff\xd9",
    "after the end": lambda: encoded(FACE, "JPEG") + b"\0",
    "PNG": lambda: encoded(FACE),
    "empty": lambda: b"",
    "no more than a start": lambda: b"\xff\xd8\xff\xe0\xff\xd9",
    "12 bits": lambda: encoded(FACE, "JPEG").replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"),
    "arithmetic coding": lambda: encoded(FACE, "JPEG").replace(b"\xff\xc0\x00\x11", b"\xff\xc9\x00\x11"),
    "two frames": lambda: with_segment(encoded(FACE, "JPEG"), frame_of(encoded(FACE, "JPEG"))),
    "huge": lambda: resized(encoded(FACE, "JPEG"), 60_000, 60_000),
    "no height": lambda: resized(encoded(FACE, "JPEG"), 0, 178),
    "taller than its data": lambda: resized(encoded(FACE, "JPEG"), 400, 178),
}


def frame_of(content: bytes) -> bytes:
    start = content.index(b"\xff\xc0")
    return content[start : start + 19]


def with_segment(content: bytes, segment: bytes) -> bytes:
    """A segment more, after JFIF's."""
    return content[:20] + segment + content[20:]


def resized(content: bytes, height: int, width: int) -> bytes:
    """Another size in the header."""
    start = content.index(b"\xff\xc0") + 5
    return content[:start] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + content[start + 4 :]


@pytest.mark.parametrize("case", NOT_PLAIN)
def test_whatever_is_not_plain_is_left_to_pillow(case: str) -> None:
    content = NOT_PLAIN[case]()
    assert decode_plain(content) is None
    assert judged(content) == judged_by_pillow(content)


def test_a_jpeg_inside_another_ones_tail_is_as_invisible_as_to_pillow() -> None:
    both = encoded(FACE, "JPEG") + encoded(pixels(1), "JPEG")
    assert judged(both) == judged_by_pillow(both)


# --- damage ----------------------------------------------------------------------------------------------------------

GOOD = [encoded(pixels(seed), "JPEG", **way) for seed, way in enumerate(WAYS.values())]


@settings(max_examples=600, deadline=None)
@given(
    which=st.integers(0, len(GOOD) - 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=4),
    cut=st.one_of(st.just(1.0), st.floats(0, 1)),
    ended=st.booleans(),
    inserted=st.one_of(st.none(), st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=6))),
)
@example(0, [], 0.9, True, None)
def test_damaged_files_get_pillows_verdict_and_pillows_pixels(which, flips, cut, ended, inserted) -> None:
    content = bytearray(GOOD[which])
    for place, bits in flips:
        content[int(place * (len(content) - 1))] ^= bits
    content = content[: int(len(content) * cut)]
    if inserted is not None:
        place = int(inserted[0] * len(content))
        content[place:place] = inserted[1]
    if ended:
        content += b"\xff\xd9"
    assert judged(bytes(content)) == judged_by_pillow(bytes(content))


def test_each_byte_of_a_headers_damage_gets_pillows_verdict() -> None:
    content = encoded(pixels(1, 20, 30), "JPEG", quality=60)
    plain = 0
    for place in range(content.index(b"\xff\xda") + 14):
        for bits in (1, 0x80, 0xFF):
            damaged = bytearray(content)
            damaged[place] ^= bits
            plain += decode_plain(bytes(damaged)) is not None
            assert judged(bytes(damaged)) == judged_by_pillow(bytes(damaged))
    assert plain > 100  # values of a table are no damage to the form: both decode the same


def test_each_cut_gets_pillows_verdict() -> None:
    content = encoded(pixels(1, 20, 30), "JPEG", quality=60)
    for end in range(len(content)):
        for tail in (b"", b"\xff\xd9"):
            assert judged(content[:end] + tail) == judged_by_pillow(content[:end] + tail)


# --- without simplejpeg ----------------------------------------------------------------------------------------------


def test_without_simplejpeg_pillow_decodes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(FACE, "JPEG")
    usual = judged(content)
    monkeypatch.setattr(jpeg, "_as_pillow", False)
    assert is_plain(content)
    assert decode_plain(content) is None
    assert judged(content) == usual


def test_pillows_own_leniency_is_off() -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES  # with it, a cut photo would be usable
