"""Small photos in the layouts of the sources, made of seeded noise."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from gwainet.params import Params, check_params

HEIGHT, WIDTH = 44, 36  # of a photo
CROP = {"top": 8, "left": 4, "height": 32, "width": 24}
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


def write_zip(path: Path, members: Mapping[str, bytes]) -> Path:
    """A zip of files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
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


def celeba_rows(photos: int = 3, people_per_split: int = 2) -> dict[str, tuple[str, str]]:
    """Photos of a few people in each of CelebA's splits."""
    names = iter(f"{number:06}.png" for number in range(1, 1000))
    return {
        next(names): (str(10 * int(part) + person), part)
        for part in SPLIT_OF_PARTITION
        for person in range(people_per_split)
        for _ in range(photos)
    }


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
