"""Whole models of other papers' systems, and their weights files."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from gwainet.baselines.cascade import Cascade
from gwainet.baselines.edsr import Edsr
from gwainet.baselines.gfrnet import Gfrnet
from gwainet.baselines.srcnn import Srcnn
from gwainet.baselines.srresnet import Srresnet
from gwainet.baselines.tdae import TdaeStyle
from gwainet.baselines.vdsr import Vdsr
from gwainet.baselines.waveletsrnet import WaveletSRNet
from gwainet.errors import CheckpointError
from gwainet.macs import MacCounter, without_memory
from gwainet.nets.model import FORMAT, Generated, SuperResolver, load_into, open_weights
from gwainet.params import BASELINE_WIDTH, SCALE, BaselineSystem
from gwainet.tensors import Means

KIND = "baseline"
ADD_LANDMARKS = (
    "the prepared faces have none. Of the sources celeba alone brings them, and drawn people have them: put "
    "list_landmarks_align_celeba.txt beside CelebA's other files (fetch_faces.landmarks) and run fetch_faces again"
)


@dataclass(frozen=True)
class Facts:
    """What a system is.

    Attributes:
        build: makes its network, of so many feature maps.
        guided: whether it takes a guide.
        critic: whether it is trained with one, so that it sees as many images as both of our phases.
        landmarks: whether its training needs those of targets and guides; its answers never do.
    """

    build: Callable[[Means, int], nn.Module]
    guided: bool = False
    critic: bool = False
    landmarks: bool = False


SYSTEMS: dict[BaselineSystem, Facts] = {
    "srcnn": Facts(lambda _, width: Srcnn(width)),
    "vdsr": Facts(Vdsr),
    "edsr": Facts(lambda _, width: Edsr(width)),
    "srresnet": Facts(lambda _, width: Srresnet(width)),
    "srgan": Facts(lambda _, width: Srresnet(width), critic=True),
    "waveletsrnet": Facts(lambda _, width: WaveletSRNet(width)),
    "cascade": Facts(Cascade),
    "tdae_style": Facts(lambda _, width: TdaeStyle(width)),
    "gfrnet": Facts(lambda _, width: Gfrnet(width), guided=True, critic=True),
    "gfrnet_landmarks": Facts(lambda _, width: Gfrnet(width), guided=True, critic=True, landmarks=True),
}
GFRNETS: tuple[BaselineSystem, ...] = ("gfrnet", "gfrnet_landmarks")  # one network, trained in two ways


def width_of(narrow: int) -> int:
    """Feature maps of a system that is so many times narrower than published."""
    return BASELINE_WIDTH // narrow


class Baseline(SuperResolver):
    """Another paper's system, asked as ours are.

    Args:
        system: which.
        means: of the data set it is trained on.
        narrow: by what its feature maps are divided.
    """

    def __init__(self, system: BaselineSystem, means: Means, narrow: int = 1) -> None:
        super().__init__()
        self.system, self.means, self.narrow = system, means, narrow
        self.guided, self.guide_optional = SYSTEMS[system].guided, False
        self.network = SYSTEMS[system].build(means, width_of(narrow))

    def forward(self, i_lr: Tensor, i_lru: Tensor, i_gi: Tensor | None = None) -> Generated:
        """Super-resolve a batch. Shapes: (B, 3, h, w), (B, 3, 8h, 8w), (B, 3, 8h, 8w) -> `Generated`."""
        made: Generated = self.network(i_lr, i_lru, i_gi)
        return made


def build_baseline(system: BaselineSystem, means: Means, narrow: int, seed: int) -> Baseline:
    """A system with fresh weights, the same for the same seed."""
    baseline = Baseline(system, means, narrow)
    initialise: Callable[[torch.Generator], None] = baseline.network.initialise  # type: ignore[assignment]
    initialise(torch.Generator().manual_seed(seed))
    return baseline


def forward_macs(make: Callable[[], SuperResolver], height: int, width: int) -> int:
    """Multiply-adds of the forward of one image, of what `make` builds.

    Args:
        make: builds the model; it takes no memory here.
        height: of the answer, pixels.
        width: of the answer, pixels.
    """
    with without_memory(), torch.no_grad():
        model = make().eval()
        image, low = torch.zeros(1, 3, height, width), torch.zeros(1, 3, height // SCALE, width // SCALE)
        with MacCounter() as counter:
            model(low, image, image if model.guided else None)
    macs: int = counter.macs
    return macs


@dataclass(frozen=True)
class BaselineMetadata:
    """What a weights file of kind `baseline` says of itself.

    Attributes:
        system: which.
        narrow: by what its feature maps are divided.
        means: of the training split.
        height: of the training images, pixels.
        width: of the training images, pixels.
        images: that its training was planned to see; 0: it is not trained.
    """

    system: BaselineSystem
    narrow: int
    means: Means
    height: int
    width: int
    images: int

    def to_strings(self) -> dict[str, str]:
        """As safetensors metadata."""
        return {
            "format": FORMAT,
            "kind": KIND,
            "system": self.system,
            "narrow": str(self.narrow),
            "means": json.dumps({"lr": self.means.lr, "hr": self.means.hr}),
            "height": str(self.height),
            "width": str(self.width),
            "guided": json.dumps(SYSTEMS[self.system].guided),
            "images": str(self.images),
        }

    @classmethod
    def from_strings(cls, values: Mapping[str, str], path: Path) -> Self:
        """Of a file that was opened.

        Raises:
            CheckpointError: it holds no baseline, or one that this version does not know.
        """
        if values.get("format") != FORMAT or values.get("kind") != KIND:
            raise CheckpointError(
                f"{path} holds weights of kind `{values.get('kind')}`, not `{KIND}`: train_baselines writes those"
            )
        system = next((name for name in SYSTEMS if name == values["system"]), None)
        if system is None:
            raise CheckpointError(f"{path} is of `{values['system']}`; known are {', '.join(SYSTEMS)}")
        means = json.loads(values["means"])
        return cls(
            system=system,
            narrow=int(values["narrow"]),
            means=Means(lr=tuple(means["lr"]), hr=tuple(means["hr"])),
            height=int(values["height"]),
            width=int(values["width"]),
            images=int(values["images"]),
        )


def load_baseline(path: Path, device: torch.device) -> tuple[Baseline, BaselineMetadata]:
    """A trained system, ready for use, and what its file says of it.

    Raises:
        CheckpointError: the file is missing, damaged or of another kind.
    """
    tensors, strings = open_weights(path)
    metadata = BaselineMetadata.from_strings(strings, path)
    baseline = Baseline(metadata.system, metadata.means, metadata.narrow)
    load_into(baseline, tensors, path)
    return baseline.to(device).eval(), metadata
