"""What a face and its guide look like, in numbers from pixels alone: no landmark, no network (docs/paper.md, M7).

Pictures are uint8 (H, W, 3) RGB. The numbers sort photos into slices; none of them is a fact about a person.
"""

import cv2
import numpy as np
from scipy.ndimage import laplace
from skimage.color import rgb2lab

from gwainet.images import Uint8
from gwainet.metrics import luma

# where the face lies in a crop, as shares of the picture: the square of docs/paper.md, M3, and the cheeks within it
FACE = (0.63, 0.5, 0.72)  # centre's y of H and x of W, side of W
CHEEKS = (0.63, 0.5, 0.2, 0.4)  # centre's y of H and x of W, height of H, width of W: between eyes and mouth
LEAST_YELLOW = 1.0  # b* of CIELAB: about the least difference that is seen; a grey photo would be very light or dark


def appearance(target: Uint8, guide: Uint8) -> dict[str, float]:
    """The numbers that slices go by, for a target and the person's own guide.

    Shapes: (H, W, 3), (H, W, 3) -> a number each of `slices.SLICES`.
    """
    return {
        "sharpness": sharpness(target),
        "guide_sharpness": sharpness(guide),
        "pose_difference": pose_difference(target, guide),
        "skin_tone": skin_tone(target),
    }


def sharpness(picture: Uint8) -> float:
    """Variance of the Laplacian of luma: how much fine detail a picture has.

    Blur lowers it; hair and beards raise it.

    Shapes: (H, W, 3) -> a number.
    Units: squared grey levels.
    """
    return float(laplace(luma(picture)).var())


def pose_difference(target: Uint8, guide: Uint8) -> float:
    """How far, on average, the face's pixels move sideways from the target to the guide: a stand-in for the turn.

    The displacement is that of a dense optical flow (Kroeger et al. 2016, OpenCV's DIS). It depends on no trained
    model, so that models can be compared on the same slices. Shifts, expression and light have their share in it.

    Shapes: (H, W, 3), (H, W, 3) -> a number.
    Units: pixels.
    """
    cv2.setNumThreads(1)  # images are the parallelism, and the number of threads must not change a figure
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    first, second = (np.rint(luma(picture)).astype(np.uint8) for picture in (target, guide))
    moved = flow.calc(first, second, np.zeros((*first.shape, 2), np.float32))  # (H, W, 2), x first
    height, width = first.shape
    y, x, side = FACE
    inside = _window(y * height, x * width, side * width, side * width)
    return float(np.abs(moved[inside][..., 0]).mean(dtype=np.float64))


def skin_tone(picture: Uint8) -> float:
    """Individual typology angle of the cheeks' median colour: atan((L* - 50) / b*) in CIELAB (Chardon et al. 1991).

    Light, make-up and white balance move it: it describes the photo.

    Shapes: (H, W, 3) -> a number.
    Units: degrees, larger is lighter; NaN where b* is below `LEAST_YELLOW`: no skin in white light.
    """
    height, width = picture.shape[:2]
    y, x, tall, wide = CHEEKS
    cheeks = picture[_window(y * height, x * width, tall * height, wide * width)]
    lightness, _, yellow = np.median(rgb2lab(cheeks).reshape(-1, 3), axis=0)
    if yellow < LEAST_YELLOW:
        return float("nan")
    return float(np.degrees(np.arctan2(lightness - 50, yellow)))


def _window(y: float, x: float, height: float, width: float) -> tuple[slice, slice]:
    """Rows and columns of a box about a centre, in pixels."""
    return (
        slice(max(0, round(y - height / 2)), round(y + height / 2)),
        slice(max(0, round(x - width / 2)), round(x + width / 2)),
    )
