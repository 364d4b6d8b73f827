"""Which images and guides each step sees: a pure function of (seed, step), so a resumed training continues exactly.

Of several processes each draws the whole batch and gathers its share of the pictures alone.

Streams keep the draws of different purposes apart: the critic's batches, the generator's, the guides.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from gwainet.dataset import Batch, Faces, Rows
from gwainet.errors import DataError
from gwainet.training.distributed import share

Stream = Literal["generator", "critic", "pairs"]
_STREAMS: dict[Stream, int] = {"generator": 0, "critic": 1, "pairs": 2}
_ORDER, _DRAWS, _EPSILON = 0, 1, 2  # independent sub-seeds of a stream


def generator_for(seed: int, *path: int) -> np.random.Generator:
    """A random generator of its own for every path of numbers below a seed."""
    return np.random.default_rng(np.random.SeedSequence((seed, *path)))


class BatchSampler:
    """Endless batches over shuffled epochs of the training targets (Sec. 4.1: a guide is drawn at each access).

    Args:
        faces: prepared faces.
        batch_size: targets of a batch, of all processes together.
        seed: of order, guides and flips.
        stream: batches of another stream are drawn independently.
        horizontal_flip: mirror target and guide independently, half of the time (D10).
        guide_dropout: share of the targets without a guide.
        other_guides: share of the targets that get a photo of another person as their guide.

    Raises:
        DataError: there are no training targets, or no other people to take guides of.
    """

    def __init__(
        self,
        faces: Faces,
        batch_size: int,
        seed: int,
        stream: Stream,
        horizontal_flip: bool = False,
        *,
        guide_dropout: float = 0.0,
        other_guides: float = 0.0,
    ) -> None:
        self.faces, self.batch_size, self.seed, self.stream = faces, batch_size, seed, _STREAMS[stream]
        self.horizontal_flip, self.guide_dropout, self.other_guides = horizontal_flip, guide_dropout, other_guides
        self.targets = faces.targets("train")
        self.split_end = int((faces.manifest["split"] == "train").sum())  # the training split's rows come first
        if not len(self.targets):
            raise DataError("the training split has no targets: prepare more photos, or lower the shares of the others")
        if other_guides and (faces.identity_size[: self.split_end] == self.split_end).any():
            raise DataError("other_guides needs photos of two people or more in the training split")
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    def _shuffled(self, epoch: int) -> Rows:
        return generator_for(self.seed, self.stream, _ORDER, epoch).permutation(self.targets)

    def rows(self, step: int) -> Rows:
        """Targets of step 0, 1, ...; a batch may reach from one epoch's end into the next one's start."""
        count = len(self.targets)
        start, end = step * self.batch_size, (step + 1) * self.batch_size
        epochs = range(start // count, (end - 1) // count + 1)
        parts = [self._epoch(epoch)[max(start - epoch * count, 0) : end - epoch * count] for epoch in epochs]
        return np.concatenate(parts)

    def draws(self, step: int) -> np.random.Generator:
        """The random generator of a step's guides and flips."""
        return generator_for(self.seed, self.stream, _DRAWS, step)

    def batch(self, step: int, device: torch.device) -> Batch:
        """The batch of a step: this process's share of it."""
        rows, draws, own = self.rows(step), self.draws(step), share(self.batch_size)
        guides = self.faces.draw_guides(rows, draws)
        flip = flip_guide = drop = None
        if self.horizontal_flip:
            flips: npt.NDArray[np.bool_] = draws.random((2, len(rows))) < 0.5
            flip, flip_guide = flips[0, own], flips[1, own]
        if self.guide_dropout or self.other_guides:
            # one number decides for both, so that they exclude each other and shares are as asked
            lot = draws.random(len(rows))
            drop = (lot < self.guide_dropout)[own]
            other = self.faces.draw_others(rows, 0, self.split_end, draws)
            guides = np.where(lot >= 1 - self.other_guides, other, guides)
        return self.faces.batch(rows[own], guides[own], device, flip, flip_guide, drop)

    def epsilon(self, step: int, device: torch.device) -> torch.Tensor:
        """Epsilon of the gradient penalty, one a sample (Eq. 8; L7). Shapes: -> (B, 1, 1, 1)."""
        draw = generator_for(self.seed, self.stream, _EPSILON, step).random(self.batch_size, dtype=np.float32)
        return torch.from_numpy(draw[share(self.batch_size)]).to(device).view(-1, 1, 1, 1)


class PairSampler:
    """Pairs of faces, half of them of one person (L5), for Inet's pretraining."""

    def __init__(self, faces: Faces, batch_size: int, seed: int) -> None:
        self.faces, self.seed = faces, seed
        self.anchors = BatchSampler(faces, batch_size, seed, "pairs")

    def rows(self, step: int) -> tuple[Rows, Rows, npt.NDArray[np.float32]]:
        """First and second picture of each pair of this process's share, and 1 where they show one person."""
        first, draws = self.anchors.rows(step), self.anchors.draws(step)
        second, same = draw_partners(self.faces, first, 0, self.anchors.split_end, draws)
        own = share(len(first))
        return first[own], second[own], same[own]


def draw_partners(
    faces: Faces, first: Rows, start: int, end: int, draws: np.random.Generator
) -> tuple[Rows, npt.NDArray[np.float32]]:
    """A partner for each row: another photo of the person, or any photo of another one among rows [start, end).

    Returns:
        the partners' rows, and 1 where they show the same person; 1:1 as near as the count allows.
    """
    same = draws.permutation(np.arange(len(first)) % 2 == 0)
    own = faces.draw_guides(first, draws)
    other = faces.draw_others(first, start, end, draws)
    return np.where(same, own, other).astype(np.int64), same.astype(np.float32)
