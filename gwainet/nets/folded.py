"""The decoders of Wnet and SRnet with layers composed into one: the same function with far fewer operations.

A decoder (`blocks.decode`) is three sub-pixel upscalings and a convolution with no activation between them: one linear
map. So the last upscalings and the convolution behind them can be composed into one convolution with 5x5 kernels and a
pixel shuffle. Every layer pads its own input with zeros, which makes other kernels at the border: nine of them, for a
pixel's row is the first, in the middle or the last, and so is its column. One row and one column are enough: of what
lies beyond the image, a pixel further inside reads only the input of the first composed layer, and that is zero for the
composed convolution too.

The kernels are made of the layers' own weights: parameters, gradients and checkpoints stay as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gwainet.nets.blocks import Decoding, PreciseConv2d, SameConv2d, Upscale2x, decode

Side = Literal["first", "middle", "last"]
SIDES: tuple[Side, ...] = ("first", "middle", "last")
PLACES = tuple(product(SIDES, SIDES))  # of a pixel's row, of its column
# where the two rows that a row of pixels becomes lie in the larger picture; likewise columns
_HALVES: dict[Side, tuple[Side, Side]] = {
    "first": ("first", "middle"),
    "middle": ("middle", "middle"),
    "last": ("middle", "last"),
}
SMALLEST = 3  # rows and columns that a composed convolution needs: those that the first one reads

LIVE = (256, 1024)
"""Pixels of a batch's features from which it pays to compose the last upscaling, and the last two, at every step.

Measured on a CPU (docs/performance.md); composing all three paid at no batch that was tried.
"""
ONCE = 1500  # pixels that are worth composing for, where the weights are used for one call

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Composed:
    """A linear map from features (B, width, h, w) to (B, channels, scale h, scale w), zero outside its input.

    Attributes:
        scale: pixels a side of the block that a pixel becomes.
        reach: pixels that a block reads beyond its own, to every side.
        kernels: place -> (channels scale^2, width, rows, columns): the taps inside the image alone. In the middle these
            are 2 reach + 1 rows; in the first row the pixel's own and those below, in the last its own and those above.
        biases: place -> (channels scale^2,).
    """

    scale: int
    reach: int
    kernels: dict[tuple[Side, Side], Tensor]
    biases: dict[tuple[Side, Side], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the map, to pictures of at least `SMALLEST` pixels a side."""
        edge = self.reach + 1

        def piece(picture: Tensor, dim: int, side: Side) -> Tensor:
            """The rows, or columns, that those of a side read; the middle's begin and end one within the padding."""
            if side == "middle":
                return picture
            return picture.narrow(dim, 0 if side == "first" else picture.shape[dim] - edge, edge)

        # the middle's kernels are padded by all but one of the taps that reach out: it has no first and no last pixel
        padding = {"first": 0, "middle": self.reach - 1, "last": 0}
        lines = []
        for row in SIDES:
            line = piece(x, 2, row)
            parts = [
                F.conv2d(
                    piece(line, 3, column),
                    self.kernels[row, column],
                    self.biases[row, column],
                    padding=(padding[row], padding[column]),
                )
                for column in SIDES
            ]
            lines.append(torch.cat(parts, dim=3))
        return F.pixel_shuffle(torch.cat(lines, dim=2), self.scale)

    def to(self, dtype: torch.dtype) -> "Composed":
        """The map in another precision."""
        kernels = {place: kernel.to(dtype) for place, kernel in self.kernels.items()}
        return replace(self, kernels=kernels, biases={place: bias.to(dtype) for place, bias in self.biases.items()})


def compose(stages: Sequence[nn.Module], last: nn.Module, dtype: torch.dtype) -> Composed:
    """What upscalings, one after the other, and the convolution behind them make of features.

    Differentiable: gradients of the kernels are the layers' own.

    Raises:
        TypeError: a layer is not what the algebra here knows.
    """
    composed = _only(last, dtype)
    for stage in reversed(stages):
        if type(stage) is not Upscale2x:
            raise TypeError(f"gwainet.nets.folded cannot compose a decoder's {stage}")
        composed = _before(stage.conv, composed, dtype)
    return composed


def _only(last: nn.Module, dtype: torch.dtype) -> Composed:
    """The last convolution alone: its taps beyond the image meet zeros."""
    weight, bias = _parameters(last, dtype)
    reach = weight.shape[2] // 2
    inside: dict[Side, slice] = {"first": slice(reach, None), "middle": slice(None), "last": slice(None, reach + 1)}
    kernels = {(row, column): weight[:, :, inside[row], inside[column]] for row, column in PLACES}
    return Composed(1, reach, kernels, dict.fromkeys(PLACES, bias))


