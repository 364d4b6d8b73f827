"""Small prepared faces for tests: what `prepare_faces` writes (docs/formats.md), filled with random pictures."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image

from gwainet.dataset import Faces
from gwainet.files import write_json
from gwainet.images import Uint8, downscale
from gwainet.params import SCALE
from gwainet.training.draws import words
from gwainet.training.sampling import draw_guides, tables

SPLITS = ("train", "validation", "test")


def write_faces(
    directory: Path,
    identities: int | Mapping[str, int] = 8,
    images: int = 4,
    height: int = 48,
    width: int = 40,
    seed: int = 0,
    guides: Literal["sampled", "fixed"] = "sampled",
    landmarks: bool = False,
) -> Path:
    """Write valid prepared faces and return `directory`.

    An identity is a smooth random picture, its images are that picture with other light, shifts and fine noise.

    Args:
        directory: made if absent.
        identities: people in all, of whom a fifth, and at least two, are each in validation and in test; or the
            people of every split.
        images: of each identity; even where `guides` is fixed.
        height: of the crops, divisible by 8.
        width: of the crops, divisible by 8.
        seed: of everything drawn.
        guides: `sampled`: each image is a target; `fixed`: half of them are guides of the others (source `pairs`).
        landmarks: whether the faces have some, in the middle half of each side.
    """
    if isinstance(identities, int):
        held_out = max(2, identities // 5)
        identities = {"train": identities - 2 * held_out, "validation": held_out, "test": held_out}
    assert all(identities[split] >= 2 for split in SPLITS), "two identities a split are needed for other guides"
    assert images >= 2, "an identity needs a target and a guide"
    assert height % SCALE == width % SCALE == 0, f"sizes must be divisible by {SCALE}"
    assert guides == "sampled" or images % 2 == 0, "fixed guides need an even number of images"
    random = np.random.default_rng(seed)
    rows: list[dict[str, str | int | bool]] = []
    pictures: list[Uint8] = []
    index = 0
    for split in SPLITS:
        for _ in range(identities[split]):
            person = _smooth(random, height, width)
            for image in range(images):
                picture = _photo(random, person)
                pictures.append(picture)
                file = f"person_{index:04d}/{image:04d}.png"
                rows.append(
                    {
                        "row": len(rows),
                        "identity": f"person_{index:04d}",
                        "identity_index": index,
                        "split": split,
                        "source_file": file,
                        "source_sha256": hashlib.sha256(file.encode() + picture.tobytes()).hexdigest(),
                        "source_height": height + 10,
                        "source_width": width + 10,
                        "is_target": guides == "sampled" or image % 2 == 0,
                    }
                )
            index += 1
    manifest = pd.DataFrame(rows)
    guide_row, other_guide_row = [], []
    for row, entry in enumerate(manifest.itertuples()):
        split_rows = manifest[manifest["split"] == entry.split]
        same = split_rows[(split_rows["identity"] == entry.identity) & (split_rows["row"] != row)]
        other = split_rows[split_rows["identity"] != entry.identity]
        if not entry.is_target:
            guide_row.append(-1)
            other_guide_row.append(-1)
        elif guides == "fixed":
            guide_row.append(row + 1)
            other_guide_row.append(int(random.choice(other.loc[~other["is_target"], "row"].to_numpy())))
        else:
            guide_row.append(int(random.choice(same["row"].to_numpy())))
            other_guide_row.append(int(random.choice(other["row"].to_numpy())))
    manifest["guide_row"] = np.array(guide_row, np.int64)
    manifest["other_guide_row"] = np.array(other_guide_row, np.int64)

    hr = np.stack(pictures)
    lr = np.stack([downscale(picture) for picture in pictures])
    directory.mkdir(parents=True, exist_ok=True)
    np.save(directory / "hr.npy", hr)
    np.save(directory / "lr.npy", lr)
    manifest.to_parquet(directory / "manifest.parquet", index=False)
    pd.DataFrame(columns=["source_file", "reason", "detail"]).to_csv(directory / "rejected.csv", index=False)
    content = hashlib.sha256(manifest.to_csv(index=False).encode() + hr.tobytes() + lr.tobytes())
    train = (manifest["split"] == "train").to_numpy()
    more: dict[str, int] = {}
    if landmarks:
        places = np.random.default_rng((seed, 1)).uniform(0.25, 0.75, (len(manifest), 5, 2)) * (width - 1, height - 1)
        np.save(directory / "landmarks.npy", places.astype(np.float32))
        more["landmarks"] = len(manifest)
    write_json(
        directory / "faces.json",
        {
            "format": 1,
            "source": "pairs" if guides == "fixed" else "drawn",
            "height": height,
            "width": width,
            "scale": SCALE,
            "means": {"lr": channel_means(lr[train]), "hr": channel_means(hr[train])},
            "images": {split: int((manifest["split"] == split).sum()) for split in SPLITS},
            "identities": {split: identities[split] for split in SPLITS},
            "found": len(manifest),
            "rejected": {},
            "dropped": {},
            "guides": guides,
            "digest": content.hexdigest(),
            "source_digest": hashlib.sha256(json.dumps([seed, guides]).encode()).hexdigest(),
            **more,
        },
    )
    return directory


def channel_means(images: Uint8) -> list[float]:
    """Per-channel means in [0, 1]. Shapes: (N, H, W, 3) -> 3 numbers."""
    return [float(value) for value in images.mean(axis=(0, 1, 2), dtype=np.float64) / 255]


def _smooth(random: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float64]:
    coarse = random.integers(30, 226, (max(2, height // SCALE), max(2, width // SCALE), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.float64)


def _photo(random: np.random.Generator, person: npt.NDArray[np.float64]) -> Uint8:
    shifted = np.roll(person, random.integers(-2, 3, 2), axis=(0, 1))
    changed = shifted * random.uniform(0.8, 1.2) + random.normal(0, 8, person.shape)
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)


def drawn_guides(faces: Faces, rows: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Guides of rows, as trainings draw them."""
    table, words_of = tables(faces, torch.device("cpu")), words(seed, 0, torch.arange(len(rows)))
    return draw_guides(table, torch.from_numpy(rows), words_of).numpy()
