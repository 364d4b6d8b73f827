"""How batches come to the device: read when they are asked for, gathered on the device, or read ahead.

All ways give the same numbers, batch by batch. `batch` and `epsilon` of `DeviceFeed` and `AheadFeed` read nothing that
the host decides, so that a step can be captured into a CUDA graph; what the host does is done before, by `ready`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from gwainet.dataset import Faces
from gwainet.training.sampling import Draws, Pictures

Data = Literal["host", "device", "ahead"]
Made = TypeVar("Made", covariant=True)

_STEPS = 64  # drawn at a time
_AHEAD = 3  # steps that are read before they are needed
_CHUNK = 256 * 2**20  # bytes copied to the device at a time


class Sampler(Protocol[Made]):
    """What a feed needs of `BatchSampler` and `PairSampler`."""

    faces: Faces

    @property
    def pictures(self) -> Pictures:
        """Which pictures a batch has."""

    def size(self) -> int:
        """Targets of a batch, of all processes together."""

    def draw(self, first: int, count: int, device: torch.device) -> Draws:
        """What batches are made of."""

    def drawn(self, number: int) -> Draws:
        """What a batch is made of, on the CPU."""

    def batch(self, number: int, device: torch.device) -> Made:
        """A batch, read when it is asked for."""

    def make(self, parts: Draws, mean: Mapping[str, Tensor]) -> Made:
        """A batch of pictures that lie on the device."""


class Feed(ABC, Generic[Made]):
    """The batches of a training's steps.

    Args:
        sampler: draws them.
        device: where they are made.
        updates: batches of a step.
    """

    def __init__(self, sampler: Sampler[Made], device: torch.device, updates: int = 1) -> None:
        self.sampler, self.device, self.updates = sampler, device, updates
        self.mean = sampler.faces.columns(device)

    @abstractmethod
    def ready(self, step: int) -> None:
        """Do what the host has to do before the batches of a step can be had."""

    @abstractmethod
    def batch(self, number: int = 0) -> Made:
        """One of the batches of the step that is ready."""

    def joint(self) -> Made:
        """All batches of the step as one."""
        batches: Any = [self.batch(number) for number in range(self.updates)]
        return type(batches[0])(*(torch.cat(parts) for parts in zip(*batches, strict=True)))  # type: ignore[no-any-return]

    @abstractmethod
    def epsilon(self, number: int = 0) -> Tensor:
        """Epsilon of one of the batches (Eq. 8; L7). Shapes: -> (B, 1, 1, 1)."""

    def close(self) -> None:
        """End what reads in the background."""


class HostFeed(Feed[Made]):
    """The plain way: pictures are read from mapped pages when a batch is asked for."""

    _first = 0

    def ready(self, step: int) -> None:
        """Remember the step."""
        self._first = step * self.updates

    def batch(self, number: int = 0) -> Made:
        """Draw, read and make."""
        return self.sampler.batch(self._first + number, self.device)

    def epsilon(self, number: int = 0) -> Tensor:
        """Of one of the step's batches."""
        return self.sampler.drawn(self._first + number)["epsilon"].to(self.device).view(-1, 1, 1, 1)


class _StaticFeed(Feed[Made]):
    """A step's parts lie in the same tensors at every step. Shapes: (updates, B, ...)."""

    @abstractmethod
    def parts(self, drawn: Draws) -> Draws:
        """Draws with their pictures."""

    def batch(self, number: int = 0) -> Made:
        """Make one of the step's batches."""
        return self.sampler.make(self.parts({name: value[number] for name, value in self._draws().items()}), self.mean)

    def joint(self) -> Made:
        """Make all of them in one piece."""
        return self.sampler.make(
            self.parts({name: value.flatten(0, 1) for name, value in self._draws().items()}), self.mean
        )

    def epsilon(self, number: int = 0) -> Tensor:
        """Of one of the step's batches."""
        return self._draws()["epsilon"][number].view(-1, 1, 1, 1)

    @abstractmethod
    def _draws(self) -> Draws: ...


@dataclass
class DeviceArrays:
    """The prepared faces in a device's memory: `hr` (N, H, W, 3) and `lr` (N, h, w, 3), uint8.

    Where they have some, `landmarks`, (N, 5, 2).
    """

    hr: Tensor
    lr: Tensor
    landmarks: Tensor | None = None

    @classmethod
    def copied(cls, faces: Faces, device: torch.device) -> "DeviceArrays":
        """Copy them there, in pieces: the pages that were read are free to go."""
        landmarks = None if faces.landmarks is None else torch.from_numpy(np.array(faces.landmarks)).to(device)
        hr, lr = (_copied(np.asarray(array), device) for array in (faces.hr, faces.lr))
        return cls(hr, lr, landmarks)


