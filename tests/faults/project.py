"""A small project of drawn people, and its preparation."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from rich.progress import track

from gwainet.params import DrawnPeople, Params, check_params
from gwainet.people import draw_photo
from gwainet.recorder import NullRecorder
from gwainet.stages import fetch_faces, prepare_faces
from tests.photos import encoded, write_folder, write_zip

PEOPLE, PHOTOS = 60, 5
SOURCE = "set"  # a zip or a folder below source/


def params(seed: int = 0, workers: int = 1, **prepare: object) -> Params:
    """Of a folder or zip of people; `seed` draws the splits."""
    return check_params(
        {
            "profile": "faults",
            "fetch_faces": {"source": "folder", "images": SOURCE},
            "prepare_faces": {"seed": seed, **prepare},
            "runtime": {"workers": workers},
        }
    )


def draw(people: int = PEOPLE, photos: int = PHOTOS) -> dict[str, bytes]:
    """Photos of drawn people, one folder a person."""
    settings = DrawnPeople()
    return {
        f"person{person:03}/{number}.jpg": encoded(
            draw_photo(settings.seed, person, number, 1), "JPEG", quality=settings.jpeg_quality
        )
        for person in track(range(people), "drawing")
        for number in range(photos)
    }


def prepare(root: Path, settings: Params) -> Path:
    """Run both stages; the folder of the faces."""
    source, raw, faces = root / "source", root / "data" / "raw", root / "data" / "faces"
    fetch_faces.run(settings, source=source, out=raw, recorder=NullRecorder())
    prepare_faces.run(settings, source=source, raw=raw, out=faces, recorder=NullRecorder())
    return faces


def write_source(root: Path, kind: str, photos: Mapping[str, bytes]) -> None:
    """A zip or a folder of photos at the place of the source."""
    clear(root)
    (write_zip if kind == "zip" else write_folder)(root / "source" / SOURCE, photos)


def clear(root: Path) -> None:
    """Remove source and output."""
    for path in (root / "source", root / "data"):
        shutil.rmtree(path, ignore_errors=True)
    (root / "source").mkdir(parents=True)
