"""Operations of networks and training steps: counted by torch while they run on tensors without memory.

The rule: one operation is a multiply-add (MAC) of a convolution or a matrix product, in whatever pass it happens. A
step is run as the training runs it, so its backward is counted as autograd does it, the critic's step has the
generator's forward and the gradient of the penalty's gradient, and the identity loss has Inet's passes. Activations,
resampling, losses and Adam are not counted. FLOPs are twice as many.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from gwainet.dataset import Faces
from gwainet.macs import MacCounter, without_memory
from gwainet.nets.model import build_cnet, build_generator, build_inet
from gwainet.params import SCALE, Networks, Params
from gwainet.plan.rehearsal import rehearse, settings_of
from gwainet.training.engine import Engine
from gwainet.training.feeds import Feed, HostFeed, Sampler

Made = TypeVar("Made")

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Network:
    """A network's size.

    Attributes:
        name: as the paper calls it.
        parameters: how many.
        macs: multiply-adds of the forward of one image.
    """

    name: str
    parameters: int
    macs: int


@dataclass(frozen=True)
class Step:
    """One step of a phase.

    Attributes:
        macs: multiply-adds.
        updates: name of an optimiser of the phase -> its updates.
    """

    macs: int
    updates: dict[str, int]


def count_networks(networks: Networks, faces: Faces) -> tuple[Network, ...]:
    """Every network of a profile at the size of its faces; `generator` is Wnet, GFEnet, SRnet and the fusions."""
    height, width = faces.height, faces.width
    with without_memory(), torch.no_grad():
        image, low = torch.zeros(1, 3, height, width), torch.zeros(1, 3, height // SCALE, width // SCALE)
        features = torch.zeros(1, networks.width, height // SCALE, width // SCALE)
        generator = build_generator(networks, faces.means, guided=True, seed=0)
        assert generator.wnet is not None
        assert generator.gnet.gfenet is not None
        srnet = generator.gnet.srnet
        fused = torch.cat([features, features], dim=1)
        fusions = [_network("fusion", fusion, fused) for fusion in srnet.fusions]
        fusion = Network("fusion", sum(f.parameters for f in fusions), sum(f.macs for f in fusions))
        both = _network("SRnet", srnet, low, [features] * len(fusions))
        return (
            _network("Wnet", generator.wnet, image, image),
            _network("GFEnet", generator.gnet.gfenet, image),
            Network("SRnet", both.parameters - fusion.parameters, both.macs - fusion.macs),
            fusion,
            _network("generator", generator, low, image, image),
            _network("Cnet", build_cnet(networks, height, width, 0), image),
            _network("Inet", build_inet(networks, height, width, 0), image),
        )


def _network(name: str, module: nn.Module, *inputs: Tensor | list[Tensor]) -> Network:
    with MacCounter() as counter:
        module(*inputs)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return Network(name, parameters, counter.macs)


class _FirstStep(Feed[Made]):
    """The batches of the first step, read when this is made: they are drawn by real numbers."""

    def __init__(self, sampler: Sampler[Made], device: torch.device, updates: int) -> None:
        super().__init__(sampler, device, updates)
        plain = HostFeed(sampler, device, updates)
        plain.ready(0)
        self._batches = [plain.batch(number) for number in range(updates)]
        self._epsilons = [plain.epsilon(number) for number in range(updates)] if "epsilon" in sampler.drawn(0) else []

    def ready(self, step: int) -> None:
        """All is read."""

    def batch(self, number: int = 0) -> Made:
        """One of them."""
        return self._batches[number]

    def epsilon(self, number: int = 0) -> Tensor:
        """Epsilon of one of them."""
        return self._epsilons[number]


class _Rehearsed(Engine):
    """The plain engine, with batches that are read when it is taken up."""

    def feed(self, sampler: Sampler[Made], device: torch.device, updates: int = 1) -> Feed[Made]:
        """A feed that has read its first step."""
        return _FirstStep(sampler, device, updates)


def count_step(stage: str, variant: str | None, params: Params, faces: Faces, step: int = 0) -> Step:
    """Run one step of a training stage's phase without memory, and count."""
    updates: Counter[str] = Counter()
    with without_memory():
        phase = rehearse(stage, variant, params, faces, _CPU)(settings_of(params, stage, variant).batch_size)
    phase.use(_Rehearsed())
    with without_memory():
        for name, optimiser in phase.optimisers.items():
            optimiser.register_step_post_hook(lambda *_, name=name: updates.update([name]))
        with MacCounter() as counter:
            phase.step(step)
    return Step(counter.macs, dict(updates))
