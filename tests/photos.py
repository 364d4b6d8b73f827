"""Small photos in the layouts of the sources, made of seeded noise."""

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from gwainet.params import Crop, Params, check_params
from gwainet.sources import open_store
from gwainet.sources.crop import Face, write_faces
from gwainet.sources.landmarks import POINTS
from gwainet.sources.packed import FaceArrays
from gwainet.sources.photo import Rejection
from gwainet.sources.store import Place

HEIGHT, WIDTH = 44, 36  # of a photo
CROP = {"top": 8, "left": 4, "height": 32, "width": 24}
# CelebA's partition -> photos, identities, identities with one photo (docs/paper.md, D1)
CELEBA_SPLITS = {"0": (162_770, 8_192, 36), "1": (19_867, 985, 5), "2": (19_962, 1_000, 3)}
CELEBA_PHOTOS = sum(photos for photos, _, _ in CELEBA_SPLITS.values())
CELEBA_IDENTITIES = sum(identities for _, identities, _ in CELEBA_SPLITS.values())
SPLIT_OF_PARTITION = {"0": "train", "1": "validation", "2": "test"}


def pixels(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Smooth coloured noise, so that JPEG keeps its colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(picture: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """A picture's file."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(seed: int, kind: str = "PNG") -> bytes:
    """A photo's file."""
    return encoded(pixels(seed), kind)


def write_zip(path: Path, members: Mapping[str, bytes], packed: int = zipfile.ZIP_STORED) -> Path:
    """A zip of files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_folder(path: Path, members: Mapping[str, bytes]) -> Path:
    """A folder of files."""
    for name, content in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def people(count: int, photos: int = 3, folder: str = "set/") -> dict[str, bytes]:
    """One folder a person, with as many photos each."""
    return {
        f"{folder}person{person:02}/{number}.png": photo(100 * person + number)
        for person in range(count)
        for number in range(photos)
    }


def celeba_tables(rows: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    """The identity file and the partition file, from name -> (identity, partition)."""
    identities = "".join(f"{name} {identity}\n" for name, (identity, _) in rows.items())
    partition = "".join(f"{name} {part}\n" for name, (_, part) in rows.items())
    return identities, partition


def write_celeba(root: Path, rows: Mapping[str, tuple[str, str]], replaced: Mapping[str, bytes] | None = None) -> None:
    """CelebA's three files; `replaced` holds the bytes of photos that are not plain ones."""
    members = {f"img_align_celeba/{name}": photo(index) for index, name in enumerate(rows)}
    members |= {f"img_align_celeba/{name}": content for name, content in (replaced or {}).items()}
    write_zip(root / "img_align_celeba.zip", members)
    identities, partition = celeba_tables(rows)
    (root / "identity_CelebA.txt").write_text(identities)
    (root / "list_eval_partition.txt").write_text(partition)


def write_landmarks(root: Path, rows: Iterable[str], header: str = "{count}\n{columns}\n") -> dict[str, list[float]]:
    """CelebA's list of landmarks, beside its other files: name -> ten places of `photo`, in its middle."""
    random = np.random.default_rng(7)
    places = {name: (random.integers(3, 33, 10) + 0.25).tolist() for name in rows}
    lines = "".join(
        f"{name}  {'  '.join(map(str, of))}\n" for name, of in places.items()
    )  # two spaces, as CelebA's has
    columns = " ".join(f"{point}_{axis}" for point in POINTS for axis in "xy")
    (root / "list_landmarks_align_celeba.txt").write_text(header.format(count=len(places), columns=columns) + lines)
    return places


def celeba_rows(photos: int = 3, people_per_split: int = 2) -> dict[str, tuple[str, str]]:
    """Photos of a few people in each of CelebA's splits."""
    names = iter(f"{number:06}.png" for number in range(1, 1000))
    return {
        next(names): (str(10 * int(part) + person), part)
        for part in SPLIT_OF_PARTITION
        for person in range(people_per_split)
        for _ in range(photos)
    }


def celeba_in_full(seed: int = 0) -> dict[str, tuple[str, str]]:
    """Lists of CelebA's real size and structure (docs/paper.md, D1, D2): 202,599 photos of 10,177 identities.

    Identities have 1 to 35 photos, median 21, scattered over their split; splits are runs of photo numbers and share no
    identity. How the sizes are spread in between is made up.
    """
    random = np.random.default_rng(seed)
    names = iter(f"{number:06}.jpg" for number in range(1, CELEBA_PHOTOS + 1))
    numbers = iter(random.permutation(CELEBA_IDENTITIES) + 1)
    rows: dict[str, tuple[str, str]] = {}
    for part, (photos, identities, alone) in CELEBA_SPLITS.items():
        sizes = np.rint(random.triangular(2, 28, 30.5, identities - alone)).astype(int)
        sizes[:2] = 2, 35
        while missing := photos - alone - int(sizes.sum()):
            place = random.integers(2, len(sizes))  # the extremes stay
            sizes[place] = np.clip(sizes[place] + np.sign(missing), 2, 35)
        owners = np.repeat([next(numbers) for _ in range(identities)], [1] * alone + sizes.tolist())
        rows |= {next(names): (str(owner), part) for owner in random.permutation(owners)}
    return rows


class Contents:
    """A zip's table of contents without the zip: what the readers of lists need of 202,599 photos."""

    path = Path("photos.zip")

    def __init__(self, names: Iterable[str]) -> None:
        self.names = dict.fromkeys(sorted(names), 1)

    def files(self) -> dict[str, int]:
        """Name -> bytes."""
        return self.names

    def refused(self) -> list[Rejection]:
        """None: each is a file."""
        return []

    def read(self, name: str) -> bytes:
        """Nobody opens a photo to plan splits."""
        raise AssertionError(f"{name} was opened")

    def places(self, names: Sequence[str]) -> list[Place | None]:
        """Nobody reads a photo to plan splits."""
        raise AssertionError("photos were looked for")

    def close(self) -> None:
        """Nothing is open."""


def params(source: str, images: str = "img_align_celeba.zip", workers: int = 1, **prepare: object) -> Params:
    """Params for small photos."""
    return check_params(
        {
            "profile": "small",
            "fetch_faces": {"source": source, "images": images},
            "prepare_faces": {"crop": CROP, **prepare},
            "runtime": {"workers": workers},
        }
    )


class Made(NamedTuple):
    """What became of a photo, and its pictures."""

    result: Face | Rejection
    hr: np.ndarray
    lr: np.ndarray


def begin_arrays(directory: Path) -> None:
    """Empty arrays of small photos, for `write_faces`."""
    FaceArrays(directory, Crop(**CROP), create=True).close()


def made_faces(images: Path, files: Sequence[str], workers: int, directory: Path) -> list[Made]:
    """What `write_faces` makes of small photos."""
    begin_arrays(directory)
    results = list(write_faces(open_store(images), files, Crop(**CROP), workers, directory))
    with closing(FaceArrays(directory, Crop(**CROP))) as arrays:
        arrays.finish(len(files))
    hr, lr, _ = (np.load(directory / name) for name in FaceArrays.NAMES)
    return [Made(*each) for each in zip(results, hr, lr, strict=True)]
