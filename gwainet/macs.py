"""Multiply-adds of networks, counted by torch while they run on tensors that need no memory."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class MacCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts multiply-adds by torch's own formulas.

    `torch.utils.flop_counter.FlopCounterMode` counts the same, but follows modules through hooks that refuse the
    gradient penalty: autograd.grad with respect to an input of a module.

    Attributes:
        macs: counted so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  whatever the operation returns
        """Run the operation and count it."""
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.macs += formula(*args, **(kwargs or {}), out_val=result) // 2
        return result


def without_memory() -> FakeTensorMode:
    """A context in which tensors have shapes and no values, so that the largest network takes no memory."""
    return FakeTensorMode(allow_non_fake_inputs=True)  # the phases bring real batches
