"""Whether an answer shows the same person: cosine similarity of dlib's face descriptors (docs/paper.md, M3).

The descriptor is a network that no loss of the project knows: dlib's ResNet, 128 numbers a face. A face is cut out by
five landmarks that are found once, on the ground truth, and used for every answer to it: pictures are then compared by
what they show, not by where a detector saw a face.

The only module that imports dlib; the extra `identity` installs it with its weights. dlib holds Python's lock while it
computes, so processes run it side by side, and threads do not.
"""

from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gwainet.errors import ExtraError
from gwainet.files import file_digest
from gwainet.images import Uint8

Floats = npt.NDArray[np.float64]

IDENTITY_METRIC = "identity_similarity"
LENGTH = 128  # numbers of a descriptor
IDENTITY_CONVENTION = (
    "-1 to 1, higher is better: cosine of dlib's face descriptors (ResNet, 128 numbers) of the answer and of the "
    "ground truth, both cut out by the five landmarks that were found on the ground truth; the network was no loss. "
    "Two people read far above 0: compare with the rows of bicubic and of the guides"
)

# The package of the weights also holds a 68-point predictor for non-commercial use only: it is never opened.
_DESCRIPTOR = "dlib_face_recognition_resnet_model_v1.dat"
_LANDMARK_WEIGHTS = "shape_predictor_5_face_landmarks.dat"


class FaceNetwork(NamedTuple):
    """What is installed: dlib's version and SHA-256 of the weights."""

    dlib: str
    descriptor_digest: str
    landmarks_digest: str


class Similarities(NamedTuple):
    """Cosine similarity to the ground truth by name; whether the detector found a face on the ground truth."""

    cosines: dict[str, float]
    found: bool


class Face(NamedTuple):
    """Where the face of a ground truth is, and its descriptor.

    Attributes:
        box: left, top, right, bottom of what the detector found, or of the usual place, pixels.
        points: x and y of five landmarks, (5, 2), pixels.
        descriptor: (128,).
        found: whether the detector found a face.
    """

    box: tuple[int, int, int, int]
    points: npt.NDArray[np.int64]
    descriptor: Floats
    found: bool


class _Models(NamedTuple):
    dlib: Any
    detector: Any
    landmarks: Any
    descriptor: Any


def face_network() -> FaceNetwork:
    """Which network `similarities` uses.

    Raises:
        ExtraError: dlib or its weights are not installed.
    """
    digests = (file_digest(_weights(name)) for name in (_DESCRIPTOR, _LANDMARK_WEIGHTS))
    return FaceNetwork(_models().dlib.__version__, *digests)


def similarities(gt: Uint8, answers: Mapping[str, Uint8]) -> Similarities:
    """How much the face of each answer is the ground truth's (M3). Equal pictures are described once.

    Shapes: (H, W, 3), name -> (H, W, 3) of the same size.
    Units: cosine, -1 to 1.

    Raises:
        ExtraError: dlib or its weights are not installed.
        ValueError: a picture is not uint8 or of another size than the ground truth.
    """
    face, described = described_as(gt, answers)
    return Similarities({name: cosine(made, face.descriptor) for name, made in described.items()}, face.found)


def cosine(a: Floats, b: Floats) -> float:
    """Cosine of two descriptors. Shapes: (128,), (128,) -> -1 to 1."""
    return float((a / np.linalg.norm(a)) @ (b / np.linalg.norm(b)))


