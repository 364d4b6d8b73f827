"""Near-duplicates: two crops of (almost) one photo, or of one moment. As input and guide they give the answer away.

How alike two faces are is the correlation of their detail: the crop's middle, where the face lies, in grey, `SIDE`
pixels square, less its own blur, so that light and background count little. Within a person every pair is compared.
Between splits, where pairs are thousands of millions, a perceptual hash (the 256-bit pHash of the ImageHash package)
first says which pairs to compare: XOR and a count of bits, in blocks, exact for the distance asked for.

Memory is bounded by the two small records kept of each crop: 1 kB of grey and 32 bytes of hash.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from gwainet import compiled
from gwainet.images import Uint8

if TYPE_CHECKING:  # processes that crop photos import this file, and need no tables
    import pandas as pd

# where the face lies in an aligned crop, as shares: without forehead and sides, where hair and background are
TOP, LEFT, RIGHT = 0.2, 0.15, 0.85
SIDE = 32  # pixels of the small face
BLUR = 7.0  # pixels of the small face: slower changes are light, not the person (docs/data-contract.md)
HASH_SIZE = 16  # of pHash: 16 x 16 frequencies, a bit each
HASH_BITS = HASH_SIZE**2
WORDS = HASH_BITS // 64
_HASHED = 4 * HASH_SIZE  # pixels that pHash scales to
_DIGITS = 5  # of a correlation: float32 gives exact copies 1 but for the seventh
_BLOCK = 4096  # small faces worked on at a time
_BLURRED, _COMPARED = 16, 64  # of them blurred, or pairs compared, at a time: they stay in the cache
_ROWS, _COLUMNS = 256, 4096  # hashes compared at a time: 8 MiB of distances

Hashes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Alike(NamedTuple):
    """Pairs of rows that are alike, `first` < `second` or in another split, and their correlation."""

    first: Rows
    second: Rows
    correlation: Floats


def small_face(crop: Uint8) -> Uint8:
    """The face in a crop, small and grey.

    Shapes: (H, W, 3) -> (SIDE, SIDE).
    """
    return np.asarray(_middle(crop, SIDE))


def perceptual_hash(crop: Uint8) -> Hashes:
    """PHash of the face in a crop.

    Shapes: (H, W, 3) -> 4 words of 64 bits.
    """
    import imagehash  # here, so that photos can be prepared without it

    bits = imagehash.phash(_middle(crop, _HASHED), HASH_SIZE).hash
    return np.packbits(bits.ravel()).view(np.uint64)


def small_faces(crops: Uint8, turned: compiled.Turned | None = None) -> Uint8:
    """Small faces of crops that may lie in a file.

    Shapes: (N, H, W, 3) -> (N, SIDE, SIDE). `turned` are the same crops, where somebody has turned them already.
    """
    height, width = crops.shape[1:3]
    if not (compiled.ready() and _loops_are_pillows(height, width)):
        return _by_pillow(crops)
    if turned is None:
        return _by_loops(crops)
    assert turned.pictures is crops
    return _of_turned(turned, height, width)


def _by_pillow(crops: Uint8) -> Uint8:
    faces = np.empty((len(crops), SIDE, SIDE), np.uint8)
    for row in range(len(crops)):
        faces[row] = small_face(np.asarray(crops[row]))
    return faces


def _by_loops(crops: Uint8) -> Uint8:
    faces = np.empty((len(crops), SIDE, SIDE), np.uint8)
    for start in range(0, len(crops), compiled.TOGETHER):
        part = slice(start, start + compiled.TOGETHER)
        faces[part] = _of_turned(compiled.Turned(np.asarray(crops[part])), *crops.shape[1:3])
    return faces


def _of_turned(crops: compiled.Turned, height: int, width: int) -> Uint8:
    left, top, right, bottom = box = _region(height, width)
    return crops.reduce_grey(box, _box_taps(left, right, width), _box_taps(top, bottom, height))


@lru_cache(maxsize=16)
def _loops_are_pillows(height: int, width: int) -> bool:
    """Whether the compiled loops give Pillow's bytes for crops of this size: of some sizes they are a level off.

    Pillow begins with the columns where a picture shrinks more along them; elsewhere pictures of noise tell, which a
    weight that differs cannot escape.
    """
    left, top, right, bottom = _region(height, width)
    if not (0 < bottom - top <= 2 * (right - left) and height <= 2 * width):
        return False
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (8, height, width, 3), np.uint8)
    noise[::2] = noise[::2] // 128 * 255  # hard edges too
    return np.array_equal(_by_loops(noise), _by_pillow(noise))


def correlations(faces: Uint8, first: Rows, second: Rows) -> Floats:
    """Correlation of pairs of small faces, -1 to 1; 0 where one has no detail.

    Shapes: (N, SIDE, SIDE), (P,), (P,) -> (P,).
    """
    found = np.empty(len(first), np.float32)
    for start in range(0, len(first), _BLOCK):
        part = slice(start, start + _BLOCK)
        rows, places = np.unique(np.stack([first[part], second[part]]), return_inverse=True)
        one, other = places.reshape(2, -1)
        found[part] = _correlated(_detail(faces[rows]), one, other)
    return found


def _correlated(detail: Floats, first: Rows, second: Rows) -> Floats:
    """Correlation of pairs of faces of which `_detail` is known. Shapes: (N, S * S), (P,), (P,) -> (P,)."""
    found = np.empty(len(first), np.float32)
    for start in range(0, len(first), _COMPARED):
        part = slice(start, start + _COMPARED)
        found[part] = np.einsum("ij,ij->i", detail[first[part]], detail[second[part]])
    return found.round(_DIGITS)


def alike_within(faces: Uint8, groups: npt.NDArray[np.int64], least: float) -> Alike:
    """All pairs of one group that correlate by `least` or more.

    Args:
        faces: (N, SIDE, SIDE), in the order of the groups.
        groups: (N,) number of each face's group; a group's faces lie side by side.
        least: correlation.
    """
    begins = _begins(groups)
    found = []
    for begin, end in _whole_groups(begins, len(groups)):
        detail = _detail(faces[begin:end])
        inside = begins[(begins >= begin) & (begins < end)]
        for start, stop in zip(inside, [*inside[1:], end], strict=True):
            part = detail[start - begin : stop - begin]
            matrix = (part @ part.T).round(_DIGITS)
            first, second = np.nonzero(np.triu(matrix >= least, 1))
            if len(first):
                found.append(Alike(start + first, start + second, matrix[first, second]))
    return _joined(found)


def alike_between(faces: Uint8, hashes: Hashes, first: Rows, second: Rows, distance: int, least: float) -> Alike:
    """Pairs of one row of `first` and one of `second` whose hashes are near and whose faces correlate.

    Args:
        faces: (N, SIDE, SIDE).
        hashes: (N, 4).
        first: rows.
        second: rows, none of `first`.
        distance: bits of `HASH_BITS` that may differ.
        least: correlation.
    """
    found = []
    for rows, others in near_hashes(hashes, first, second, distance):
        alike = correlations(faces, rows, others)
        kept = alike >= least
        if kept.any():
            found.append(Alike(rows[kept], others[kept], alike[kept]))
    return _joined(found)


def near_hashes(hashes: Hashes, first: Rows, second: Rows, distance: int) -> Iterator[tuple[Rows, Rows]]:
    """Pairs of rows whose hashes differ in at most `distance` bits, block by block: exact, and in bounded memory."""
    for row in range(0, len(first), _ROWS):
        mine = hashes[first[row : row + _ROWS]]
        for column in range(0, len(second), _COLUMNS):
            theirs = hashes[second[column : column + _COLUMNS]]
            differing = np.zeros((len(mine), len(theirs)), np.uint16)
            for word in range(WORDS):
                differing += np.bitwise_count(mine[:, None, word] ^ theirs[None, :, word])
            rows, columns = np.nonzero(differing <= distance)
            if len(rows):
                yield first[row + rows], second[column + columns]


def guides_apart(manifest: "pd.DataFrame", faces: Uint8, least: float) -> "pd.DataFrame":
    """The manifest with other fixed guides where a guide is a near-duplicate of its target.

    The new guide is the person's next photo that is none, from the drawn guide on and round to the first. Where all
    are near-duplicates the guide stays, and `check_faces` counts it.

    Args:
        manifest: as `prepare_faces` makes it, guides drawn among each person's photos.
        faces: (N, SIDE, SIDE) `small_faces` of all rows, may lie in a file.
        least: correlation from which two faces are near-duplicates.
    """
    guides = manifest["guide_row"].to_numpy(np.int64)
    people = manifest["identity_index"].to_numpy(np.int64)
    apart = guides.copy()
    for start, stop in _whole_groups(_begins(people), len(people)):  # memory does not grow with the photos
        detail, guide = _detail(np.asarray(faces[start:stop])), guides[start:stop] - start
        # a target that is its own guide would be a mistake of the drawing, which must not be hidden here
        targets = np.flatnonzero((guides[start:stop] >= 0) & (guide != np.arange(stop - start)))
        alike = targets[_correlated(detail, targets, guide[targets]) >= least]
        apart[start + alike] = start + _next_apart(detail, people[start:stop], alike, guide[alike], least)
    return manifest if np.array_equal(apart, guides) else manifest.assign(guide_row=apart)


def _next_apart(
    detail: Floats, people: npt.NDArray[np.int64], targets: Rows, guides: Rows, least: float
) -> npt.NDArray[np.int64]:
    """Of each target the first of its person's photos that is no near-duplicate, from the guide on and round.

    The guide itself where there is none. Shapes: (N, S * S), (N,), (T,), (T,) -> (T,).
    """
    found = guides.copy()
    first, last = (np.searchsorted(people, people[targets], side) for side in ("left", "right"))
    searching, step = np.arange(len(targets)), 0
    while True:  # one photo further at a time, for all targets at once: most find theirs in a step or two
        step += 1
        searching = searching[step < (last - first)[searching]]
        if not len(searching):
            return found
        start, target = first[searching], targets[searching]
        candidate = start + (guides[searching] - start + step) % (last[searching] - start)
        is_apart = (candidate != target) & (_correlated(detail, target, candidate) < least)
        found[searching[is_apart]] = candidate[is_apart]
        searching = searching[~is_apart]


def other_guides(faces: Uint8, people: npt.NDArray[np.int64], target: int, least: float) -> Rows:
    """Rows, ascending, of the target's person that are no near-duplicates of it; a person's rows lie together."""
    rows = _others(people, target)
    apart: Rows = rows[correlations(faces, np.full(len(rows), target), rows) < least]
    return apart


def _others(people: npt.NDArray[np.int64], target: int) -> Rows:
    """The other rows of the target's person."""
    start, stop = np.searchsorted(people, [people[target], people[target] + 1])
    rows = np.arange(start, stop)
    others: Rows = rows[rows != target]
    return others


