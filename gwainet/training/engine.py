"""How the steps of a training are computed: where the data lie, in which precision, compiled, captured.

None of it changes what a step is (`gwainet.training.phases`), and all of it but the precision leaves the numbers as
they are, up to the rounding of sums in another order. The plain engine, which a phase begins with, is the reference.
"""

import gc
import math
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import Literal, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from gwainet.dataset import Faces
from gwainet.errors import ParamsError, TrainingError
from gwainet.params import Runtime
from gwainet.progress import say
from gwainet.training.device import fold_for_training
from gwainet.training.feeds import AheadFeed, Data, DeviceArrays, DeviceFeed, Feed, HostFeed, Sampler, bytes_of
from gwainet.training.guards import available, is_out_of_memory

Precision = Literal["float32", "bfloat16"]
Made = TypeVar("Made")
M = TypeVar("M", bound=nn.Module)

_SHARE = 0.5  # of a GPU's free memory that data may take: networks and what they keep need the rest
_EAGER_STEPS = 3  # before a capture: they compile, choose algorithms and make the optimisers' state


@dataclass(frozen=True)
class Engine:
    """What was chosen. On a GPU with bfloat16, float32's convolutions (the flow's, the penalty's) are TF32's.

    Attributes:
        data: read from the disk's pages when needed (`host`), in the device's memory, or read ahead into the host's.
        precision: of convolutions and matrix products. With bfloat16, weights, optimisers, losses, the critic's
            penalty, flow and grid stay float32.
        channels_last: memory layout of weights and features.
        compiled: networks by torch.compile.
        graphed: each step, with all of its updates, is captured once as a CUDA graph and replayed.
        joint: the generator answers all critic batches of a step at once (it does not change between them; L8).
        arrays: the data, if they lie in the device's memory.
    """

    data: Data = "host"
    precision: Precision = "float32"
    channels_last: bool = False
    compiled: bool = False
    graphed: bool = False
    joint: bool = False
    arrays: DeviceArrays | None = None

    @property
    def settling(self) -> int:
        """Steps before one that takes as long as those after it."""
        return _EAGER_STEPS + 1 if self.graphed else 1

    @property
    def frozen(self) -> int:
        """Upscalings of a decoder that are composed where no gradients are recorded (`gwainet.nets.folded`).

        None where steps are recorded: what is kept is compared with the weights' values, which the host looks at.
        """
        return 0 if self.compiled or self.graphed else 2

    def facts(self) -> dict[str, object]:
        """The choices, for the log and the run's params."""
        return {f"engine.{each.name}": getattr(self, each.name) for each in fields(self) if each.name != "arrays"}

    def feed(self, sampler: Sampler[Made], device: torch.device, updates: int = 1) -> Feed[Made]:
        """The batches of a sampler."""
        if self.data == "device":
            arrays = self.arrays or DeviceArrays.copied(sampler.faces, device)
            return DeviceFeed(sampler, device, arrays, updates)
        return AheadFeed(sampler, device, updates) if self.data == "ahead" else HostFeed(sampler, device, updates)

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Where networks run in `precision`."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16)

    def lay_out(self, *modules: nn.Module | None) -> None:
        """Put networks into the memory layout."""
        for module in modules:
            if self.channels_last and module is not None:
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def module(self, module: M) -> M:
        """A network as steps call it; its parameters are those of `module`."""
        self.lay_out(module)
        if not self.compiled:
            return module
        return cast("M", torch.compile(module, dynamic=False, fullgraph=True))


PLAIN = Engine()


