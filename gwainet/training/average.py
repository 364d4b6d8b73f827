"""An exponential moving average of a generator's weights (`ema_decay`); not the paper's."""

from typing import cast

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gwainet.nets.model import Generator


class Average:
    """The generator that is trained, and the one that is validated and kept.

    Args:
        generator: trained.
        decay: share of the average that a step leaves (0.999: of about the last 1,000 steps); 0: no average.

    Attributes:
        model: torch's average, to be saved with the rest; None without one.
        kept: the averaged generator, or the trained one itself.
    """

    def __init__(self, generator: Generator, decay: float) -> None:
        self.model: AveragedModel | None = None
        self.kept = generator
        if decay:
            self.model = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
            self.model.requires_grad_(False)
            # it is compared with 0 at every step, which must not wait for a GPU
            self.model.n_averaged = self.model.n_averaged.cpu()
            self.kept = cast("Generator", self.model.module)

    def update(self, generator: Generator) -> None:
        """Take in the weights after a step; the first step's are the average's first."""
        if self.model is not None:
            self.model.update_parameters(generator)
