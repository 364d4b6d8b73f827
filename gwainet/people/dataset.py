"""Drawn people in CelebA's own layout: a zip of aligned photos, identities, partition, landmarks."""

import io
import zipfile
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from gwainet.params import DrawnPeople
from gwainet.people.photo import draw_photo_and_landmarks
from gwainet.progress import progress
from gwainet.workers import cores, ordered_map

IMAGES, IDENTITIES, PARTITION = "img_align_celeba.zip", "identity_CelebA.txt", "list_eval_partition.txt"
LANDMARKS_LIST = "list_landmarks_align_celeba.txt"
_COLUMNS = " ".join(
    f"{point}_{axis}" for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
)
_Drawn = tuple[bytes, str]  # a JPEG file, and its line of landmarks without the name
TRAIN, VALIDATION, TEST = 0, 1, 2
CHUNK = 4  # people drawn by a process at a time
_LAYOUT = (0, 0, 0)  # stream of random numbers: people have keys of one number, photos of two, the layout of three


@dataclass(frozen=True)
class Counts:
    """What was written."""

    photos: int
    identities: int


@dataclass(frozen=True)
class _Layout:
    """Which photo has which number, and which person is in which partition."""

    order: list[tuple[int, int]]  # (identity, photo) of 000001.jpg, 000002.jpg, ...
    partition: list[int]  # of each identity


def _layout(params: DrawnPeople) -> _Layout:
    random = np.random.default_rng(np.random.SeedSequence(params.seed, spawn_key=_LAYOUT))
    counts = random.integers(params.photos[0], params.photos[1] + 1, params.people)
    photos = [(identity, photo) for identity in range(params.people) for photo in range(counts[identity])]
    order = [photos[index] for index in random.permutation(len(photos))]
    validation, test = round(params.people * params.validation), round(params.people * params.test)
    partition = [TRAIN] * params.people
    for place, identity in enumerate(random.permutation(params.people).tolist()):
        if place < validation:
            partition[identity] = VALIDATION
        elif place < validation + test:
            partition[identity] = TEST
    return _Layout(order, partition)


def split_sizes(params: DrawnPeople) -> tuple[int, int, int]:
    """Photos of the training, the validation and the test split, before any is drawn."""
    layout = _layout(params)
    split = np.array(layout.partition)[[identity for identity, _ in layout.order]]
    return int((split == TRAIN).sum()), int((split == VALIDATION).sum()), int((split == TEST).sum())


def _jpegs(params: DrawnPeople, people: list[tuple[int, int]]) -> list[tuple[int, list[_Drawn]]]:
    """All photos of some people (identity, photos), as JPEG files with their landmarks."""
    cv2.setNumThreads(1)  # the processes are the parallelism
    result = []
    for identity, count in people:
        files = []
        for photo in range(count):
            buffer = io.BytesIO()
            pixels, places = draw_photo_and_landmarks(params.seed, identity, photo, params.supersampling)
            Image.fromarray(pixels).save(buffer, "JPEG", quality=params.jpeg_quality, subsampling=0)
            files.append((buffer.getvalue(), " ".join(f"{place:.2f}" for place in places.ravel().tolist())))
        result.append((identity, files))
    return result


def _draw(
    params: DrawnPeople, people: list[tuple[int, int]], workers: int
) -> Generator[list[tuple[int, list[_Drawn]]], None, None]:
    chunks = [people[start : start + CHUNK] for start in range(0, len(people), CHUNK)]
    if workers == 1:
        for chunk in chunks:
            yield _jpegs(params, chunk)
        return
    with closing(ordered_map(partial(_jpegs, params), chunks, min(workers, len(chunks)))) as results:
        yield from results


def write_people(params: DrawnPeople, out: Path, workers: int = 0) -> Counts:
    """Draw people and write them to the directory `out` as CelebA is laid out.

    The bytes depend on `params` alone, not on how many processes drew them.

    Args:
        params: how many people, photos, and from which seed.
        out: an existing directory.
        workers: processes; 0 is one for each core.
    """
    layout = _layout(params)
    counts = [0] * params.people
    for identity, _ in layout.order:
        counts[identity] += 1
    drawn: dict[int, list[_Drawn]] = {}
    drawing = _draw(params, list(enumerate(counts)), workers or cores())
    with closing(drawing), progress("Drawing people", len(layout.order), "photos") as ticker:
        for batch in drawing:
            for identity, files in batch:
                drawn[identity] = files
                ticker.advance(len(files))
    names = [f"{number:06d}.jpg" for number in range(1, len(layout.order) + 1)]
    with zipfile.ZipFile(out / IMAGES, "w", zipfile.ZIP_STORED) as archive:
        for name, (identity, photo) in zip(names, layout.order, strict=True):
            archive.writestr(zipfile.ZipInfo(f"img_align_celeba/{name}"), drawn[identity][photo][0])
    rows = list(zip(names, layout.order, strict=True))
    identities = "".join(f"{name} {identity + 1}\n" for name, (identity, _) in rows)
    (out / IDENTITIES).write_text(identities, encoding="ascii")
    partition = "".join(f"{name} {layout.partition[identity]}\n" for name, (identity, _) in rows)
    (out / PARTITION).write_text(partition, encoding="ascii")
    places = "".join(f"{name} {drawn[identity][photo][1]}\n" for name, (identity, photo) in rows)
    (out / LANDMARKS_LIST).write_text(f"{len(rows)}\n{_COLUMNS}\n{places}", encoding="ascii")
    return Counts(len(layout.order), params.people)
