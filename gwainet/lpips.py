"""LPIPS v0.1 with AlexNet (Zhang et al., CVPR 2018), from weights files that a user brings.

Nothing here can fetch them: the features are torchvision's AlexNet, trained on ImageNet, the linear layers come with
the package `lpips`. Either one file of `lpips.LPIPS(net="alex").state_dict()`, or the two as they are published
(`alexnet-owt-7be5be79.pth`, and `lpips/weights/v0.1/alex.pth`): what all files hold together is the network.
"""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from gwainet.errors import CheckpointError
from gwainet.images import Uint8
from gwainet.tensors import column, to_tensor

LPIPS = "lpips"
SMALLEST_SIDE = 31  # pixels: below it AlexNet's second pooling has nothing left
LPIPS_CONVENTION = (
    "0 or more, lower is better: LPIPS v0.1 with AlexNet between the answer and the ground truth (Zhang et al., CVPR "
    "2018), whole pictures in [-1, 1], by the weights files of `benchmark.lpips_weights`"
)

# index in torchvision's `features`, channels in, channels out, kernel, stride, padding, pooled before
_LAYERS = (
    (0, 3, 64, 11, 4, 2, False),
    (3, 64, 192, 5, 1, 2, True),
    (6, 192, 384, 3, 1, 1, True),
    (8, 384, 256, 3, 1, 1, False),
    (10, 256, 256, 3, 1, 1, False),
)
# what pictures in [-1, 1] are brought to before AlexNet: ImageNet's means and deviations on that scale
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_SMALL = 1e-10  # added to the length of a feature vector


class Lpips(nn.Module):
    """Five layers of AlexNet's features, unit length over channels, squared differences, a weight a channel, the mean.

    Shapes: (B, 3, H, W), (B, 3, H, W), both in [-1, 1] and of `SMALLEST_SIDE` pixels a side or more -> (B,).
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleList(
            nn.Conv2d(before, after, kernel, stride, padding)
            for _, before, after, kernel, stride, padding, _ in _LAYERS
        )
        self.linear = nn.ParameterList(nn.Parameter(torch.zeros(1, after, 1, 1)) for _, _, after, *_ in _LAYERS)

    def maps(self, image: Tensor) -> list[Tensor]:
        """The features of each layer, after its ReLU. Shapes: (B, 3, H, W) -> five of (B, channels, h, w)."""
        x = (image - column(_SHIFT, image.device)) / column(_SCALE, image.device)
        found = []
        for convolution, (*_, pooled) in zip(self.features, _LAYERS, strict=True):
            x = F.relu(convolution(F.max_pool2d(x, 3, 2) if pooled else x))
            found.append(x)
        return found

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Their distance (Eq. 1)."""
        total = torch.zeros(len(a), device=a.device)
        for first, second, weight in zip(self.maps(a), self.maps(b), self.linear, strict=True):
            total = total + (weight * (_unit(first) - _unit(second)).square()).sum(dim=1).mean(dim=(1, 2))
        return total

    @torch.inference_mode()
    def of_pictures(self, a: Uint8, b: Uint8) -> list[float]:
        """The distance of each pair. Shapes: (B, H, W, 3), (B, H, W, 3) uint8 -> B numbers."""
        device = self.linear[0].device
        distance: Tensor = self(to_tensor(a, device) * 2 - 1, to_tensor(b, device) * 2 - 1)
        return [float(value) for value in distance.cpu()]


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + _SMALL)


def load_lpips(paths: Sequence[Path], device: torch.device) -> Lpips:
    """The network of one or several weights files (.safetensors, or torch's own).

    Raises:
        CheckpointError: a file is missing or no file of tensors, or they hold not all of the network, or another shape.
    """
    tensors: dict[str, Tensor] = {}
    for path in paths:
        tensors |= _read(path)
    named = ", ".join(str(path) for path in paths)
    state: dict[str, Tensor] = {}
    for place, (index, *_) in enumerate(_LAYERS):
        for kind in ("weight", "bias"):
            names = (f"features.{index}.{kind}", f"net.slice{place + 1}.{index}.{kind}")
            state[f"features.{place}.{kind}"] = _first(tensors, names, named)
        names = (f"lin{place}.model.1.weight", f"lins.{place}.model.1.weight")
        state[f"linear.{place}"] = _first(tensors, names, named)
    network = Lpips()
    for name, parameter in network.state_dict().items():
        if state[name].shape != parameter.shape:
            raise CheckpointError(
                f"{named}: {name} is {tuple(state[name].shape)}, LPIPS v0.1 with AlexNet has {tuple(parameter.shape)} "
                "there: these are weights of another network (benchmark.lpips_weights)"
            )
        if not state[name].isfinite().all():
            raise CheckpointError(f"{named}: {name} is not finite (benchmark.lpips_weights)")
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return network.to(device).eval().requires_grad_(False)


def _first(tensors: Mapping[str, Tensor], names: Sequence[str], files: str) -> Tensor:
    for name in names:
        if name in tensors:
            return tensors[name]
    raise CheckpointError(
        f"{files}: there is no {' or '.join(names)}: LPIPS v0.1 with AlexNet needs AlexNet's features (torchvision's "
        "alexnet-owt-7be5be79.pth) and the linear layers (lpips/weights/v0.1/alex.pth), or one file of "
        "lpips.LPIPS(net='alex').state_dict() (benchmark.lpips_weights)"
    )


def _read(path: Path) -> dict[str, Tensor]:
    try:
        held = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist (benchmark.lpips_weights)") from None
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is no file of weights ({error}): benchmark.lpips_weights") from error
    if not isinstance(held, Mapping) or not all(isinstance(value, Tensor) for value in held.values()):
        raise CheckpointError(f"{path} holds no names with tensors, as a state_dict does (benchmark.lpips_weights)")
    return dict(held)
