"""What it costs to read random pairs (target, guide): the mapped array, and stores that others train from.

Each store holds the same 4,000 faces, and all forms but the floor read the same pairs in batches; pages are hot. The
peers' loops are BasicSR's `LmdbBackend`: a transaction and a copy a picture, then OpenCV decodes PNG, compressed by
level 1 as BasicSR's script does; what BasicSR does to the decoded picture is left out. Two forms go on to float32
batches as networks take them: ours, and what one writes first, a Dataset over the raw LMDB that a DataLoader collates.
The floor copies as many bytes out of the mapped array into memory that is there already, and does nothing else.
"""

import hashlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import cv2
import lmdb
import numpy as np
import torch
from filelock import FileLock
from torch.utils.data import DataLoader, Dataset

from benchmarks import preparation
from benchmarks.timing import Value, Work
from gwainet.dataset import Faces, Rows, another_photo
from gwainet.files import staged_directory
from gwainet.images import Uint8
from gwainet.recorder import NullRecorder
from gwainet.stages import fetch_faces, prepare_faces
from gwainet.tensors import to_tensor

FACES, PAIRS, BATCH = 4_000, 32_000, 16
Drawn = Sequence[tuple[Rows, Rows]]  # of each batch: rows of the targets, of the guides
Floats = Iterator[tuple[torch.Tensor, torch.Tensor]]  # batches (B, 3, H, W), in [0, 1]


def prepared() -> Path:
    """The faces, and beside them both LMDB stores; made once."""
    folder = Path(tempfile.gettempdir()) / f"gwainet-benchmark-pairs-{FACES}-1"
    with FileLock(f"{folder}.lock"):  # the forms' processes begin together
        if not folder.exists():
            with staged_directory(folder) as made:
                _write_stores(made)
    return folder


def _write_stores(made: Path) -> None:
    settings, source = preparation.settings(0), preparation.archive(FACES)
    fetch_faces.run(settings, source=source, out=made / "raw", recorder=NullRecorder())
    out = made / "faces"
    prepare_faces.run(settings, source=source, raw=made / "raw", out=out, recorder=NullRecorder())
    hr = np.load(out / "hr.npy", mmap_mode="r")
    _write_lmdb(made / "png.lmdb", hr, _png)
    _write_lmdb(made / "raw.lmdb", hr, lambda picture: picture.tobytes())


def _png(picture: Uint8) -> bytes:
    bgr = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])


def _write_lmdb(path: Path, hr: Uint8, encode: Callable[[Uint8], bytes]) -> None:
    with lmdb.open(str(path), map_size=2 * hr.nbytes + 2**26) as store, store.begin(write=True) as transaction:
        for row, picture in enumerate(hr):
            transaction.put(f"{row:08}".encode(), encode(picture))


def reading(pairs: int, pictures: Callable[[Path, Faces, Rows, Rows], tuple[Uint8, Uint8]], _threads: int) -> Work:
    """So many pairs, in batches: rows and guides are drawn, both pictures copied."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    folder = prepared()
    faces = Faces(folder / "faces")
    faces.hr.sum()  # pages are hot

    def work() -> Callable[[], Value]:
        random, first = np.random.default_rng(0), ""
        for _ in range(pairs // BATCH):
            rows = random.integers(0, len(faces.hr), BATCH)
            both = pictures(folder, faces, rows, guides(faces, rows, random))
            first = first or hashlib.sha256(np.stack(both).data).hexdigest()
        return lambda: {"first batch": first}

    return work


def guides(faces: Faces, rows: Rows, random: np.random.Generator) -> Rows:
    """Another photo of each row's person."""
    word = random.integers(0, 2**32, len(rows), np.int64)
    return another_photo(rows, faces.first_row[rows], faces.identity_size[rows], word)


def mapped(_folder: Path, faces: Faces, rows: Rows, guides: Rows) -> tuple[Uint8, Uint8]:
    """As trainings read them."""
    return faces.pairs(rows, guides)


