"""Which images and guides each step sees: a pure function of (seed, step), so a resumed training continues exactly.

Targets come from shuffled epochs; guides and all else are drawn by `gwainet.training.draws`, which gives the same
numbers on the CPU as on a GPU. Of several processes each draws the whole batch and keeps its share.

Streams keep the draws of different purposes apart: the critic's batches, the generator's, the pairs.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gwainet.dataset import Batch, Faces, Rows, another_person, another_photo, assemble
from gwainet.errors import DataError
from gwainet.tensors import from_pictures, on_device
from gwainet.training.distributed import share
from gwainet.training.draws import uniform, words

Stream = Literal["generator", "critic", "pairs"]
_STREAMS: dict[Stream, int] = {"generator": 0, "critic": 1, "pairs": 2}
VALIDATION_PAIRS = 3  # a stream that no training draws from
_CPU = torch.device("cpu")
_TOGETHER = 64  # batches drawn at a time: a batch alone would take as long
_GUIDE, _PERSON, _LOT, _FLIP, _FLIP_GUIDE, _EPSILON, _SAME = range(7)  # what each word of a place is for

Draws = dict[str, Tensor]
Pictures = Mapping[
    str, tuple[Literal["hr", "lr", "landmarks"], str]
]  # name -> which array, and which draw has the rows


def generator_for(seed: int, *path: int) -> np.random.Generator:
    """A random generator of its own for every path of numbers below a seed."""
    return np.random.default_rng(np.random.SeedSequence((seed, *path)))


class _Drawn(ABC):
    """Draws many batches at a time, and hands them out one by one."""

    _latest: tuple[tuple[int, int], Draws] | None = None

    @abstractmethod
    def size(self) -> int:
        """Targets of a batch, of all processes together."""

    @abstractmethod
    def draw(self, first: int, count: int, device: torch.device) -> Draws:
        """What the batches `first`, `first + 1`, ... are made of; computed on a device."""

    def drawn(self, number: int) -> Draws:
        """What a batch is made of, on the CPU. Shapes: as `draw`, without the first dimension."""
        block, place = divmod(number, _TOGETHER)
        key = (block, self.size())
        if self._latest is None or self._latest[0] != key:
            self._latest = key, self.draw(block * _TOGETHER, _TOGETHER, _CPU)
        return {name: value[place] for name, value in self._latest[1].items()}


class BatchSampler(_Drawn):
    """Endless batches over shuffled epochs of the training targets (Sec. 4.1: a guide is drawn at each access).

    Args:
        faces: prepared faces.
        batch_size: targets of a batch, of all processes together.
        seed: of order, guides and flips.
        stream: batches of another stream are drawn independently.
        horizontal_flip: mirror target and guide independently, half of the time (D10).
        guide_dropout: share of the targets without a guide.
        other_guides: share of the targets that get a photo of another person as their guide.

    Attributes:
        table: device -> `tables` there.

    Raises:
        DataError: there are no training targets, or no other people to take guides of.
    """

    pictures: ClassVar[Pictures] = {"target": ("hr", "rows"), "guide": ("hr", "guides"), "low": ("lr", "rows")}

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
        self.table = lru_cache(maxsize=2)(partial(tables, faces))

    def size(self) -> int:
        """Targets of a batch, of all processes together."""
        return self.batch_size

    def _shuffled(self, epoch: int) -> Rows:
        return generator_for(self.seed, self.stream, epoch).permutation(self.targets)

    def rows(self, number: int, batches: int = 1) -> Rows:
        """Targets of batch 0, 1, ..., or of several on end; one may reach from an epoch into the next."""
        count = len(self.targets)
        start, end = number * self.batch_size, (number + batches) * self.batch_size
        epochs = range(start // count, (end - 1) // count + 1)
        parts = [self._epoch(epoch)[max(start - epoch * count, 0) : end - epoch * count] for epoch in epochs]
        return np.concatenate(parts)

    def draw(self, first: int, count: int, device: torch.device) -> Draws:
        """What the batches `first`, `first + 1`, ... are made of; computed on a device.

        Returns:
            this process's share of each batch, (count, B): `rows` and `guides`, int64; `epsilon` of the gradient
            penalty in [0, 1) (Eq. 8; L7); and where they are asked for `flip`, `flip_guide` and `drop`, bool.
        """
        rows, drawn = self.places(first, count, device)
        table = self.table(device)
        guides = draw_guides(table, rows, drawn)
        made = {"rows": rows, "guides": guides, "epsilon": uniform(drawn[_EPSILON])}
        if self.horizontal_flip:
            made |= {"flip": uniform(drawn[_FLIP]) < 0.5, "flip_guide": uniform(drawn[_FLIP_GUIDE]) < 0.5}
        if self.guide_dropout or self.other_guides:
            # one number decides for both, so that they exclude each other and shares are as asked
            lot = uniform(drawn[_LOT])
            bounds = (0, self.split_end)
            other = another_person(table["first"][rows], table["size"][rows], bounds, drawn[_PERSON])
            made["guides"] = torch.where(lot >= 1 - self.other_guides, other, guides)
            made["drop"] = lot < self.guide_dropout
        own = share(self.batch_size)
        return {name: value[:, own] for name, value in made.items()}

    def places(self, first: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Targets and random words of whole batches. Shapes: -> (count, B), (8, count, B)."""
        shape = (count, self.batch_size)
        rows = _uploaded(self.rows(first, count), device).view(shape)
        places = torch.arange(first * self.batch_size, (first + count) * self.batch_size, device=device).view(shape)
        return rows, words(self.seed, self.stream, places)

    def batch(self, number: int, device: torch.device) -> Batch:
        """A batch, read from the disk's pages."""
        made = self.drawn(number)
        flags = [None if made.get(name) is None else made[name].to(device) for name in ("flip", "flip_guide", "drop")]
        return self.faces.batch(made["rows"].numpy(), made["guides"].numpy(), device, *flags)

    def make(self, parts: Draws, mean: Mapping[str, Tensor]) -> Batch:
        """A batch of pictures that lie on the device. Shapes: `parts` are `pictures` and draws, each (B, ...)."""
        flags = [parts.get(name) for name in ("flip", "flip_guide", "drop")]
        return assemble(parts["target"], parts["guide"], parts["low"], mean, *flags)


