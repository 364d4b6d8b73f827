"""What stops a training that goes wrong: at the last good checkpoint, with what happened, where, and what to try."""

import math
import resource
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gwainet.errors import DivergedError, TrainingError
from gwainet.training import distributed

if TYPE_CHECKING:
    from gwainet.training.sampling import BatchSampler

_SLOWER = "lower the learning rate, or let it rise slowly (warm_up_steps)"
_CPU_MESSAGES = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")
_HEADROOM = 0.9  # of the memory, for what fragmentation wastes


def check_losses(means: Mapping[str, float], limits: Mapping[str, float], steps: tuple[int, int], kept: str) -> None:
    """Stop where a loss is not finite, or larger than its limit.

    Args:
        means: loss -> mean over the steps.
        limits: loss -> the largest size that it may have.
        steps: the first and the last of them.
        kept: what was kept, for the message.

    Raises:
        DivergedError: names the losses.
    """
    first, last = steps
    where = f"at step {last}" if first == last else f"between steps {first} and {last}"
    if wrong := [name for name, value in means.items() if not math.isfinite(value)]:
        raise DivergedError(f"{', '.join(wrong)} is not finite {where}: {_SLOWER}. {kept}")
    for name, limit in limits.items():
        if name in means and abs(means[name]) > limit:
            raise DivergedError(
                f"{name} has exploded: {means[name]:.3g} in the mean {where}, where {limit:.3g} is the most "
                f"({name}_limit): {_SLOWER}, weigh the penalty more (lambda_gp, lambda_r1), or make fewer "
                f"critic_updates. {kept}"
            )


def check_weights(modules: Mapping[str, nn.Module], step: int, kept: str) -> None:
    """Stop before weights that are not finite are saved over good ones.

    Raises:
        DivergedError: names the module.
    """
    for name, module in modules.items():
        sound = [parameter.isfinite().all() for parameter in module.parameters()]
        if sound and not bool(torch.stack(sound).all()):
            raise DivergedError(f"weights of the {name} are not finite after step {step}: {_SLOWER}. {kept}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; on a CPU torch raises a plain RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU_MESSAGES):
        return True
    # the end of a CUDA graph's capture has an error of its own
    return error.__context__ is not None and is_out_of_memory(error.__context__)


@contextmanager
def memory_explained(
    samplers: Sequence["BatchSampler"], step: Callable[[], object], device: torch.device, kept: str
) -> Iterator[None]:
    """Turn the error of memory that ran out inside the block into one that says which batch would fit.

    Args:
        samplers: of the phase, whose batches are made smaller to measure.
        step: makes a step of the phase; its weights are lost then, which no longer matters.
        device: where it runs.
        kept: what was kept, for the message.

    Raises:
        TrainingError: memory ran out.
    """
    try:
        yield
        return
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(error):
            raise
        problem = str(error).strip().splitlines()[0]
        traceback.clear_frames(error.__traceback__)  # the error outlives this block, with the failed step's tensors
    batch = samplers[0].batch_size if samplers else 0
    share = f", {batch // distributed.size()} of it here" if distributed.size() > 1 else ""
    advice = _advice(samplers, step, device, batch)
    raise TrainingError(f"out of memory on {device} with a batch of {batch}{share} ({problem}): {advice}. {kept}")


def _advice(samplers: Sequence["BatchSampler"], step: Callable[[], object], device: torch.device, batch: int) -> str:
    if distributed.size() > 1:
        return "lower batch_size"  # a step to measure would take part in the other processes' real ones
    fits = min(largest_batch(samplers, step, device), batch - 1)
    return f"about {fits} would fit: lower batch_size" if fits > 0 else "use smaller faces or networks"


def largest_batch(samplers: Sequence["BatchSampler"], step: Callable[[], object], device: torch.device) -> int:
    """About the largest batch whose step fits into memory, by steps of one image and of two; 0 if one does not fit.

    On a CPU the bytes that a step keeps for its backward are counted.
    """
    before = [sampler.batch_size for sampler in samplers]
    used: list[int] = []
    try:
        for images in (1, 2):
            for sampler in samplers:
                sampler.batch_size = images
            used.append(_bytes_of(step, device))
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return len(used)
        raise
    finally:
        for sampler, size in zip(samplers, before, strict=True):
            sampler.batch_size = size
    each = max(1, used[1] - used[0])
    return max(1, int((_HEADROOM * available(device) - (used[0] - each)) / each))


def available(device: torch.device) -> int:
    """Bytes that a step may take on a device: what is free, and what torch holds but does not use."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    import psutil  # a machine that only trains, on a GPU, may lack it

    free = psutil.virtual_memory().available
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        free = min(free, max(0, limit - psutil.Process().memory_info().vms))
    return int(free)


def _bytes_of(step: Callable[[], object], device: torch.device) -> int:
    """The most that a step holds at a time, beyond what was there."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        start = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - start)
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        step()
    # the gradients of what is kept are as large at the deepest place, and convolutions unfold their input
    return 2 * sum(kept.values())
