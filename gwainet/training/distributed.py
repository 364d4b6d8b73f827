"""Several processes that train one model together, each on its share of every batch.

What they come to is what one process comes to, up to the rounding of sums: a batch is drawn whole in every process,
from (seed, step), and cut into equal shares; gradients are averaged after `backward`, so that a loss may itself contain
gradients (Eq. 8), which torch's own wrapper of modules does not allow. Without a group nothing here has any effect.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

T = TypeVar("T")

# the first process may hash inputs, or validate, while the others wait for it
_PATIENCE = timedelta(hours=1)


def rank() -> int:
    """This process's number in its group, from 0; by torchrun's environment, so that it is known before `join`."""
    return int(os.environ.get("RANK", "0"))


def size() -> int:
    """Processes of the group; 1 outside of one."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that writes files and reports."""
    return rank() == 0


def local_size() -> int:
    """Processes of the group on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def join(device: torch.device) -> None:
    """Become one of the processes that torchrun's environment tells of, if it does and this is not one yet."""
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)


def leave() -> None:
    """End the membership that `join` began."""
    if dist.is_initialized():
        dist.destroy_process_group()


def share(count: int) -> slice:
    """This process's part of `count` samples of a batch; the group's size divides `count`."""
    part = count // size()
    return slice(rank() * part, (rank() + 1) * part) if size() > 1 else slice(None)


def own(parts: Sequence[T]) -> Sequence[T]:
    """Every N-th of some parts of work, beginning with this process's number."""
    return parts[rank() :: size()] if size() > 1 else parts


def gather(results: Sequence[T], count: int) -> list[T]:
    """The results of all `count` parts of work in their order, from each process's of its `own`."""
    if size() == 1:
        return list(results)
    everyones: list[list[T]] = [[] for _ in range(size())]
    dist.all_gather_object(everyones, list(results))
    return [everyones[part % size()][part // size()] for part in range(count)]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Make each gradient its mean over the processes: the whole batch's, as losses are means over samples."""
    if size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])  # one message, however many parameters
    dist.all_reduce(flat)
    flat /= size()
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def mean(values: Mapping[str, float]) -> dict[str, float]:
    """The mean of each number over the processes."""
    if size() == 1:
        return dict(values)
    everyones: list[dict[str, float]] = [{} for _ in range(size())]
    dist.all_gather_object(everyones, dict(values))
    return {name: sum(part[name] for part in everyones) / size() for name in values}


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, in all processes."""
    if size() == 1:
        return make()
    made: list[T | None] = [make() if is_first() else None]
    dist.broadcast_object_list(made, 0)
    return made[0]  # type: ignore[return-value]


def same_weights(modules: Mapping[str, nn.Module], device: torch.device) -> None:
    """Give all processes the first one's weights: they drew or read the same, and this makes sure of it."""
    if size() == 1:
        return
    for module in modules.values():
        for tensor in module.state_dict().values():
            there = tensor.to(device)
            dist.broadcast(there, 0)
            tensor.copy_(there)
