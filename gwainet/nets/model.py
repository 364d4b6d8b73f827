"""Whole models: the generator as one module, weights in files that say what they belong to.

A weights file is safetensors: no pickle, nothing runs when it is opened. Its metadata holds all that is needed to build
the network, so a file loads with nothing beside it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gwainet.errors import CheckpointError
from gwainet.files import staged_file
from gwainet.images import Uint8
from gwainet.nets.blocks import Downscale8x, initialise
from gwainet.nets.cnet import Cnet
from gwainet.nets.folded import fold
from gwainet.nets.gnet import Gnet
from gwainet.nets.inet import Inet
from gwainet.nets.wnet import Wnet, warp
from gwainet.params import SCALE, Networks
from gwainet.tensors import Means, column, guide_input, network_inputs, to_uint8

FORMAT = "1"


class Generated(NamedTuple):
    """What the generator makes of a batch.

    Attributes:
        i_sr: (B, 3, H, W), [-1, 1], not clamped.
        i_gw: (B, 3, H, W), mean-subtracted; None without a guide.
        omega: (B, 2, H, W), grid units; None without a guide.
    """

    i_sr: Tensor
    i_gw: Tensor | None
    omega: Tensor | None


class SuperResolved(NamedTuple):
    """Pictures: super-resolved, and the warped guide (None without a guide). (B, H, W, 3) uint8."""

    sr: Uint8
    warped: Uint8 | None


class SuperResolver(nn.Module):
    """What makes pictures of pictures: `Generator`, and other papers' systems (`gwainet.baselines`).

    Attributes:
        means: of the data set it is trained on.
        guided: whether it takes a guide.
        guide_optional: whether it answers without its guide, too.
    """

    means: Means
    guided: bool
    guide_optional: bool

    @torch.inference_mode()
    def super_resolve(self, low: Uint8, guide: Uint8 | None = None) -> SuperResolved:
        """Pictures in, pictures out.

        Shapes: (B, h, w, 3), (B, 8h, 8w, 3) -> (B, 8h, 8w, 3).

        Raises:
            ValueError: shapes or dtypes do not fit, or a guided generator has no guide.
        """
        check_pictures(low, guide, self.guided, self.guide_optional)
        device = next(self.parameters()).device
        inputs = network_inputs(low, self.means, device)
        if not self.guided or guide is None:
            return SuperResolved(to_uint8(self(**inputs).i_sr), None)
        made = self(**inputs, i_gi=guide_input(guide, self.means, device))
        return SuperResolved(to_uint8(made.i_sr), to_uint8((made.i_gw + column(self.means.hr, device)) * 2 - 1))


class Generator(SuperResolver):
    """Wnet, the sampler and Gnet (Fig. 2), or SRnet alone where `guided` is false (BAnet).

    Args:
        networks: sizes.
        means: of the data set it is trained on.
        guided: whether it takes a guide.
        guide_optional: whether it was trained to answer without its guide, too (`guide_dropout`).
    """

    _lr_mean: Tensor

    def __init__(self, networks: Networks, means: Means, guided: bool = True, guide_optional: bool = False) -> None:
        super().__init__()
        self.networks, self.means, self.guided, self.guide_optional = networks, means, guided, guide_optional
        # not a weight, and no part of a weights file, but it goes where they go
        self.register_buffer("_lr_mean", column(means.lr, torch.device("cpu")), persistent=False)
        self.wnet = Wnet(networks.width, networks.warp_blocks) if guided else None
        self.gnet = Gnet(networks.width, networks.blocks_per_group, guided)

    def forward(self, i_lr: Tensor, i_lru: Tensor | None = None, i_gi: Tensor | None = None) -> Generated:
        """Super-resolve a batch (Fig. 2).

        Shapes: (B, 3, h, w), (B, 3, 8h, 8w), (B, 3, 8h, 8w) -> `Generated`.

        Raises:
            ValueError: an input that it needs is missing.
        """
        if i_lru is None and (self.wnet is not None or self.networks.image_skip):
            raise ValueError("a generator with a guide or with `image_skip` needs i_lru")
        if self.wnet is None:
            return self._generated(self.gnet(i_lr), i_lru)
        assert i_lru is not None
        if i_gi is None:
            if not self.guide_optional:
                raise ValueError("a guided generator needs i_gi, unless it was trained with `guide_dropout`")
            i_gi = torch.zeros_like(i_lru)  # the mean colour, as `Faces.batch` takes a guide away
        omega = self.wnet(i_lru, i_gi)
        i_gw = warp(i_gi, omega, self.networks.sampler)
        return self._generated(self.gnet(i_lr, i_gw), i_lru, i_gw, omega)

    def _generated(
        self, i_sr: Tensor, i_lru: Tensor | None, i_gw: Tensor | None = None, omega: Tensor | None = None
    ) -> Generated:
        """What SRnet made; with `image_skip`, on top of I_LRU in [-1, 1] (N5)."""
        if self.networks.image_skip and i_lru is not None:
            i_sr = i_sr + (i_lru + self._lr_mean) * 2 - 1
        return Generated(i_sr, i_gw, omega)


def check_pictures(low: Uint8, guide: Uint8 | None, guided: bool, guide_optional: bool = False) -> None:
    """Refuse pictures that the generator cannot take.

    Raises:
        ValueError: says which shape or dtype is wrong and what it must be.
    """
    if low.ndim != 4 or low.shape[3] != 3 or low.dtype.name != "uint8":
        raise ValueError(f"low-resolution pictures must be (B, h, w, 3) uint8, not {low.shape} {low.dtype}")
    if not guided or (guide is None and guide_optional):
        return
    if guide is None:
        raise ValueError("this model needs a guide: another photo of the same person")
    wanted = (low.shape[0], low.shape[1] * SCALE, low.shape[2] * SCALE, 3)
    if guide.shape != wanted or guide.dtype.name != "uint8":
        raise ValueError(f"guides must be {wanted} uint8 for these inputs, not {guide.shape} {guide.dtype}")


def build_generator(
    networks: Networks, means: Means, guided: bool, seed: int, guide_optional: bool = False
) -> Generator:
    """A generator with fresh weights (N7), the same for the same seed."""
    generator = Generator(networks, means, guided, guide_optional and guided)
    _initialise_warper(generator, networks, seed)
    if networks.zero_fusion:
        for fusion in generator.gnet.srnet.fusions:
            nn.init.zeros_(fusion.get_parameter("weight")[:, networks.width :])  # the guide's half (N4)
    if networks.image_skip:
        nn.init.zeros_(generator.gnet.srnet.conv_out.weight)  # start from bicubic
    return generator


def build_wnet(networks: Networks, seed: int) -> Wnet:
    """A warper with fresh weights (N7)."""
    wnet = Wnet(networks.width, networks.warp_blocks)
    _initialise_warper(wnet, networks, seed)
    return wnet


def _initialise_warper(module: nn.Module, networks: Networks, seed: int) -> None:
    """Glorot everywhere (N7), then what `zero_flow` and `encoder_gain` change (not the paper's)."""
    initialise(module, torch.Generator().manual_seed(seed))
    for part in module.modules():
        if isinstance(part, Wnet) and networks.zero_flow:
            nn.init.zeros_(part.conv_flow.weight)  # start from the guide as it is
        if isinstance(part, Downscale8x) and networks.encoder_gain == "he":
            for layer in part:
                if isinstance(layer, nn.Conv2d):
                    with torch.no_grad():
                        # Glorot's variance is 2 / (fan_in + fan_out), He's 2 / fan_in: every layer here ends in a ReLU
                        layer.weight.mul_((1 + layer.out_channels / layer.in_channels) ** 0.5)


def build_cnet(networks: Networks, height: int, width: int, seed: int) -> Cnet:
    """A critic with fresh weights (N7)."""
    cnet = Cnet(height, width, networks.critic_width)
    initialise(cnet, torch.Generator().manual_seed(seed))
    return cnet


def build_inet(networks: Networks, height: int, width: int, seed: int) -> Inet:
    """An identity encoder with fresh weights (N7)."""
    inet = Inet(height, width, networks.inet_width, networks.inet_features, networks.inet_layout)
    initialise(inet, torch.Generator().manual_seed(seed))
    return inet


@dataclass(frozen=True)
class Metadata:
    """What a weights file says of itself.

    Attributes:
        kind: `generator`, `wnet`, `inet` or `critic`.
        networks: sizes.
        means: of the training split.
        height: of the training images, pixels (fixes the size of Inet's and Cnet's linear layers).
        width: of the training images, pixels.
        guided: whether the generator takes a guide.
        guide_optional: whether it was trained to answer without its guide, too.
    """

    kind: str
    networks: Networks
    means: Means
    height: int
    width: int
    guided: bool = True
    guide_optional: bool = False

    def to_strings(self) -> dict[str, str]:
        """As safetensors metadata."""
        optional = {"guide_optional": "true"} if self.guide_optional else {}  # else files are those of before
        return {
            **optional,
            "format": FORMAT,
            "kind": self.kind,
            "networks": json.dumps(self.networks.model_dump(), sort_keys=True),
            "means": json.dumps({"lr": self.means.lr, "hr": self.means.hr}),
            "height": str(self.height),
            "width": str(self.width),
            "guided": json.dumps(self.guided),
        }

    @classmethod
    def from_strings(cls, values: Mapping[str, str], path: Path) -> Self:
        """Of a file that was opened.

        Raises:
            CheckpointError: it was not written by this project, or by a newer version of it.
        """
        if values.get("format") != FORMAT:
            raise CheckpointError(f"{path}: its metadata is not of format {FORMAT}: it was not written by this version")
        means = json.loads(values["means"])
        return cls(
            kind=values["kind"],
            networks=Networks.model_validate(json.loads(values["networks"])),
            means=Means(lr=tuple(means["lr"]), hr=tuple(means["hr"])),
            height=int(values["height"]),
            width=int(values["width"]),
            guided=json.loads(values["guided"]),
            guide_optional=json.loads(values.get("guide_optional", "false")),
        )


class Describing(Protocol):
    """What a weights file says of itself."""

    def to_strings(self) -> dict[str, str]:
        """As safetensors metadata."""


def save_weights(path: Path, module: nn.Module, metadata: Describing) -> None:
    """Write a module's parameters and what they belong to, in one piece; the same weights make the same bytes."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with staged_file(path) as partial:
        partial.write_bytes(_in_order(save(tensors, metadata.to_strings())))


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its metadata sorted: the library writes them in an order that changes at every call."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + content[start:]


def open_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A file's tensors, and its metadata as it stands there.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            strings = file.metadata() or {}
            # 0-d views of a memory map would keep the file open: clone
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist: run the stage that writes it, or give another path") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a complete safetensors file ({error}): write it again") from error
    return tensors, strings


def read_weights(path: Path, kind: str) -> tuple[dict[str, Tensor], Metadata]:
    """A file's tensors and metadata.

    Raises:
        CheckpointError: the file is missing, damaged, foreign, or of another kind.
    """
    tensors, strings = open_weights(path)
    if strings.get("format") == FORMAT and strings["kind"] != kind:
        raise CheckpointError(f"{path} holds weights of kind `{strings['kind']}`, not `{kind}`")
    return tensors, Metadata.from_strings(strings, path)


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put tensors into a module.

    Raises:
        CheckpointError: names or shapes differ; lists them.
    """
    expected: dict[str, Any] = module.state_dict()
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    shapes = [
        f"{name} {tuple(tensors[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & tensors.keys())
        if expected[name].shape != tensors[name].shape
    ]
    if missing or extra or shapes:
        problems = [
            f"{what}: {', '.join(names[:5])}"
            for what, names in (("missing", missing), ("not expected", extra), ("of another shape", shapes))
            if names
        ]
        raise CheckpointError(f"{path} does not fit these networks; {'; '.join(problems)}")
    module.load_state_dict(dict(tensors))


def load_generator(path: Path, device: torch.device, folded: bool = True) -> Generator:
    """A trained generator, ready for use.

    Args:
        path: of the weights file.
        device: to use it on.
        folded: compose the decoders, once, at the first call (`gwainet.nets.folded`): it pays from some pictures on.

    Raises:
        CheckpointError: the file is missing, damaged or of another kind.
    """
    generator, _ = read_generator(path)
    return fold(generator.to(device), frozen=3 if folded else 0)


def read_generator(path: Path) -> tuple[Generator, Metadata]:
    """A trained generator as it is written, on the CPU, and what its file says of it.

    Raises:
        CheckpointError: the file is missing, damaged or of another kind.
    """
    tensors, metadata = read_weights(path, "generator")
    generator = Generator(metadata.networks, metadata.means, metadata.guided, metadata.guide_optional)
    load_into(generator, tensors, path)
    return generator.eval(), metadata


def load_inet(path: Path, device: torch.device) -> Inet:
    """A trained identity encoder, frozen (L6).

    Raises:
        CheckpointError: the file is missing, damaged or of another kind.
    """
    tensors, metadata = read_weights(path, "inet")
    sizes = metadata.networks
    inet = Inet(metadata.height, metadata.width, sizes.inet_width, sizes.inet_features, sizes.inet_layout)
    load_into(inet, tensors, path)
    return inet.to(device).eval().requires_grad_(False)
