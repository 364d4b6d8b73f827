"""An exponential moving average of a generator's weights (`ema_decay`); not the paper's."""

import copy

import torch
from torch import Tensor, nn

from gwainet.nets.model import Generator


class Averaged(nn.Module):
    """A copy of a generator whose weights are the average; `n_averaged` steps went into it.

    What `torch.optim.swa_utils.AveragedModel` is, but for its count: that goes to the weights' device and back at every
    step, which waits for a GPU.
    """

    n_averaged: Tensor

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.module = copy.deepcopy(generator).requires_grad_(False)
        self.register_buffer("n_averaged", torch.zeros((), dtype=torch.int64))  # stays on the CPU


class Average:
    """The generator that is trained, and the one that is validated and kept.

    Args:
        generator: trained.
        decay: share of the average that a step leaves (0.999: of about the last 1,000 steps); 0: no average.

    Attributes:
        model: the average, to be saved with the rest; None without one.
        kept: the averaged generator, or the trained one itself.
    """

    def __init__(self, generator: Generator, decay: float) -> None:
        self.decay = decay
        self.model = Averaged(generator) if decay else None
        self.kept = generator if self.model is None else self.model.module

    @torch.no_grad()
    def update(self, generator: Generator) -> None:
        """Take in the weights after a step; the first step's are the average's first."""
        if self.model is None:
            return
        average: list[Tensor] = list(self.model.module.parameters())
        weights: list[Tensor] = list(generator.parameters())
        if self.model.n_averaged == 0:
            torch._foreach_copy_(average, weights)
        else:
            torch._foreach_lerp_(average, weights, 1 - self.decay)
        self.model.n_averaged += 1
