"""What photos of a data set are like, as distributions: blur, exposure, black borders; and how far two sets differ.

A record holds each statistic's quantiles, so that a data set can be compared with an earlier one whose photos are gone.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from scipy.stats import ks_2samp, wasserstein_distance

from gwainet.images import Uint8

QUANTILES = 200  # steps: a distance between two records is exact to about half a percent
BLACK = 8  # of 255: JPEG leaves noise in a black border
BLACK_LINE = 0.95  # share of a row's or column's values that must be black for it to be border

Values = npt.NDArray[np.float64]


class Statistic(NamedTuple):
    """A number of a photo: its title, its unit, what it tells, and which end of it people should look at."""

    title: str
    unit: str
    tells: str
    extreme: str  # "lowest" or "highest"
    extreme_title: str


STATISTICS = {
    "sharpness": Statistic(
        "Sharpness", "grey levels²", "Variance of the Laplacian of luma; blur lowers it", "lowest", "The most blurred"
    ),
    "brightness": Statistic("Brightness", "of 255", "Mean of all values: exposure", "highest", "The brightest"),
    "dark": Statistic(
        "Dark end",
        "of 255",
        "5th percentile of luma; high where nothing is dark: haze",
        "highest",
        "The palest blacks",
    ),
    "bright": Statistic(
        "Bright end", "of 255", "95th percentile of luma; low where underexposed", "lowest", "The least exposed"
    ),
    "border": Statistic(
        "Black border",
        "pixels",
        "Black rows or columns at the edge, of the side that has most",
        "highest",
        "The widest black borders",
    ),
    "outline": Statistic(
        "Black outline",
        "of the outline",
        "Share of the outermost pixels that are black: corners of a rotated photo, or a dark background",
        "highest",
        "The blackest outlines",
    ),
}


class Shift(NamedTuple):
    """How a statistic differs between two data sets.

    Attributes:
        statistic: name.
        median_before: of the earlier data set.
        median_now: of this one.
        distance: Kolmogorov and Smirnov's, 0 to 1: the largest difference between the two cumulative distributions.
        moved: Wasserstein's distance, in the statistic's unit: how far a value has moved on average.
        unit: of the statistic.
    """

    statistic: str
    median_before: float
    median_now: float
    distance: float
    moved: float
    unit: str


def measure(crop: Uint8) -> tuple[float, ...]:
    """The statistics of a crop, in the order of `STATISTICS`. Shapes: (H, W, 3) -> numbers."""
    luma = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    sharpness = float(cv2.meanStdDev(cv2.Laplacian(luma, cv2.CV_32F))[1][0, 0]) ** 2
    cumulative = np.bincount(luma.ravel(), minlength=256).cumsum()
    dark, bright = (int(np.searchsorted(cumulative, share * luma.size)) for share in (0.05, 0.95))
    return sharpness, float(np.mean(cv2.mean(crop)[:3])), dark, bright, *_black(luma)


def _black(luma: Uint8) -> tuple[int, float]:
    """Rows or columns of black at the edge, and the share of the outermost pixels that are black."""
    black = luma <= BLACK
    rows, columns = (black.mean(axis=axis) >= BLACK_LINE for axis in (1, 0))
    border = max(_leading(lines) for side in (rows, columns) for lines in (side, side[::-1]))
    outline = np.concatenate([black[0], black[-1], black[1:-1, 0], black[1:-1, -1]])
    return border, float(outline.mean())


def _leading(lines: npt.NDArray[np.bool_]) -> int:
    """How many are true before the first that is not."""
    return len(lines) if lines.all() else int(lines.argmin())


def record(values: Mapping[str, Values], digest: str) -> dict[str, Any]:
    """A data set's distributions, as `distributions.json` holds them.

    Args:
        values: statistic -> (N,) numbers.
        digest: of the data set.
    """
    shares = np.linspace(0, 1, QUANTILES + 1)
    quantiles = {name: [float(f"{q:.6g}") for q in np.quantile(of, shares)] for name, of in values.items()}
    return {"format": 1, "digest": digest, "images": len(next(iter(values.values()))), "quantiles": quantiles}


def shifts(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[Shift]:
    """How each statistic that both records hold has changed."""
    before, after = earlier["quantiles"], now["quantiles"]
    return [
        Shift(
            name,
            float(np.median(before[name])),
            float(np.median(after[name])),
            float(ks_2samp(before[name], after[name], method="asymp").statistic),
            float(wasserstein_distance(before[name], after[name])),
            STATISTICS[name].unit,
        )
        for name in after
        if name in before
    ]
