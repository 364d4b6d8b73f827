"""What it costs to read random pairs (target, guide): the mapped array, and stores that others train from.

Each store holds the same 4,000 faces, and all forms read the same pairs in batches; pages are hot. The peers' loops are
BasicSR's `LmdbBackend`: a transaction and a copy a picture, then OpenCV decodes PNG, compressed by level 1 as BasicSR's
script does; what BasicSR does to the decoded picture is left out.
"""

import hashlib
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import lmdb
import numpy as np
import torch

from benchmarks import preparation
from benchmarks.timing import Value, Work
from gwainet.dataset import Faces, Rows
from gwainet.files import staged_directory
from gwainet.images import Uint8
from gwainet.recorder import NullRecorder
from gwainet.stages import fetch_faces, prepare_faces

FACES, PAIRS, BATCH = 4_000, 32_000, 16


def prepared() -> Path:
    """The faces, and beside them both LMDB stores; made once."""
    folder = Path(tempfile.gettempdir()) / f"gwainet-benchmark-pairs-{FACES}-1"
    if not folder.exists():
        with staged_directory(folder) as made:
            settings, source = preparation.settings(0), preparation.archive(FACES)
            fetch_faces.run(settings, source=source, out=made / "raw", recorder=NullRecorder())
            out = made / "faces"
            prepare_faces.run(settings, source=source, raw=made / "raw", out=out, recorder=NullRecorder())
            hr = np.load(out / "hr.npy", mmap_mode="r")
            _write_lmdb(made / "png.lmdb", hr, _png)
            _write_lmdb(made / "raw.lmdb", hr, lambda picture: picture.tobytes())
    return folder


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
            both = pictures(folder, faces, rows, faces.draw_guides(rows, random))
            first = first or hashlib.sha256(np.stack(both).data).hexdigest()
        return lambda: {"first batch": first}

    return work


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


_stores: dict[str, lmdb.Environment] = {}


def from_lmdb(name: str, folder: Path, faces: Faces, rows: Rows, guides: Rows) -> tuple[Uint8, Uint8]:
    """As BasicSR's `LmdbBackend` reads them."""
    if name not in _stores:
        _stores[name] = lmdb.open(str(folder / name), readonly=True, lock=False, readahead=False)
    both = np.empty((2, len(rows), faces.height, faces.width, 3), np.uint8)
    for target, chosen in zip(both, (rows, guides), strict=True):
        for place, row in enumerate(chosen):
            with _stores[name].begin(write=False) as transaction:
                content = np.frombuffer(transaction.get(f"{row:08}".encode(), b""), np.uint8)
            if name == "png.lmdb":
                target[place] = np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB))
            else:
                target[place] = content.reshape(target[place].shape)
    return both[0], both[1]


FEWER = {"LMDB of PNG, OpenCV decodes": 320, "LMDB of raw pictures": 3_200}
FORMS: dict[str, Callable[[int], Work]] = {
    "LMDB of PNG, OpenCV decodes": partial(reading, 320, partial(from_lmdb, "png.lmdb")),
    "LMDB of raw pictures": partial(reading, 3_200, partial(from_lmdb, "raw.lmdb")),
    "mapped array, torch.index_select": partial(reading, PAIRS, selected),
    "mapped array, as trainings read it": partial(reading, PAIRS, mapped),
}