def bytes_of(faces: Faces) -> int:
    """What `DeviceArrays` takes; landmarks, 40 bytes a face, do not count."""
    return int(faces.hr.nbytes + faces.lr.nbytes)


def _copied(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], device: torch.device) -> Tensor:
    there = torch.empty(array.shape, dtype=torch.uint8, device=device)
    rows = max(1, _CHUNK * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), rows):
        there[start : start + rows].copy_(torch.from_numpy(np.array(array[start : start + rows])))
    return there


class DeviceFeed(_StaticFeed[Made]):
    """Pictures lie in the device's memory and are gathered there; guides are drawn there, many steps at a time."""

    def __init__(self, sampler: Sampler[Made], device: torch.device, arrays: DeviceArrays, updates: int = 1) -> None:
        super().__init__(sampler, device, updates)
        self.arrays = arrays
        self._at = torch.zeros(1, dtype=torch.int64, device=device)
        self._block: Draws = {}
        self._drawn: tuple[int, int] | None = None

    def ready(self, step: int) -> None:
        """Draw the next steps, if this one is not drawn yet."""
        first = step - step % _STEPS
        wanted = first, self.sampler.size()
        if wanted != self._drawn:
            made = self.sampler.draw(first * self.updates, _STEPS * self.updates, self.device)
            shaped = {name: value.view(_STEPS, self.updates, -1) for name, value in made.items()}
            if self._drawn is not None and self._drawn[1] == wanted[1]:
                for name, value in shaped.items():  # a captured graph reads these very tensors
                    self._block[name].copy_(value)
            else:
                self._block = {name: value.contiguous() for name, value in shaped.items()}
            self._drawn = wanted
        self._at.fill_(step - first)

    def _draws(self) -> Draws:
        return {name: value.index_select(0, self._at)[0] for name, value in self._block.items()}

    def parts(self, drawn: Draws) -> Draws:
        """Gather the pictures."""
        pictures = {
            name: getattr(self.arrays, array).index_select(0, drawn[rows])
            for name, (array, rows) in self.sampler.pictures.items()
        }
        return {**drawn, **pictures}


@dataclass
class _Slot:
    """Room for the parts of a step in the host's memory."""

    tensors: Draws = field(default_factory=dict)
    copied: torch.cuda.Event | None = None  # after which the room may be used again


class AheadFeed(_StaticFeed[Made]):
    """Pictures stay in the host's memory; a thread reads those of the next steps into pinned memory meanwhile."""

    def __init__(self, sampler: Sampler[Made], device: torch.device, updates: int = 1) -> None:
        super().__init__(sampler, device, updates)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._slots = [_Slot() for _ in range(_AHEAD + 1)]
        self._filling: dict[tuple[int, int], Future[_Slot]] = {}
        self._there: Draws = {}

    def ready(self, step: int) -> None:
        """Copy the step's parts to the device, and let the next ones be read."""
        size = self.sampler.size()
        wanted = [(step + n, size) for n in range(_AHEAD)]
        for key in self._filling.keys() - set(wanted):  # steps that are not made next after all
            self._filling.pop(key).exception()  # waits: its room is used again
        for key in wanted:
            if key not in self._filling:
                slot = self._slots[key[0] % len(self._slots)]
                self._filling[key] = self._thread.submit(self._fill, slot, key[0])
        slot = self._filling.pop(wanted[0]).result()
        if any(name not in self._there or self._there[name].shape != here.shape for name, here in slot.tensors.items()):
            self._there = {name: torch.empty_like(here, device=self.device) for name, here in slot.tensors.items()}
        for name, here in slot.tensors.items():
            self._there[name].copy_(here, non_blocking=True)
        if self.device.type == "cuda":
            slot.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            slot.copied.record()

    def _fill(self, slot: _Slot, step: int) -> _Slot:
        if slot.copied is not None:
            slot.copied.synchronize()
            slot.copied = None
        made = self.sampler.draw(step * self.updates, self.updates, torch.device("cpu"))
        for name, (array, rows) in self.sampler.pictures.items():
            made[name] = torch.from_numpy(getattr(self.sampler.faces, array)[made[rows].numpy()])
        for name, value in made.items():
            room = slot.tensors.get(name)
            if room is None or room.shape != value.shape:
                pinned = self.device.type == "cuda"
                room = slot.tensors[name] = torch.empty(value.shape, dtype=value.dtype, pin_memory=pinned)
            room.copy_(value)
        return slot

    def _draws(self) -> Draws:
        return self._there

    def parts(self, drawn: Draws) -> Draws:
        """The pictures are there."""
        return drawn

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)