def _before(conv: nn.Module, behind: Composed, dtype: torch.dtype) -> Composed:
    """A convolution and a pixel shuffle of 2 before what is composed already.

    A pixel becomes a square of 2x2, whose blocks read a patch of the shuffled picture: as far as the kernels reach,
    rounded up to whole squares. The patch's taps go back through the shuffle and through the convolution, transposed.
    """
    weight, bias = _parameters(conv, dtype)
    taps = weight.flatten(1)  # (4 width, width 3 3)
    size: dict[Side, int] = {"first": 4, "middle": 6, "last": 4}  # of a patch: it ends where the picture does
    inside: dict[Side, slice] = {"first": slice(1, None), "middle": slice(None), "last": slice(None, -1)}
    kernels, biases = {}, {}
    for row, column in PLACES:
        patches, offsets = [], []
        for i, j in product((0, 1), (0, 1)):
            place = _HALVES[row][i], _HALVES[column][j]
            kernel = behind.kernels[place]
            top, left = (
                half + (0 if of == "first" else -behind.reach) + (0 if side == "first" else 2)
                for half, of, side in ((i, place[0], row), (j, place[1], column))
            )
            bottom, right = size[row] - top - kernel.shape[2], size[column] - left - kernel.shape[3]
            patches.append(F.pad(kernel, (left, right, top, bottom)))  # a negative pad cuts: taps beyond the image
            offsets.append(behind.biases[place])
        # (channels, width, h, w) -> (channels, 4 width, h/2, w/2)
        patch = F.pixel_unshuffle(_as_blocks(torch.stack(patches), behind.scale), 2)
        height, width = patch.shape[2:]
        columns = patch.permute(0, 2, 3, 1).flatten(0, 2) @ taps
        columns = columns.view(-1, height * width, columns.shape[1]).transpose(1, 2)
        kernel = F.fold(columns, (height + 2, width + 2), 3)  # sums what falls on one pixel
        kernels[row, column] = kernel[:, :, inside[row], inside[column]].contiguous()
        biases[row, column] = patch.sum(dim=(2, 3)) @ bias + _as_blocks(torch.stack(offsets), behind.scale)
    return Composed(2 * behind.scale, 2, kernels, biases)


def _parameters(conv: nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    if (
        not isinstance(conv, SameConv2d)
        or type(conv) not in (SameConv2d, PreciseConv2d)  # another subclass may do more than convolve
        or conv.kernel_size != (3, 3)
        or conv.stride != (1, 1)
        or conv.bias is None
    ):
        raise TypeError(f"gwainet.nets.folded cannot compose a decoder's {conv}")
    return conv.weight.to(dtype), conv.bias.to(dtype)


def _as_blocks(quarters: Tensor, scale: int) -> Tensor:
    """The channels of four neighbours' blocks as those of one block, in the order of a pixel shuffle.

    Shapes: (4, channels scale^2, ...) -> (channels (2 scale)^2, ...).
    """
    # (row of the square, column, channel, row of the block, column, ...)
    apart = quarters.reshape(2, 2, -1, scale, scale, *quarters.shape[2:])
    return apart.movedim((2, 0, 3, 1, 4), (0, 1, 2, 3, 4)).flatten(0, 4)


class Kept(NamedTuple):
    """What was composed, and copies of the weights that it was made of."""

    weights: list[Tensor]
    composed: Composed


class FoldedDecoder:
    """Stands in for `blocks.decode` in one network.

    What is composed depends on the input's shape alone and never on what was decoded before: a training that is resumed
    gets the same bits as one that was not interrupted.

    Args:
        live: pixels of a batch's features from which the last upscaling is composed while gradients are recorded, then
            the last two, then all three. The kernels are composed anew at every call.
        frozen: upscalings that are composed where no gradients are recorded: in float64, and kept until the weights
            are others.
    """

    def __init__(self, live: Sequence[int], frozen: int) -> None:
        self.live, self.frozen = tuple(live), frozen
        self.kept: Kept | None = None

    def __call__(self, upscale: nn.Sequential, last: SameConv2d, x: Tensor) -> Tensor:
        """Decode. Shapes: as `blocks.decode`."""
        batch, _, height, width = x.shape
        recorded = torch.is_grad_enabled()
        count = sum(batch * height * width >= least for least in self.live) if recorded else self.frozen
        stages = list(upscale)
        plain = len(stages) - count
        if not count or min(height, width) << plain < SMALLEST:
            return decode(upscale, last, x)
        with torch.autocast(x.device.type, enabled=False):
            make = compose if recorded else self._kept_or_composed
            composed = make(stages[plain:], last, last.weight.dtype)
        for stage in stages[:plain]:
            x = stage(x)
        if isinstance(last, PreciseConv2d):
            with torch.autocast(x.device.type, enabled=False):
                return composed(x.to(last.weight.dtype))
        return composed(x)

    def _kept_or_composed(self, stages: Sequence[nn.Module], last: nn.Module, dtype: torch.dtype) -> Composed:
        """The kernels of the weights as they are now. Their values tell: a version misses an edit through `.data`."""
        weights = [parameter.detach() for layer in (*stages, last) for parameter in layer.parameters()]
        if self.kept is not None and all(map(_same, self.kept.weights, weights)):
            return self.kept.composed
        composed = compose(stages, last, torch.float64).to(dtype)
        self.kept = Kept([weight.clone() for weight in weights], composed)
        return composed


def _same(old: Tensor, new: Tensor) -> bool:
    return (old.dtype, old.device) == (new.dtype, new.device) and torch.equal(old, new)


def fold(module: M, live: Sequence[int] = (), frozen: int = 0) -> M:
    """Give every decoder below `module` a `FoldedDecoder`; with no upscaling to compose, the plain one.

    Returns:
        The module.
    """
    for part in module.modules():
        if isinstance(part, Decoding):
            part.decode = FoldedDecoder(live, frozen) if live or frozen else decode
    return module


def freeze(module: M) -> M:
    """Compose every decoder below `module` once and for all: for export, where weights no longer change.

    Returns:
        The module.
    """
    for part in module.modules():
        if isinstance(part, Decoding):
            part.decode = _Frozen()
    return module


class _Frozen:
    """Composes at its first call, and never looks at the weights again."""

    def __init__(self) -> None:
        self.composed: Composed | None = None

    def __call__(self, upscale: nn.Sequential, last: SameConv2d, x: Tensor) -> Tensor:
        """Decode. Shapes: as `blocks.decode`."""
        if self.composed is None:
            with torch.no_grad():
                self.composed = compose(list(upscale), last, torch.float64).to(last.weight.dtype)
        return self.composed(x)
