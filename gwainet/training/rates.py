"""Learning rates of a step: a pure function of it, so that a resumed training continues exactly."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from gwainet.params import Training


def factor(settings: Training, step: int, steps: int) -> float:
    """What warm-up and decay make of the learning rate at step 0, 1, ... of so many; 1 in paper mode.

    With a warm-up of w steps the first has 1 / (w + 1) of the rate and step w, counted from 0, all of it. Behind the
    last step a cosine stays at 0.
    """
    rising = min(1.0, (step + 1) / (settings.warm_up_steps + 1))
    falling = 1.0
    if settings.decay == "cosine":
        falling = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(steps, 1))))
    return rising * falling


def set_rates(optimisers: Iterable[torch.optim.Optimizer], rate: float) -> None:
    """Give each group of parameters the rate, times its own `rate_factor` where it has one."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            of_group = rate * group.get("rate_factor", 1.0)
            if isinstance(group["lr"], Tensor):  # a captured step reads this very tensor
                group["lr"].fill_(of_group)
            else:
                group["lr"] = of_group
