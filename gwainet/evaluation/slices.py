"""Groups of images that a gain is looked at apart for: by sharpness, pose and skin tone (docs/paper.md, M7)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.object_]

SMALLEST_GROUP = 10  # people: a 95 % interval over fewer misses the truth too often (docs/paper.md, M8)
THIRDS = ("low", "middle", "high")
TONES = {"dark": -30.0, "brown": 10.0, "tan": 28.0, "intermediate": 41.0, "light": 55.0, "very_light": np.inf}  # up to
UNDEFINED = "undefined"


def thirds(values: Floats) -> Groups:
    """The lowest, the middle and the highest third of a split's values; equal values share a group."""
    return np.array(THIRDS, object)[np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values, side="left")]


def tones(angles: Floats) -> Groups:
    """The usual classes of the individual typology angle (Del Bino and Bernerd 2013); NaN is `undefined`."""
    names = np.array([*TONES, UNDEFINED], object)
    return names[np.searchsorted(list(TONES.values()), angles, side="left")]  # NaN is sorted after infinity


@dataclass(frozen=True)
class Slice:
    """What images are sorted by.

    Attributes:
        title: on pages.
        unit: as it follows its values.
        says: what the number is and what it is not.
        groups: every group, in the order of tables.
        group: values of a split's images -> the group of each.
    """

    title: str
    unit: str
    says: str
    groups: tuple[str, ...]
    group: Callable[[Floats], Groups]


SLICES = {
    "sharpness": Slice(
        "Sharpness of the target",
        "",
        "variance of the Laplacian of the target's luma: how much fine detail there is to be found. Blur lowers it, "
        "hair and beards raise it. Thirds of the split's images",
        THIRDS,
        thirds,
    ),
    "guide_sharpness": Slice(
        "Sharpness of the guide",
        "",
        "the same of the person's own guide: how much fine detail there is to take over. Thirds of the split's images",
        THIRDS,
        thirds,
    ),
    "pose_difference": Slice(
        "Pose difference to the guide",
        " px",
        "mean sideways displacement, in the face's square, of the optical flow (OpenCV's DIS) from the target to the "
        "person's own guide. No pose is measured: shifts, expression and light have their share. Thirds of the split's "
        "images",
        THIRDS,
        thirds,
    ),
    "skin_tone": Slice(
        "Skin tone in the photo",
        "°",
        "individual typology angle of the median colour between eyes and mouth, in CIELAB, in its usual classes (above "
        "55, 41, 28, 10, -30 degrees). It describes the photo, not the person: dim light reads darker. Undefined where "
        "that colour is no yellower than grey",
        (*reversed(TONES), UNDEFINED),
        tones,
    ),
}
