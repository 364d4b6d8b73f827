"""What preparing photos costs: the stage, the plain loop over Pillow, and decoding alone, on one archive.

The archive has CelebA's layout: JPEGs of 178x218, 7 to 8 KB in the mean, twenty a person. They are drawn faces, each in
many takes (moved, mirrored, lit and noisy in other ways): to draw 20,000 anew would take twenty minutes. It is kept in
the system's temporary folder.
"""

import hashlib
import io
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import simplejpeg
from filelock import FileLock
from PIL import Image

from benchmarks.timing import Prepared, Value, Work
from gwainet.files import staged_directory
from gwainet.images import Uint8
from gwainet.params import Params, check_params
from gwainet.people.photo import draw_photo
from gwainet.recorder import NullRecorder
from gwainet.stages import fetch_faces, prepare_faces
from gwainet.workers import cores

PHOTOS, FEW = 20_000, 5_000
EVERY = 20  # the photos of the slow form, and those whose pixels all forms are compared on
_VERSION, _PER_PERSON, _DRAWN, _QUALITY = 1, 20, 100, 86


def archive(photos: int) -> Path:
    """A folder as a user brings it: the zip and CelebA's two lists, made once."""
    folder = Path(tempfile.gettempdir()) / f"gwainet-benchmark-{photos}-{_VERSION}"
    with FileLock(f"{folder}.lock"):  # the forms' processes begin together
        if not folder.exists():
            with staged_directory(folder) as partial_folder:
                _write_archive(partial_folder, photos)
    return folder


