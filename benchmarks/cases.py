"""What the benchmarks compare; every function here runs in a form's own process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import cold, pairs, preparation, quality
from benchmarks.timing import Work
from gwainet import losses
from gwainet.dataset import Faces
from gwainet.exported import OPSET
from gwainet.nets.folded import fold, freeze
from gwainet.nets.gnet import SRnet
from gwainet.nets.model import Generator, build_cnet, build_generator
from gwainet.nets.transposed import critic_gradient
from gwainet.params import Networks, Params, Runtime, TrainAdversarial, TrainPsnr
from gwainet.plan.rehearsal import rehearse, write_noise
from gwainet.tensors import Means
from gwainet.training.device import choose_device, fold_for_training
from gwainet.training.phases import adam

HEIGHT, WIDTH = 168, 144
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """One table.

    Attributes:
        title: what is timed.
        group: `training`, `inference`, `preparation`, `pairs` or `metrics`.
        images: that one turn works on.
        forms: name -> what builds the work, given the threads; the first is what the others are compared with.
        fewer: forms whose turn works on fewer, since they are slow; times are then given for one.
        unit: what one of them is called, where times are given for one.
    """

    title: str
    group: str
    images: int
    forms: Mapping[str, Callable[[int], Work]]
    fewer: Mapping[str, int] = field(default_factory=dict)
    unit: str | None = None


def _faces() -> Faces:
    with TemporaryDirectory(prefix="gwainet-benchmarks-") as directory:
        return write_noise(Path(directory), HEIGHT, WIDTH)  # the arrays stay mapped when the files are gone


def _set_up(threads: int, allocator: bool) -> None:
    """The project's settings of a CPU, or torch's own."""
    if allocator:
        choose_device(Runtime(device="cpu", threads=threads))
    torch.set_num_threads(threads)


def phase_step(stage: str, variant: str, batch: int, allocator: bool, mode: str, threads: int) -> Work:
    """Steps of a training stage's phase at the paper's sizes, on faces of noise."""
    _set_up(threads, allocator)
    phase = rehearse(stage, variant, Params(profile="benchmark"), _faces(), CPU)(batch)
    fold_for_training(phase.modules.values(), Runtime.model_validate({"fold": mode}), CPU)
    steps = count()
    return lambda: next(iter(phase.step(next(steps)).values())).item()


def critic_step(batch: int, written_out: bool, threads: int) -> Work:
    """The critic's update alone (Eq. 8), without the generator's forward."""
    _set_up(threads, allocator=True)
    critic = build_cnet(Networks(), HEIGHT, WIDTH, seed=0)
    optimiser = adam(critic.parameters(), TrainAdversarial(), 1e-4)
    draws = torch.Generator().manual_seed(0)
    i_sr, i_gt = torch.rand(2, batch, 3, HEIGHT, WIDTH, generator=draws) * 2 - 1
    epsilon = torch.rand(batch, 1, 1, 1, generator=draws)
    gradient = partial(critic_gradient, critic) if written_out else partial(losses.image_gradient, critic)

    def step() -> float:
        penalty = losses.gradient_penalty(gradient, i_sr, i_gt, epsilon)
        loss = losses.critic_loss(critic(i_sr), critic(i_gt), penalty, 10.0)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.item()

    return step


def banet_step(batch: int, network: Callable[[], nn.Module], threads: int) -> Work:
    """A step of BAnet's PSNR phase: the network, L_content and Adam, the allocator's settings on both sides."""
    _set_up(threads, allocator=True)
    model, draws = network(), torch.Generator().manual_seed(0)
    optimiser = adam(model.parameters(), TrainPsnr(), 1e-4)
    low = torch.rand(batch, 3, HEIGHT // 8, WIDTH // 8, generator=draws)
    i_gt = torch.rand(batch, 3, HEIGHT, WIDTH, generator=draws) * 2 - 1

    def step() -> float:
        loss = losses.content_loss(model(low), i_gt)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.item()

    return step


def _generator_and_inputs(batch: int) -> tuple[Generator, tuple[Tensor, Tensor, Tensor]]:
    """The paper's generator, and `i_lr`, `i_lru` and `i_gi` of noise."""
    generator = build_generator(Networks(), Means((0.5,) * 3, (0.5,) * 3), guided=True, seed=0).eval()
    draws = torch.Generator().manual_seed(0)
    i_lr = torch.rand(batch, 3, HEIGHT // 8, WIDTH // 8, generator=draws) - 0.5
    i_lru, i_gi = torch.rand(2, batch, 3, HEIGHT, WIDTH, generator=draws) - 0.5
    return generator, (i_lr, i_lru, i_gi)


def answers(batch: int, allocator: bool, composed: bool, threads: int) -> Work:
    """Wnet, the sampler and Gnet on a batch, from tensors to tensors."""
    _set_up(threads, allocator)
    generator, inputs = _generator_and_inputs(batch)
    fold(generator, frozen=3 if composed else 0)

    @torch.inference_mode()
    def run() -> float:
        return float(generator(*inputs).i_sr.square().mean())

    return run


def onnx_answers(batch: int, threads: int) -> Work:
    """The same by ONNX Runtime, of what `python -m gwainet export` writes but for the pictures' conversion."""
    import onnxruntime

    _set_up(threads, allocator=True)
    generator, inputs = _generator_and_inputs(batch)
    freeze(generator)
    names = ["i_lr", "i_lru", "i_gi"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with TemporaryDirectory() as folder, torch.no_grad():
        generator(*inputs)  # composes
        path = Path(folder) / "generator.onnx"
        program = torch.onnx.export(
            generator, inputs, dynamo=True, verbose=False, opset_version=OPSET, input_names=names
        )
        assert program is not None
        program.save(path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    arrays = dict(zip(names, (tensor.numpy() for tensor in inputs), strict=True))
    answer = session.get_outputs()[0].name
    return lambda: float(np.square(session.run([answer], arrays)[0]).mean())


def banet_answers(batch: int, network: Callable[[], nn.Module], threads: int) -> Work:
    """BAnet's answers to a batch, the allocator's settings on both sides."""
    _set_up(threads, allocator=True)
    model = network().eval()
    low = torch.rand(batch, 3, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def run() -> float:
        return float(model(low).square().mean())

    return run


def banet(live: bool) -> SRnet:
    """BAnet, its decoder composed for training or for use."""
    network = SRnet(guided=False)
    _same_weights(network)
    if live:
        fold_for_training([network], Runtime(), CPU)
        return network
    return fold(network, frozen=3)


def edsr() -> nn.Module:
    """BasicSR's EDSR at 8x: BAnet to the parameter."""
    from benchmarks.peer import edsr_of_basicsr

    network = edsr_of_basicsr()
    own = sum(parameter.numel() for parameter in SRnet(guided=False).parameters())
    assert sum(parameter.numel() for parameter in network.parameters()) == own
    _same_weights(network)
    return network


def _same_weights(network: nn.Module) -> None:
    """The same values in the same order of layers for both: SRnet and EDSR then compute the same."""
    draws = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        values: Tensor = (torch.rand(parameter.shape, generator=draws) - 0.5) * 0.1
        parameter.data.copy_(values)


def _psnr(batch: int) -> Case:
    step = partial(phase_step, "train_psnr", "guided", batch)
    forms: dict[str, Callable[[int], Work]] = {
        "plain eager": partial(step, False, "off"),
        "with the allocator's settings": partial(step, True, "off"),
        "and composed decoders": partial(step, True, "auto"),
    }
    return Case(f"A step of the PSNR phase, batch {batch}", "training", batch, forms)


def _answers(batch: int) -> Case:
    forms: dict[str, Callable[[int], Work]] = {
        "plain eager": partial(answers, batch, False, False),
        "with the allocator's settings": partial(answers, batch, True, False),
        "and composed decoders": partial(answers, batch, True, True),
    }
    if find_spec("onnxruntime") and find_spec("onnxscript"):  # the extra `onnx`
        forms["ONNX Runtime, composed decoders"] = partial(onnx_answers, batch)
    return Case(f"The generator's answers, batch {batch}", "inference", batch, forms)


CASES: dict[str, Case] = {
    "preparation": Case(
        f"{preparation.PHOTOS:,} photos of CelebA's size into faces",
        "preparation",
        preparation.PHOTOS,
        preparation.FORMS,
        preparation.FEWER,
        "photo",
    ),
    "pairs": Case("Random pairs of targets and guides", "pairs", pairs.PAIRS, pairs.FORMS, pairs.FEWER, "pair"),
    "cold": Case("Random pairs whose pages are not in memory", "pairs", cold.PAIRS, cold.FORMS, unit="pair"),
    "metrics": Case("PSNR and SSIM of faces, 168x144", "metrics", quality.FACES, quality.forms(), unit="image"),
    "psnr16": _psnr(16),
    "psnr4": _psnr(4),
    "critic": Case(
        "The critic's update, batch 4",
        "training",
        4,
        {"autograd": partial(critic_step, 4, False), "written out": partial(critic_step, 4, True)},
    ),
    "adversarial": Case(
        "Five critic updates and the generator's, GWAnet, batch 4",
        "training",
        24,
        {
            "plain decoders": partial(phase_step, "train_adversarial", "gwanet", 4, True, "off"),
            "composed decoders": partial(phase_step, "train_adversarial", "gwanet", 4, True, "auto"),
        },
    ),
    "banet16": Case(
        "A step of BAnet's PSNR phase, batch 16",
        "training",
        16,
        {"BasicSR's EDSR": partial(banet_step, 16, edsr), "SRnet": partial(banet_step, 16, partial(banet, True))},
    ),
    "answers8": _answers(8),
    "answers1": _answers(1),
    "banet8": Case(
        "BAnet's answers, batch 8",
        "inference",
        8,
        {"BasicSR's EDSR": partial(banet_answers, 8, edsr), "SRnet": partial(banet_answers, 8, partial(banet, False))},
    ),
}