class Captured:
    """A step that is made a few times as it is, then captured into a CUDA graph, and replayed from there on.

    All three are steps of the training: none is made twice. `update` must use the same tensors at every call.
    """

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._eager = float(_EAGER_STEPS)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._made: dict[str, Tensor] = {}

    def __call__(self, update: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Make a step; what it returns is overwritten by the next one.

        Raises:
            TrainingError: the step cannot be captured.
        """
        if self._graph is not None:
            self._graph.replay()
            return self._made
        try:
            if self._eager:
                self._eager -= 1
                return self._beside(update)
            self._capture(update)
        except BaseException:
            self._eager = math.inf  # so that what would fit can be measured after memory ran out
            raise
        return self(update)

    def _beside(self, update: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """On another stream, as torch asks of what comes before a capture."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            made = update()
        torch.cuda.current_stream().wait_stream(self._stream)
        return made

    def _capture(self, update: Callable[[], dict[str, Tensor]]) -> None:
        """Record a step, without doing it."""
        gc.collect()  # a graph of a phase that is gone must not be freed meanwhile
        graph = torch.cuda.CUDAGraph()
        try:
            # the thread that reads ahead may allocate meanwhile
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._made = update()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise TrainingError(
                f"the step could not be captured as a CUDA graph ({error}): set runtime.cuda_graph to off"
            ) from error
        self._graph = graph


class Usable(Protocol):
    """What `take_up` needs of a phase."""

    modules: dict[str, nn.Module]

    def use(self, engine: Engine) -> None:
        """Compute steps as an engine does."""


def take_up(phase: Usable, runtime: Runtime, device: torch.device, faces: Faces, processes: int = 1) -> Engine:
    """Let a phase compute its steps as `runtime` asks for; as `choose_engine`.

    Raises:
        ParamsError: what is asked for is not to be had.
    """
    engine = choose_engine(runtime, device, faces, processes)
    fold_for_training(phase.modules.values(), runtime, device, engine.frozen)
    phase.use(engine)
    return engine


def choose_engine(runtime: Runtime, device: torch.device, faces: Faces, processes: int = 1) -> Engine:
    """The engine that `runtime` asks for; `auto` is what suits the device. Says what was chosen.

    On a CPU that is the plain one: there bfloat16, channels last and compiling were slower (docs/performance.md).

    Args:
        runtime: params.
        device: of the training.
        faces: that it reads.
        processes: that train together. Their averaging of gradients is not captured.

    Raises:
        ParamsError: what is asked for is not to be had.
    """
    gpu = device.type == "cuda"
    fits = not gpu or bytes_of(faces) <= _SHARE * available(device)
    if runtime.data == "device" and not fits:
        raise ParamsError(
            f"runtime.data is device, but the faces have {bytes_of(faces) / 2**30:.1f} GiB, more than half of the "
            f"{available(device) / 2**30:.1f} GiB free on {device}: use auto or ahead"
        )
    automatic: Data = "host" if not gpu else "device" if fits else "ahead"
    chosen: Data = automatic if runtime.data == "auto" else runtime.data
    against = {
        "this training runs on a CPU": not gpu,
        f"{processes} processes train together": processes > 1,
        "runtime.data is host, whose pages no graph can read": chosen == "host",
    }
    graphless = next((why for why, holds in against.items() if holds), None)
    if runtime.cuda_graph == "on" and graphless:
        raise ParamsError(f"runtime.cuda_graph is on, but {graphless}: use auto")
    lacking = _compiler_lacks(device)
    if runtime.compile == "on" and lacking:
        raise ParamsError(f"runtime.compile is on, but {lacking}: use auto")
    if runtime.compile == "auto" and gpu and lacking:
        say(f"engine: networks are not compiled, as {lacking}")
    precision: Precision = runtime.precision if runtime.precision != "auto" else "bfloat16" if gpu else "float32"
    if gpu:
        # of float32's convolutions: 10 bits of fraction are fine beside bfloat16's 7, but not what `float32` asks for
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "bfloat16"
    engine = Engine(
        data=chosen,
        precision=precision,
        channels_last=_choice(runtime.channels_last, gpu),
        compiled=_choice(runtime.compile, gpu and lacking is None),
        graphed=_choice(runtime.cuda_graph, graphless is None),
        joint=_choice(runtime.joint_critic_batches, gpu),
        arrays=DeviceArrays.copied(faces, device) if chosen == "device" else None,
    )
    say("engine: " + ", ".join(f"{name.removeprefix('engine.')} {value}" for name, value in engine.facts().items()))
    return engine


def _compiler_lacks(device: torch.device) -> str | None:
    """What torch.compile would need on this machine and does not find; None where all is there."""
    if device.type == "cuda" and find_spec("triton") is None:
        return "Triton is not installed"
    variable, names = ("CC", ("cc", "gcc", "clang")) if device.type == "cuda" else ("CXX", ("c++", "g++", "clang++"))
    if any(map(shutil.which, [os.environ.get(variable, ""), *names])):
        return None
    return f"there is no {'C' if variable == 'CC' else 'C++'} compiler (on the PATH, or named by {variable})"


def _choice(param: Literal["auto", "on", "off"], automatic: bool) -> bool:
    return automatic if param == "auto" else param == "on"