def selected(_folder: Path, faces: Faces, rows: Rows, guides: Rows) -> tuple[Uint8, Uint8]:
    """By torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the map is read-only, and is only read
        pictures = torch.from_numpy(faces.hr)
    both = [torch.index_select(pictures, 0, torch.from_numpy(chosen)).numpy() for chosen in (rows, guides)]
    return both[0], both[1]


def copying(pairs: int, _threads: int) -> Work:
    """The bytes of so many pairs, neighbours in the array, copied out of hot pages into the same memory: the floor."""
    torch.set_num_threads(1)
    faces = Faces(prepared() / "faces")
    faces.hr.sum()
    batch = np.empty((2 * BATCH, faces.height, faces.width, 3), np.uint8)

    def work() -> Callable[[], Value]:
        starts = np.random.default_rng(0).integers(0, len(faces.hr) - len(batch), pairs // BATCH).tolist()
        for start in starts:
            np.copyto(batch, faces.hr[start : start + len(batch)])
        return lambda: {"last copied": str(np.array_equal(batch, faces.hr[starts[-1] : starts[-1] + len(batch)]))}

    return work


def floats(pairs: int, batches: Callable[[Path, Faces, Drawn], Floats], _threads: int) -> Work:
    """So many pairs, up to float32 batches."""
    torch.set_num_threads(1)
    folder = prepared()
    faces = Faces(folder / "faces")
    faces.hr.sum()

    def work() -> Callable[[], Value]:
        random, drawn = np.random.default_rng(0), []
        for _ in range(pairs // BATCH):
            rows = random.integers(0, len(faces.hr), BATCH)
            drawn.append((rows, guides(faces, rows, random)))
        first = ""
        for target, guide in batches(folder, faces, drawn):
            first = first or hashlib.sha256(torch.stack([target, guide]).numpy().data).hexdigest()
        return lambda: {"first batch of floats": first}

    return work


def mapped_floats(_folder: Path, faces: Faces, drawn: Drawn) -> Floats:
    """As trainings make them."""
    device = torch.device("cpu")
    for rows, guides in drawn:
        target, guide = faces.pairs(rows, guides)
        yield to_tensor(target, device), to_tensor(guide, device)


class RawDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """A pair an item, each picture by a transaction of its own; items are (row, guide's row)."""

    def __init__(self, path: Path, height: int, width: int) -> None:
        self._store = _open(path)
        self._shape = height, width, 3

    def __getitem__(self, rows: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Shapes: -> (3, H, W), (3, H, W) float32 in [0, 1]."""
        return self._picture(rows[0]), self._picture(rows[1])

    def _picture(self, row: int) -> torch.Tensor:
        with self._store.begin(write=False) as transaction:
            content = transaction.get(f"{row:08}".encode(), b"")
        picture = np.frombuffer(content, np.uint8).reshape(self._shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the bytes are read-only, and are only read
            return torch.from_numpy(picture).permute(2, 0, 1).float().div_(255)


def loaded_floats(folder: Path, faces: Faces, drawn: Drawn) -> Floats:
    """As a DataLoader of no processes of its own makes them."""
    pairs = [list(zip(rows.tolist(), guides.tolist(), strict=True)) for rows, guides in drawn]
    dataset = RawDataset(folder / "raw.lmdb", faces.height, faces.width)
    loader = DataLoader(dataset, batch_sampler=pairs)
    yield from ((target, guide) for target, guide in loader)


@cache
def _open(path: Path) -> lmdb.Environment:
    """A process may open a store once."""
    return lmdb.open(str(path), readonly=True, lock=False, readahead=False)


def from_lmdb(name: str, folder: Path, faces: Faces, rows: Rows, guides: Rows) -> tuple[Uint8, Uint8]:
    """As BasicSR's `LmdbBackend` reads them."""
    return copied(_open(folder / name), _from_png if name == "png.lmdb" else as_it_is, faces, rows, guides)


Decode = Callable[[Uint8, Uint8], None]  # bytes of a picture, and where its pixels go


def copied(store: lmdb.Environment, decode: Decode, faces: Faces, rows: Rows, guides: Rows) -> tuple[Uint8, Uint8]:
    """Pairs out of an open LMDB, a transaction a picture."""
    both = np.empty((2, len(rows), faces.height, faces.width, 3), np.uint8)
    for target, chosen in zip(both, (rows, guides), strict=True):
        for place, row in enumerate(chosen):
            with store.begin(write=False) as transaction:
                decode(np.frombuffer(transaction.get(f"{row:08}".encode(), b""), np.uint8), target[place])
    return both[0], both[1]


def as_it_is(content: Uint8, pixels: Uint8) -> None:
    """A raw picture."""
    pixels[...] = content.reshape(pixels.shape)


def _from_png(content: Uint8, pixels: Uint8) -> None:
    pixels[...] = np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB))


FEWER = {"LMDB of PNG, OpenCV decodes": 320, "LMDB of raw pictures": 3_200}
_AS_FLOATS = 6_400
FEWER |= {
    "LMDB of raw pictures, a DataLoader, floats": _AS_FLOATS,
    "mapped array, as trainings read it, floats": _AS_FLOATS,
}
FORMS: dict[str, Callable[[int], Work]] = {
    "LMDB of PNG, OpenCV decodes": partial(reading, 320, partial(from_lmdb, "png.lmdb")),
    "LMDB of raw pictures": partial(reading, 3_200, partial(from_lmdb, "raw.lmdb")),
    "mapped array, torch.index_select": partial(reading, PAIRS, selected),
    "mapped array, as trainings read it": partial(reading, PAIRS, mapped),
    "memcpy of as many bytes": partial(copying, PAIRS),
    "LMDB of raw pictures, a DataLoader, floats": partial(floats, _AS_FLOATS, loaded_floats),
    "mapped array, as trainings read it, floats": partial(floats, _AS_FLOATS, mapped_floats),
}