class Pairs(NamedTuple):
    """Pairs of pictures.

    Attributes:
        first: (B, 3, H, W), [-1, 1].
        second: (B, 3, H, W), [-1, 1].
        same: (B,), 1 where they show one person, else 0.
    """

    first: Tensor
    second: Tensor
    same: Tensor


class PairSampler(_Drawn):
    """Pairs of faces, half of them of one person (L5), for Inet's pretraining."""

    pictures: ClassVar[Pictures] = {"first": ("hr", "rows"), "second": ("hr", "partners")}

    def __init__(self, faces: Faces, batch_size: int, seed: int) -> None:
        self.faces, self.seed = faces, seed
        self.anchors = BatchSampler(faces, batch_size, seed, "pairs")

    def size(self) -> int:
        """Pairs of a batch."""
        return self.anchors.batch_size

    def draw(self, first: int, count: int, device: torch.device) -> Draws:
        """As `BatchSampler.draw`: `rows`, `partners` and `same`."""
        rows, drawn = self.anchors.places(first, count, device)
        partners, same = draw_partners(self.anchors.table(device), rows, (0, self.anchors.split_end), drawn)
        own = share(self.size())
        return {"rows": rows[:, own], "partners": partners[:, own], "same": same[:, own]}

    def rows(self, number: int) -> tuple[Rows, Rows, npt.NDArray[np.float32]]:
        """First and second picture of each pair of this process's share, and 1 where they show one person."""
        made = {name: value.numpy() for name, value in self.drawn(number).items()}
        return made["rows"], made["partners"], made["same"]

    def batch(self, number: int, device: torch.device) -> Pairs:
        """A batch, read from the disk's pages."""
        first, second, same = self.rows(number)
        parts = {"first": on_device(self.faces.hr[first], device), "second": on_device(self.faces.hr[second], device)}
        return self.make({**parts, "same": torch.from_numpy(same).to(device)}, {})

    def make(self, parts: Draws, mean: Mapping[str, Tensor]) -> Pairs:
        """A batch of pictures that lie on the device."""
        first, second = (from_pictures(parts[name]) * 2 - 1 for name in ("first", "second"))
        return Pairs(first, second, parts["same"])