def _region(height: int, width: int) -> tuple[int, int, int, int]:
    """Where the face lies in a crop: left, top, right, bottom."""
    return round(LEFT * width), round(TOP * height), round(RIGHT * width), height


def _middle(crop: Uint8, side: int) -> Image.Image:
    """The face's region in grey, its pixels averaged to a square; by Pillow, whose bytes are the same everywhere."""
    region = _region(*crop.shape[:2])
    return Image.fromarray(crop).convert("L").resize((side, side), Image.Resampling.BOX, region)


@lru_cache(maxsize=16)
def _box_taps(start: int, end: int, size: int) -> compiled.Taps:
    """What each of `SIDE` averages of the pixels from `start` to `end` of `size` sees, as Pillow reckons it.

    Pixels are counted from `start`.
    """
    scale = (end - start) / SIDE
    reach = 0.5 * max(scale, 1.0)
    firsts, ends, rows = [], [], []
    for output in range(SIDE):
        center = start + (output + 0.5) * scale
        first, last = max(int(center - reach + 0.5), 0), min(int(center + reach + 0.5), size)
        seen = [-0.5 < (x - center + 0.5) * (1.0 / max(scale, 1.0)) <= 0.5 for x in range(first, last)]
        firsts.append(first - start)
        ends.append(last - start)
        rows.append([int(inside / sum(seen) * (1 << 22) + 0.5) for inside in seen])
    most = max(map(len, rows))
    return compiled.taps(firsts, ends, [row + [0] * (most - len(row)) for row in rows])