def _write_archive(folder: Path, photos: int) -> None:
    faces = [draw_photo(0, person, 0, 1) for person in range(min(_DRAWN, photos // _PER_PERSON))]
    identities, partition = [], []
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as zipped:
        for number in range(photos):
            person = number % (photos // _PER_PERSON)  # a person's photos lie apart, as CelebA's do
            file = io.BytesIO()
            Image.fromarray(_take(faces[person % len(faces)], number)).save(file, "JPEG", quality=_QUALITY)
            name = f"{number + 1:06}.jpg"
            zipped.writestr(zipfile.ZipInfo(f"img_align_celeba/{name}"), file.getvalue())
            identities.append(f"{name} {person + 1}\n")
            partition.append(f"{name} {(0, 0, 0, 0, 0, 0, 0, 0, 1, 2)[person % 10]}\n")
    (folder / "identity_CelebA.txt").write_text("".join(identities))
    (folder / "list_eval_partition.txt").write_text("".join(partition))


def _take(face: Uint8, seed: int) -> Uint8:
    """Another photo of a drawn face."""
    random = np.random.default_rng(seed)
    moved = np.roll(face, random.integers(-4, 5, 2), (0, 1))[:, :: random.choice((-1, 1))]
    noise = np.roll(_noise(seed % 64), random.integers(0, 100, 2), (0, 1))
    light = moved * random.uniform(0.75, 1.15, 3).astype(np.float32) + noise
    taken: Uint8 = np.clip(light, 0, 255).astype(np.uint8)
    return taken


@lru_cache(maxsize=64)
def _noise(seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 1.5, (218, 178, 3)).astype(np.float32)


def settings(workers: int) -> Params:
    """The paper's crop."""
    celeba = {"profile": "benchmark", "fetch_faces": {"source": "celeba"}}
    return check_params({**celeba, "runtime": {"workers": workers}})


def ordered(source: Path) -> list[str]:
    """Members of the zip in the order of the prepared rows."""
    parts = dict(line.split() for line in (source / "list_eval_partition.txt").read_text().splitlines())
    rows = (line.split() for line in (source / "identity_CelebA.txt").read_text().splitlines())
    keys = sorted((parts[name], identity, name) for name, identity in rows)
    return [f"img_align_celeba/{name}" for _, _, name in keys]


def stage(photos: int, workers: int, _threads: int) -> Work:
    """The stage `prepare_faces`, from the archive to arrays, manifest and digest."""
    source, root = archive(photos), _scratch()
    fetch_faces.run(settings(workers), source=source, out=root / "raw", recorder=NullRecorder())

    out = root / "faces"

    def begin() -> None:
        # only now: a virtual machine gives freed memory back to its host in seconds, and to get it anew takes longer
        # than to decode. The loops over Pillow write into the memory of their own last files, too.
        shutil.rmtree(out, ignore_errors=True)

    def work() -> Callable[[], Value]:
        prepare_faces.run(settings(workers), source=source, raw=root / "raw", out=out, recorder=NullRecorder())
        return lambda: digests(out, photos)

    return Prepared(begin, work)


def pillow_loop(_threads: int) -> Work:
    """What one writes first: Pillow, a picture at a time, into the same two arrays."""
    source, root = archive(PHOTOS), _scratch()
    names, box = ordered(source), settings(1).prepare_faces.crop

    def work() -> Callable[[], Value]:
        with (root / "hr.npy").open("wb") as hr, (root / "lr.npy").open("wb") as lr:
            for file, scale in ((hr, 1), (lr, 8)):
                shape = (len(names), box.height // scale, box.width // scale, 3)
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            for crop, low in _by_pillow(source, names):
                hr.write(np.asarray(crop).data)
                lr.write(np.asarray(low).data)
        return partial(digests, root, PHOTOS)

    return work


def pillow_to_png(_threads: int) -> Work:
    """The usual script: Pillow, and two PNG files a photo; on every twentieth photo."""
    source, root = archive(PHOTOS), _scratch()
    names = ordered(source)[::EVERY]

    def work() -> Callable[[], Value]:
        for row, pictures in enumerate(_by_pillow(source, names)):
            for kind, picture in zip(("hr", "lr"), pictures, strict=True):
                picture.save(root / f"{kind}-{row:06}.png")
        return check

    def check() -> Value:
        kinds = (
            np.stack([np.asarray(Image.open(root / f"{kind}-{n:06}.png")) for n in range(len(names))])
            for kind in ("hr", "lr")
        )
        return {"some": _digest(kinds)}

    return work


def decoding(_threads: int) -> Work:
    """Reading from the zip and decoding by simplejpeg, nothing else: the floor."""
    source = archive(PHOTOS)
    names, box = ordered(source), settings(1).prepare_faces.crop
    kept: list[Uint8] = []

    def work() -> Callable[[], Value]:
        kept.clear()
        with zipfile.ZipFile(source / "img_align_celeba.zip") as zipped:
            for row, name in enumerate(names):
                pixels = simplejpeg.decode_jpeg(zipped.read(name), "RGB")
                if row % EVERY == 0:
                    kept.append(pixels)
        return check

    def check() -> Value:
        crops = [p[box.top : box.top + box.height, box.left : box.left + box.width] for p in kept]
        low = [np.asarray(_small(Image.fromarray(np.ascontiguousarray(crop)))) for crop in crops]
        return {"some": _digest([np.stack(crops), np.stack(low)])}

    return work


def _by_pillow(source: Path, names: list[str]) -> Iterable[tuple[Image.Image, Image.Image]]:
    box = settings(1).prepare_faces.crop
    with zipfile.ZipFile(source / "img_align_celeba.zip") as zipped:
        for name in names:
            with Image.open(io.BytesIO(zipped.read(name))) as photo:
                crop = photo.crop((box.left, box.top, box.left + box.width, box.top + box.height))
            yield crop, _small(crop)


def _small(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width // 8, picture.height // 8), Image.Resampling.BICUBIC)


def digests(directory: Path, photos: int) -> Value:
    """Of both arrays, and of the pictures that all forms make; read, not mapped, which would count as memory."""
    whole, some = hashlib.sha256(), []
    for name in ("hr.npy", "lr.npy"):
        shape = np.load(directory / name, mmap_mode="r").shape
        size = int(np.prod(shape[1:]))
        chosen = []
        with (directory / name).open("rb") as file:
            whole.update(file.read((directory / name).stat().st_size - shape[0] * size))
            for row in range(shape[0]):
                picture = file.read(size)
                whole.update(picture)
                if row % EVERY == 0:
                    chosen.append(np.frombuffer(picture, np.uint8).reshape(shape[1:]))
        some.append(np.stack(chosen))
    value = {f"all {photos}": whole.hexdigest()}
    return {**value, "some": _digest(some)} if photos == PHOTOS else value


def _digest(arrays: Iterable[Uint8]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(array.shape).encode() + array.tobytes())
    return digest.hexdigest()


_folders: list[tempfile.TemporaryDirectory[str]] = []


def _scratch() -> Path:
    """A folder that goes when the process ends."""
    _folders.append(tempfile.TemporaryDirectory(prefix="gwainet-benchmark-run-"))
    return Path(_folders[-1].name)


_ALL = max(2, cores())
FORMS: dict[str, Callable[[int], Work]] = {
    "Pillow into the same arrays": pillow_loop,
    "Pillow into PNG files": pillow_to_png,
    "simplejpeg decodes, nothing else": decoding,
    "prepare_faces": partial(stage, PHOTOS, 1),
    f"prepare_faces, {_ALL} processes": partial(stage, PHOTOS, _ALL),
    f"prepare_faces of {FEW:,} photos": partial(stage, FEW, 1),
}
FEWER = {"Pillow into PNG files": PHOTOS // EVERY, f"prepare_faces of {FEW:,} photos": FEW}