class Marked(NamedTuple):
    """A batch with the landmarks of its pictures.

    Attributes:
        batch: the pictures.
        target: (B, 5, 2), x, y of the targets' landmarks in pixels of the crop, NaN where one is not known.
        guide: (B, 5, 2), of the guides.
    """

    batch: Batch
    target: Tensor
    guide: Tensor


class MarkedSampler(_Drawn):
    """The batches of a sampler, with landmarks.

    Args:
        plain: draws them; its faces have landmarks, wherever a batch is asked for.

    Raises:
        ValueError: it mirrors pictures, which would need their landmarks mirrored and left and right exchanged.
    """

    pictures: ClassVar[Pictures] = {
        **BatchSampler.pictures,
        "target_landmarks": ("landmarks", "rows"),
        "guide_landmarks": ("landmarks", "guides"),
    }

    def __init__(self, plain: BatchSampler) -> None:
        if plain.horizontal_flip:
            raise ValueError("landmarks of mirrored pictures are not to be had")
        self.plain, self.faces = plain, plain.faces

    def size(self) -> int:
        """Targets of a batch, of all processes together."""
        return self.plain.size()

    def draw(self, first: int, count: int, device: torch.device) -> Draws:
        """As `BatchSampler.draw`."""
        return self.plain.draw(first, count, device)

    def batch(self, number: int, device: torch.device) -> Marked:
        """A batch, read from the disk's pages."""
        made = self.plain.drawn(number)
        assert self.faces.landmarks is not None
        places = (on_device(self.faces.landmarks[made[rows].numpy()], device) for rows in ("rows", "guides"))
        return Marked(self.plain.batch(number, device), *places)

    def make(self, parts: Draws, mean: Mapping[str, Tensor]) -> Marked:
        """A batch of what lies on the device."""
        return Marked(self.plain.make(parts, mean), parts["target_landmarks"], parts["guide_landmarks"])


def tables(faces: Faces, device: torch.device) -> Draws:
    """Of each row (N): its identity's `first` row and `size`, and where guides are fixed its `guide`."""
    made = {"first": faces.first_row, "size": faces.identity_size}
    if faces.fixed_guides:
        made["guide"] = faces.guide_row
    return {name: _uploaded(value, device) for name, value in made.items()}


def _uploaded(rows: Rows, device: torch.device) -> Tensor:
    """Rows on a device, on their way while the host goes on."""
    tensor = torch.from_numpy(rows)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def draw_guides(table: Draws, rows: Tensor, drawn: Tensor) -> Tensor:
    """A guide for each row: `another_photo`, or its own where guides are fixed.

    Shapes: rows (...), words (8, ...) -> (...).

    Args:
        table: `tables` on the rows' device.
        rows: of the targets.
        drawn: `gwainet.training.draws.words`.
    """
    if "guide" in table:
        return table["guide"][rows]
    return another_photo(rows, table["first"][rows], table["size"][rows], drawn[_GUIDE])


def draw_partners(table: Draws, rows: Tensor, bounds: tuple[int, int], drawn: Tensor) -> tuple[Tensor, Tensor]:
    """A partner for each row: another photo of the person, or any photo of another one among rows [start, end).

    Shapes: rows (..., B), words (8, ..., B) -> (..., B) int64, (..., B) float32.

    Returns:
        the partners' rows, and 1 where they show the same person; 1:1 in a batch, as near as its size allows.
    """
    same = drawn[_SAME].argsort(dim=-1, stable=True).argsort(dim=-1, stable=True) % 2 == 0
    other = another_person(table["first"][rows], table["size"][rows], bounds, drawn[_PERSON])
    return torch.where(same, draw_guides(table, rows, drawn), other), same.to(torch.float32)
