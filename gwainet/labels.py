"""Doubtful labels: photos whose face is far from the person's other photos, by dlib's descriptors (optional).

A photo of another person under a name is a wrong guide and a wrong target. The distance is the median of the Euclidean
distances to the person's other photos, so that a single wrong photo does not make the right ones doubtful; of two
photos of a person nobody can say which is wrong, and both are told.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial.distance import cdist

from gwainet.errors import ExtraError
from gwainet.identity import descriptor, face_network
from gwainet.images import Uint8
from gwainet.params import CheckFaces
from gwainet.progress import progress, say
from gwainet.workers import cores, ordered_map

_CHUNK = 16  # crops sent to a process at a time

Descriptors = npt.NDArray[np.float64]


def wanted(settings: CheckFaces) -> bool:
    """Whether labels are looked at.

    Raises:
        ExtraError: `check_faces.identity` is `on` and dlib or its weights are not installed.
    """
    if settings.identity == "off":
        return False
    try:
        face_network()
    except ExtraError:
        if settings.identity == "on":
            raise
        say("labels are not looked at: the extra `identity` is not installed (check_faces.identity: auto)")
        return False
    return True


def described(images: pd.DataFrame, crops: Uint8, settings: CheckFaces, workers: int) -> pd.DataFrame:
    """The images with `label_distance`, `face_found` and `label_twin`, the person's photo that is most typical.

    All three are missing where a face was not described: beyond `check_faces.identity_images`, or the only one.

    Args:
        images: identity and split of each image.
        crops: (N, H, W, 3), may lie in a file.
        settings: limits.
        workers: processes, 0 for one a core.
    """
    people = chosen_people(images, settings.identity_images)
    rows = np.concatenate([*people, np.empty(0, np.int64)]).astype(np.int64)
    descriptors, found = _describe(crops, rows, workers)
    distance, twin = np.full(len(images), np.nan), np.full(len(images), np.nan)
    face_found: npt.NDArray[np.object_] = np.full(len(images), None, object)
    face_found[rows] = found.tolist()
    start = 0
    for person in people:
        apart, typical = distances(descriptors[start : start + len(person)])
        distance[person], twin[person] = apart, person[typical]
        start += len(person)
    return images.assign(label_distance=distance, face_found=face_found, label_twin=twin)


def distances(descriptors: Descriptors) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Of each photo of a person the median distance to the others, and which other is the most typical (the medoid).

    Shapes: (P, D) -> (P,), (P,), P >= 2.
    """
    apart = cdist(descriptors, descriptors)
    others = apart[~np.eye(len(apart), dtype=bool)].reshape(len(apart), -1)
    first, second = np.argsort(apart.sum(axis=1), kind="stable")[:2]
    typical = np.where(np.arange(len(apart)) == first, second, first)  # a photo is not shown beside itself
    return np.median(others, axis=1), typical


def chosen_people(images: pd.DataFrame, most: int | None) -> list[npt.NDArray[np.int64]]:
    """Rows of each person to describe: whole people of two photos or more, in an order drawn by seed 0, up to `most`.

    A person's photos in several splits count together.
    """
    groups = [np.asarray(rows, np.int64) for rows in images.groupby("identity", sort=True).indices.values()]
    several = [rows for rows in groups if len(rows) > 1]
    left = len(images) if most is None else most
    kept = []
    for index in np.random.default_rng(0).permutation(len(several)):
        if len(several[index]) <= left:
            kept.append(several[index])
            left -= len(several[index])
    return kept


def what_was_done(settings: CheckFaces, images: pd.DataFrame | None) -> dict[str, Any]:
    """What `validation.json` says: whether labels were looked at, and on how many images and people."""
    if images is None:
        return {"identity": settings.identity, "measured": False}
    measured = images[images["label_distance"].notna()]
    values = measured["label_distance"]
    return {
        "identity": settings.identity,
        "measured": True,
        "images": len(measured),
        "identities": int(measured["identity"].nunique()),
        "limit": settings.identity_distance,
        "doubtful": int((values > settings.identity_distance).sum()),
        "median": float(values.median()) if len(values) else None,
    }


def _describe(crops: Uint8, rows: npt.NDArray[np.int64], workers: int) -> tuple[Descriptors, npt.NDArray[np.bool_]]:
    """Descriptors of rows, and whether a face was found; dlib holds Python's lock, so processes share the work."""
    descriptors, found = np.empty((len(rows), 128)), np.empty(len(rows), bool)
    done = 0
    several = min(workers or cores(), -(-len(rows) // _CHUNK))
    chunks = _chunks(crops, rows)
    results = ordered_map(_describe_chunk, chunks, several) if several > 1 else (_describe_chunk(c) for c in chunks)
    with (
        closing(results),
        progress("Describing faces", len(rows), "images") as bar,
    ):
        for chunk in results:
            for numbers, seen in chunk:
                descriptors[done], found[done] = numbers, seen
                done += 1
            bar.advance(len(chunk))
    return descriptors, found


def _chunks(crops: Uint8, rows: npt.NDArray[np.int64]) -> Iterator[Uint8]:
    for start in range(0, len(rows), _CHUNK):
        yield np.asarray(crops[rows[start : start + _CHUNK]])


def _describe_chunk(crops: Uint8) -> list[tuple[Descriptors, bool]]:
    return [descriptor(crop) for crop in crops]