@lru_cache(maxsize=1)
def _blurring() -> npt.NDArray[np.float64]:
    """The blur along one side, (S, S): a product with it, from left and right, takes a tenth of SciPy's time."""
    from scipy.ndimage import gaussian_filter1d  # here: it takes longer to import than all else

    along: npt.NDArray[np.float64] = gaussian_filter1d(np.eye(SIDE), BLUR, axis=0, mode="reflect")
    return along


def _detail(faces: Uint8) -> Floats:
    """Small faces less their blur, of mean 0 and length 1 (or 0: no detail). Shapes: (n, S, S) -> (n, S * S)."""
    unit, along = np.empty((len(faces), SIDE**2), np.float32), _blurring()
    for start in range(0, len(faces), _BLURRED):
        part = faces[start : start + _BLURRED].astype(np.float64)
        flat = (part - along @ part @ along.T).reshape(-1, SIDE**2)
        flat -= flat.mean(axis=1, keepdims=True)
        length = np.sqrt(np.einsum("ij,ij->i", flat, flat))
        # a flat picture's rest is rounding: below a thousandth of a grey level a pixel
        unit[start : start + _BLURRED] = flat / np.where(length > SIDE * 1e-3, length, np.inf)[:, None]
    return unit


def _begins(groups: npt.NDArray[np.int64]) -> Rows:
    """Where each group's run of rows begins."""
    begins: Rows = np.flatnonzero(np.diff(groups, prepend=groups[:1] - 1))
    return begins


def _whole_groups(begins: Rows, count: int) -> Iterator[tuple[int, int]]:
    """Ranges of about `_BLOCK` rows that cut no group."""
    start = 0
    while start < count:
        later = begins[begins >= start + _BLOCK]
        stop = int(later[0]) if len(later) else count
        yield start, stop
        start = stop


def _joined(found: list[Alike]) -> Alike:
    if not found:
        return Alike(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    return Alike(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
