"""How far a system's pictures lie from the true ones as a whole, in the space of an independent face network.

The space is that of dlib's face descriptors (`gwainet.identity`, 128 numbers), so neither figure is an FID or a KID,
which are of Inception's features: no published figure may be compared with them. Both are of sets, not of pairs: a
system that gave every face to somebody else would come to 0. Lower is better.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import qr, svdvals

Floats = npt.NDArray[np.float64]

FRECHET, KERNEL = "identity_frechet", "identity_kernel"
LEAST = 2  # pictures of a set, below which there is no covariance
_ROWS = 2048  # of the kernel's matrix at a time: 20,000 pictures would take 3 GB

DISTANCE_CONVENTIONS = {
    FRECHET: (
        "a squared distance, 0 or more, lower is better: Frechet distance between Gaussians of mean and covariance of "
        "dlib's face descriptors (128 numbers) of a split's answers and of its ground truth. Of few images it reads "
        "too high, so that rows of the same number of images alone may be compared; of 128 images or fewer the "
        "covariances do not span the space. Not an FID"
    ),
    KERNEL: (
        "a squared distance, lower is better: unbiased estimate of the squared maximum mean discrepancy between the "
        "same descriptors, kernel (x.y / 128 + 1)^3; where there is no difference it may fall below 0. Not a KID"
    ),
}


class Distances(NamedTuple):
    """Of two sets of descriptors; squared distances in the descriptors' own unit."""

    frechet: float
    kernel: float


def distances(a: npt.ArrayLike, b: npt.ArrayLike) -> Distances:
    """Both distances between two sets. Shapes: (n, d), (m, d) -> two numbers.

    Raises:
        ValueError: these are not two sets of `LEAST` finite descriptors or more, all of one length.
    """
    return Distances(frechet_distance(a, b), kernel_distance(a, b))


def frechet_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) (Heusel et al., NIPS 2017, Eq. 6).

    Covariances are divided by n - 1. With C_a = R_a' R_a and C_b = R_b' R_b the root's trace is the sum of the singular
    values of R_a R_b': no root of a matrix that is not symmetric, which rounding makes complex where a covariance is
    singular.

    Shapes: (n, d), (m, d) -> a number, 0 or more.

    Raises:
        ValueError: as `distances`.
    """
    first, second = _sets(a, b)
    shift = first.mean(axis=0) - second.mean(axis=0)
    r_a, r_b = _factor(first), _factor(second)
    root = svdvals(r_a @ r_b.T).sum()
    return max(0.0, float(shift @ shift + np.square(r_a).sum() + np.square(r_b).sum() - 2 * root))


def kernel_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Unbiased squared maximum mean discrepancy, kernel (x.y / d + 1)^3 (Gretton et al., JMLR 2012, Eq. 3).

    The kernel is that of Binkowski et al. (ICLR 2018). Pairs of a picture with itself are left out within a set.

    Shapes: (n, d), (m, d) -> a number, which may be below 0.

    Raises:
        ValueError: as `distances`.
    """
    first, second = _sets(a, b)
    within = (_total(one, one) - _with_itself(one) for one in (first, second))
    of_a, of_b = (total / (len(one) * (len(one) - 1)) for total, one in zip(within, (first, second), strict=True))
    return of_a + of_b - 2 * _total(first, second) / (len(first) * len(second))


def _factor(a: Floats) -> Floats:
    """R with R'R = the covariance. Shapes: (n, d) -> (min(n, d), d)."""
    factor: Floats = qr((a - a.mean(axis=0)) / np.sqrt(len(a) - 1), mode="r")[0][: a.shape[1]]
    return factor


def _total(a: Floats, b: Floats) -> float:
    """Sum of the kernel over all pairs. Shapes: (n, d), (m, d) -> a number."""
    return sum(float(_kernel(part @ b.T, a.shape[1]).sum()) for part in _parts(a))


def _with_itself(a: Floats) -> float:
    """Sum of the kernel over the pairs of a picture with itself. Shapes: (n, d) -> a number."""
    return float(_kernel(np.square(a).sum(axis=1), a.shape[1]).sum())


def _kernel(products: Floats, length: int) -> Floats:
    cubed: Floats = (products / length + 1) ** 3
    return cubed


def _parts(a: Floats) -> Iterator[Floats]:
    for start in range(0, len(a), _ROWS):
        yield a[start : start + _ROWS]


def _sets(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Floats, Floats]:
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1:] != second.shape[1:]:
        raise ValueError(f"two sets of descriptors (n, d) of one length, not {first.shape} and {second.shape}")
    if min(len(first), len(second)) < LEAST:
        raise ValueError(f"{LEAST} descriptors a set or more, not {len(first)} and {len(second)}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a descriptor is not finite")
    return first, second
