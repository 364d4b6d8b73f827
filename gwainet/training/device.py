"""Where to compute, and the settings that make a CPU fast at it."""

import ctypes
import os
import sys
from collections.abc import Iterable

import torch
from torch import nn

from gwainet.errors import ParamsError
from gwainet.nets.folded import LIVE, fold
from gwainet.params import Runtime
from gwainet.progress import say
from gwainet.training.distributed import local_size
from gwainet.workers import cores

# glibc's mallopt names and the values that keep large tensors on the heap, where their pages are used again: with the
# default every large tensor is mapped and faulted in anew (measured: 1.35 times the training speed at batch 16)
_MALLOPT = {-4: 0, -1: 2**31 - 1, -2: 256 * 2**20}  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD


def choose_device(runtime: Runtime) -> torch.device:
    """The device that `runtime.device` names; also sets the threads of the CPU.

    Raises:
        ParamsError: `cuda` is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if runtime.device == "cuda" and not available:
        raise ParamsError(
            "runtime.device is cuda, but this machine has no usable CUDA device: use auto or cpu, or install a CUDA "
            "build of torch and check `nvidia-smi`"
        )
    if runtime.device == "cuda" or (runtime.device == "auto" and available):
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        say(f"device: {describe(device)}")
        return device
    torch.set_num_threads(runtime.threads or max(1, cores() // local_size()))
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none: then there is nothing to tune
        if mallopt is not None:
            for name, value in _MALLOPT.items():
                mallopt(name, value)
    device = torch.device("cpu")
    say(f"device: {describe(device)}")
    return device


def fold_for_training(modules: Iterable[nn.Module], runtime: Runtime, device: torch.device, frozen: int = 2) -> None:
    """Let the decoders of what is trained work composed, or plainly, as `runtime.fold` says.

    Without gradients, for validations and the critic's batches, two upscalings are: a generator that changes at every
    step is not used often enough to be worth composing the third. `frozen` is how many.
    """
    composed = runtime.fold == "on" or (runtime.fold == "auto" and device.type == "cpu")  # not measured on a GPU
    for module in modules:
        if composed:
            fold(module, live=LIVE if runtime.fold == "auto" else (0, 0), frozen=frozen)
        else:
            fold(module)


def describe(device: torch.device) -> str:
    """A device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def device_facts(device: torch.device) -> dict[str, object]:
    """What ran the training, for the run's params."""
    facts: dict[str, object] = {"device.type": device.type, "device.torch": torch.__version__}
    if device.type == "cuda":
        facts |= {"device.name": torch.cuda.get_device_name(device), "device.cuda": torch.version.cuda}
    else:
        facts |= {"device.threads": torch.get_num_threads()}
    return facts