def described_as(gt: Uint8, answers: Mapping[str, Uint8], face: Face | None = None) -> tuple[Face, dict[str, Floats]]:
    """The descriptor of each answer, cut out where the ground truth's face is. Equal pictures are described once.

    Args:
        gt: ground truth, (H, W, 3).
        answers: name -> picture of the same size.
        face: of `gt`, where an earlier call found it; its detector and descriptor then need not run again.

    Returns:
        the ground truth's face, and name -> (128,).

    Raises:
        ExtraError: dlib or its weights are not installed.
        ValueError: a picture is not uint8 or of another size than the ground truth.
    """
    for name, picture in answers.items():
        if picture.shape != gt.shape or picture.dtype != np.uint8:
            raise ValueError(f"{name}: a uint8 picture of {gt.shape}, not {picture.dtype} of {picture.shape}")
    dlib, _, _, network = _models()
    truth = np.ascontiguousarray(gt)
    if face is None:
        shape, found = _landmarks(truth)
    else:
        points = [dlib.point(int(x), int(y)) for x, y in face.points]
        shape, found = dlib.full_object_detection(dlib.rectangle(*face.box), points), face.found
    keys = {name: picture.tobytes() for name, picture in answers.items()}
    distinct = {keys[name]: np.ascontiguousarray(answers[name]) for name in answers}
    known: dict[bytes, Floats] = {} if face is None else {gt.tobytes(): face.descriptor}
    wanted = {key: picture for key, picture in ({gt.tobytes(): truth} | distinct).items() if key not in known}
    if wanted:
        chips = [dlib.get_face_chip(picture, shape) for picture in wanted.values()]
        known |= zip(wanted, np.array(network.compute_face_descriptor(chips)), strict=True)
    if face is None:
        box = shape.rect
        places = np.array([(point.x, point.y) for point in shape.parts()], np.int64)
        face = Face((box.left(), box.top(), box.right(), box.bottom()), places, known[gt.tobytes()], found)
    return face, {name: known[key] for name, key in keys.items()}


def descriptor(picture: Uint8) -> tuple[Floats, bool]:
    """A face's 128 numbers, cut out by its own landmarks, and whether the detector found a face.

    Two photos of one person are usually nearer than `check_faces.identity_distance` (Euclidean), dlib's own limit.

    Shapes: (H, W, 3) -> (128,).

    Raises:
        ExtraError: dlib or its weights are not installed.
    """
    dlib = _models().dlib
    truth = np.ascontiguousarray(picture)
    shape, found = _landmarks(truth)
    return np.array(_models().descriptor.compute_face_descriptor(dlib.get_face_chip(truth, shape))), found


def _landmarks(picture: Uint8) -> tuple[Any, bool]:
    """The five landmarks of the largest face, or of the usual place; whether the detector found one."""
    dlib, detector, landmarks, _ = _models()
    faces = detector(picture)
    box = max(faces, key=lambda face: face.area()) if faces else dlib.rectangle(*_usual_box(*picture.shape[:2]))
    return landmarks(picture, box), bool(faces)


def _usual_box(height: int, width: int) -> tuple[int, int, int, int]:
    """Where the detector usually finds the face of an aligned crop: a square (docs/paper.md, M3).

    Returns:
        left, top, right, bottom in pixels.
    """
    left, top, side = 0.14 * width, 0.63 * height - 0.36 * width, 0.72 * width
    return round(left), round(top), round(left + side), round(top + side)


@cache  # once a process: the weights are 31 MB
def _models() -> _Models:
    try:
        import dlib
    except ImportError as error:
        raise _missing() from error
    return _Models(
        dlib,
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(str(_weights(_LANDMARK_WEIGHTS))),
        dlib.face_recognition_model_v1(str(_weights(_DESCRIPTOR))),
    )


def _weights(name: str) -> Path:
    """A file of the package `face_recognition_models`, which needs a removed part of setuptools to be imported."""
    try:
        files = metadata.files("face_recognition_models") or []
    except metadata.PackageNotFoundError as error:
        raise _missing() from error
    for file in files:
        if file.name == name and (path := Path(str(file.locate()))).is_file():
            return path
    raise _missing()


def _missing() -> ExtraError:
    return ExtraError(
        "identity similarity needs dlib and its weights, which are not installed: pip install 'gwainet[identity]', "
        "or set check_faces.identity and benchmark.identity to `off`"
    )
