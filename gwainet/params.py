"""Every setting, typed and checked: `params.yaml` is read here and nowhere else.

`params.yaml` holds `profile`, `base.<section>` and `profiles.<name>.<section>`; a profile's values are merged deeply
over the base's. A section belongs to the stage of its name; `networks` is shared by the stages that build networks.
No stage's result depends on three: `runtime` says how to run, never what comes out, `promotion` what a registered
model must show, and `search_rates` which learning rates are tried.

The defaults below are the paper's (Sec. 4.2, CelebA's recipe where the two recipes differ) or the decisions of
`docs/paper.md`.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from gwainet.errors import ParamsError

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NotNegativeFloat = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]

Sampler = Literal["paper", "released", "border"]
Device = Literal["auto", "cpu", "cuda"]

NOT_SHAPING = ("search_rates", "promotion", "runtime")  # sections that no stage's result depends on


def check_s3(url: str, name: str = "") -> str:
    """Check that a text is `s3://bucket/prefix`, and drop a slash at its end.

    Raises:
        ParamsError: it is none, and `name` says whose value it is; ValueError without a name.
    """
    match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/[^?#\\\x00-\x1f]*)?", url)
    prefix = (match[2] or "").removeprefix("/").removesuffix("/") if match else ""
    if match and not (prefix and any(part in ("", ".", "..") for part in prefix.split("/"))):
        return f"s3://{match[1]}/{prefix}" if prefix else f"s3://{match[1]}"
    problem = "must be s3://bucket/prefix without a login, `..` or `?`; credentials stand in the environment or ~/.aws"
    raise ParamsError(f"{name} {problem}") if name else ValueError(problem)


def split_s3(url: str) -> tuple[str, str]:
    """Bucket and prefix of a checked `s3://bucket/prefix`."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return bucket, prefix


S3Url = Annotated[str, AfterValidator(check_s3)]

SCALE = 8  # the paper's only upscaling factor: three stride-2 stages and three pixel shufflers


class Section(BaseModel):
    """A group of params: frozen, with unknown names refused and no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DrawnPeople(Section):
    """The people that the project draws itself (source `drawn`)."""

    people: Positive = Field(300, description="identities to draw")
    photos: tuple[int, int] = Field((4, 6), description="fewest and most photos of one person", strict=False)
    seed: NotNegative = Field(0, description="of everything drawn")
    supersampling: Positive = Field(2, description="drawn at this multiple of the size, then scaled down")
    jpeg_quality: int = Field(95, ge=50, le=100, description="of the written photos")
    validation: Fraction = Field(0.1, description="share of the people in the partition file's validation split")
    test: Fraction = Field(0.2, description="share of the people in the partition file's test split")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 2 <= self.photos[0] <= self.photos[1]:
            raise ValueError("photos must be [fewest, most] with 2 <= fewest <= most")
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must leave people to train on (sum below 1)")
        return self


class FetchFaces(Section):
    """Where the photos come from. Names of files are relative to `data/source/<profile>/`."""

    source: Literal["drawn", "celeba", "folder", "pairs"] = "drawn"
    images: str = Field("img_align_celeba.zip", description="a zip or a folder with the photos (celeba, folder, pairs)")
    identities: str = Field("identity_CelebA.txt", description="celeba: file name and identity, a line each")
    partition: str = Field("list_eval_partition.txt", description="celeba: file name and 0, 1 or 2, a line each")
    landmarks: str = Field(
        "list_landmarks_align_celeba.txt",
        description="celeba: file name and five places of the face; used where it is there, and one system of "
        "train_baselines alone needs it",
    )
    pairs: str = Field("pairs.csv", description="pairs: identity, target, guide, split; beside or inside `images`")
    location: S3Url | None = Field(
        None, description="s3://bucket/prefix, from where `data/source/<profile>/` gets these files; null: from you"
    )
    location_version: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{12}$",
        description="of what `location` must hold, as fetch_faces prints it; null: whatever it holds",
    )
    drawn: DrawnPeople = DrawnPeople()

    @model_validator(mode="after")
    def _location(self) -> Self:
        if self.location is not None and self.source == "drawn":
            raise ValueError("location is for photos that somebody took: source `drawn` reads none")
        if self.location is None and self.location_version is not None:
            raise ValueError("location_version says what location holds: set location too")
        return self


class Crop(Section):
    """The box cut out of every photo, in pixels (docs/paper.md, D3: the paper gives its size alone)."""

    top: NotNegative = 25
    left: NotNegative = 17
    height: Positive = 168
    width: Positive = 144

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.height % SCALE or self.width % SCALE:
            raise ValueError(f"height and width must be divisible by {SCALE}, not {self.height} x {self.width}")
        return self


class PrepareFaces(Section):
    """Crops, identity filter, splits, low-resolution images and the manifest (Sec. 4.1)."""

    crop: Crop = Crop()
    min_images: int = Field(2, ge=2, description="identities with fewer images in a split are dropped (Sec. 4.1)")
    max_identities: Positive | None = Field(
        None, description="keep at most this many people, drawn by `seed`; null: all"
    )
    validation: Fraction = Field(0.1, description="share of identities, for sources that bring no split")
    test: Fraction = Field(0.1, description="share of identities, for sources that bring no split")
    split_pairs_by: Literal["identity", "image"] = Field(
        "identity", description="pairs: `image` is the paper's way (D11)"
    )
    seed: NotNegative = Field(0, description="of splits and fixed guides")
    near_duplicate: float | None = Field(
        None,
        gt=0,
        le=1,
        description="correlation of detail from which two photos of a person are near-duplicates "
        "(docs/data-contract.md): another photo, where there is one, becomes the fixed guide; null: 0.85, and 0.97 of "
        "drawn people, whose photos differ less",
    )

    @model_validator(mode="after")
    def _splits(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must leave people to train on (sum below 1)")
        return self

    def near_duplicate_of(self, source: str) -> float:
        """The limit `near_duplicate` for photos of a source."""
        return self.near_duplicate or (0.97 if source == "drawn" else 0.85)


class Published(Section):
    """What a published data set's own lists hold, before any photo is left out."""

    photos: Positive
    identities: Positive
    partition: dict[Literal["train", "validation", "test"], Positive] = Field(
        description="photos that its partition file gives each split"
    )


class CheckFaces(Section):
    """The data contract's numbers."""

    mean_lowest: float = Field(0.15, ge=0, le=1, description="a channel's mean over the training split, in [0, 1]")
    mean_highest: float = Field(0.85, ge=0, le=1)
    black_below: float = Field(
        4.0, ge=0, le=255, description="an image whose brightest pixel is below this is all black"
    )
    max_rejected: float = Field(0.05, ge=0, le=1, description="share of the source's photos that may be unreadable")
    images: dict[Literal["train", "validation", "test"], Positive] | None = Field(
        None, description="the exact number of images each split must have (CelebA's are published); null: any"
    )
    published: Published | None = Field(None, description="what the source's lists must hold; null: anything")
    min_validation_identities: Positive = 2
    min_test_identities: Positive = 2
    max_near_duplicate_guides: Fraction = Field(
        0.002,
        description="share of the targets that may have a near-duplicate as fixed guide for want of any other photo",
    )
    split_near_duplicate: float = Field(
        0.95,
        gt=0,
        le=1,
        description="correlation from which photos in two splits are near-duplicates; above what two people alike in "
        "pose and light reach (docs/data-contract.md)",
    )
    split_hash_distance: int = Field(
        64, ge=0, le=256, description="bits of 256 in which perceptual hashes may differ for photos to be compared"
    )
    drift: float = Field(
        0.1,
        gt=0,
        le=1,
        description="distance (Kolmogorov-Smirnov) from the last accepted data set beyond which a statistic is told",
    )
    identity: Literal["auto", "on", "off"] = Field(
        "off",
        description="look for wrong labels by dlib's face descriptors, as `benchmark.identity`: `on` needs the extra "
        "`identity`, `auto` looks where it is installed",
    )
    identity_distance: PositiveFloat = Field(
        0.6,
        description="median distance to the person's other photos beyond which a label is doubted (dlib's own limit)",
    )
    identity_images: Positive | None = Field(
        2000, description="at most so many images are described, of whole people; 0.1 s each; null: all"
    )


class Networks(Section):
    """Sizes of the networks; the defaults are the paper's (Sec. 3.2, Table 2)."""

    width: Positive = Field(64, description="feature maps of Wnet, GFEnet and SRnet")
    blocks_per_group: Positive = Field(4, description="residual blocks between fusions: SRnet has 4 groups, GFEnet 3")
    warp_blocks: Positive = Field(8, description="residual blocks of Wnet")
    sampler: Sampler = Field("paper", description="rule outside the image (N9)")
    zero_flow: bool = Field(False, description="start Wnet from zero flow; not the paper's, helps short trainings (N7)")
    encoder_gain: Literal["glorot", "he"] = Field(
        "glorot",
        description="initial weights of the downscaling blocks: `he` keeps the guide's signal alive through their "
        "ReLUs; not the paper's, helps short trainings (N7)",
    )
    zero_fusion: bool = Field(
        False,
        description="start SRnet without the guide: the fusions' weights of GFEnet's features are 0, so that GFEnet is "
        "not silenced before SRnet has learned anything; not the paper's, helps short trainings (N7)",
    )
    image_skip: bool = Field(
        False,
        description="SRnet's output is added to the bicubic I_LRU, and its last convolution starts at zero, so that an "
        "untrained network is bicubic; not the paper's, helps short trainings (N5)",
    )
    critic_width: Positive = Field(64, description="feature maps of Cnet's first convolution; doubled at each of 4")
    inet_width: Positive = Field(64, description="feature maps of Inet's first group")
    inet_features: Positive = Field(4096, description="length of Inet's embedding and of its hidden layers")
    inet_layout: Literal["vgg16", "table2"] = Field("vgg16", description="13 convolutions, or Table 2 as printed (N13)")


class Training(Section):
    """What all training stages share."""

    seed: NotNegative = Field(0, description="of initial weights, batches, guides and epsilon")
    beta1: Fraction = Field(0.9, description="of Adam (Sec. 4.2: 0.9, and 0.5 whenever lambda_adv is not 0)")
    beta2: Fraction = Field(0.999, description="of Adam (Sec. 4.2: 0.999, and 0.9 whenever lambda_adv is not 0)")
    epsilon: PositiveFloat = Field(1e-8, description="of Adam (Sec. 4.2)")
    validate_every: Positive = Field(1000, description="steps between validations")
    validation_faces: int = Field(512, ge=2, description="at most so many validation faces are used while training")
    warm_up_steps: NotNegative = Field(
        0, description="steps in which the learning rate rises in equal parts to its value; not the paper's"
    )
    decay: Literal["none", "cosine"] = Field(
        "none", description="cosine: the learning rate falls to 0 by half a cosine over all steps; not the paper's"
    )


class SeveralSeeds(Training):
    """Training that may be repeated with other seeds, for the spread that the benchmark shows."""

    more_seeds: tuple[NotNegative, ...] = Field(
        (),
        description="each variant is trained again with each of these in place of `seed`, as if it were the only one, "
        "and the benchmark shows the spread; all other figures are those of `seed`. What starts from another stage's "
        "weights starts from those of the same seed: those of train_adversarial must be among train_psnr's",
        strict=False,
    )

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if len({self.seed, *self.more_seeds}) <= len(self.more_seeds):
            raise ValueError(
                f"more_seeds {list(self.more_seeds)} must differ from each other and from seed {self.seed}"
            )
        return self


class GuidedTraining(Training):
    """Training on targets with guides."""

    horizontal_flip: bool = Field(False, description="flip target and guide independently, half of the time (D10)")


class GeneratorTraining(GuidedTraining, SeveralSeeds):
    """Training of Wnet and Gnet together."""

    ema_decay: Fraction = Field(
        0.0,
        description="above 0: validate and keep an exponential moving average of the generator's weights, of which a "
        "step leaves this share (0.999 averages about 1,000 steps); not the paper's",
    )
    guide_dropout: Fraction = Field(
        0.0,
        description="share of the training targets whose guide is taken away (all of it the mean colour): such a model "
        "answers without a guide too; not the paper's",
    )
    other_guides: Fraction = Field(
        0.0,
        description="share of the training targets that get a photo of another person as their guide, so that the "
        "model learns to distrust a wrong one; not the paper's",
    )

    @model_validator(mode="after")
    def _some_guides_are_right(self) -> Self:
        if self.guide_dropout + self.other_guides > 1:
            raise ValueError(
                f"guide_dropout {self.guide_dropout} and other_guides {self.other_guides} are shares of the same "
                "targets: together at most 1"
            )
        return self


class SteadyTraining(Training):
    """Training with one learning rate."""

    learning_rate: PositiveFloat = Field(1e-4, description="of Adam (Sec. 4.2)")


class PretrainInet(SteadyTraining):
    """Identity encoder on pairs of faces (Sec. 4.2: 12 epochs, batch 8; Eq. 5)."""

    epochs: NotNegativeFloat = Field(12.0, description="passes over the training split; 0 writes untrained weights")
    batch_size: Positive = 8


class PretrainWnet(SteadyTraining, GuidedTraining):
    """Warper alone, L1 between warped guide and ground truth (Sec. 4.2: 1.25 epochs, batch 4)."""

    epochs: NotNegativeFloat = Field(1.25, description="passes over the training split; 0 writes untrained weights")
    batch_size: Positive = 4


class TrainPsnr(SteadyTraining, GeneratorTraining):
    """Wnet and Gnet with L_content alone until the validation PSNR reaches its peak (Sec. 4.2: batch 16 or 48)."""

    epochs: NotNegativeFloat = Field(20.0, description="the most passes over the training split")
    patience: Positive = Field(10, description="stop after so many validations without a new best (L11)")
    wnet_learning_rate_factor: PositiveFloat = Field(
        1.0,
        description="Wnet's learning rate over the others'; below 1 it is not the paper's: at the high learning rates "
        "of short trainings Wnet would soon look outside the guide, from where no gradient leads back. Of this phase "
        "alone: `train_adversarial` trains all of the generator at its schedule's rates",
    )
    batch_size: Positive = 16


class SchedulePart(Section):
    """A part of the adversarial schedule with one learning rate."""

    epochs: NotNegativeFloat
    learning_rate: PositiveFloat


class TrainAdversarial(GeneratorTraining):
    """Eqs. 8 and 9 in turn (Sec. 4.2); each part of `schedule` has its learning rate."""

    schedule: tuple[SchedulePart, ...] = Field(
        (SchedulePart(epochs=4.0, learning_rate=1e-4), SchedulePart(epochs=2.0, learning_rate=5e-5)),
        description="parts in order; an epoch is len(train) / batch_size generator updates (L9)",
        strict=False,
    )
    batch_size: Positive = 4
    beta1: Fraction = 0.5
    beta2: Fraction = 0.9
    critic_updates: Positive = Field(5, description="per generator update")
    lambda_adv: NotNegativeFloat = 1e-3
    lambda_id: NotNegativeFloat = Field(0.05, description="of GWAInet; the variants gwanet and banet have 0")
    lambda_gp: NotNegativeFloat = 10.0
    objective: Literal["wgan_gp", "r1"] = Field(
        "wgan_gp",
        description="wgan_gp: Eq. 8. r1: the logistic loss with a penalty on the critic's gradient at real images "
        "(Mescheder et al., ICML 2018), for which one critic update is enough; not the paper's",
    )
    lambda_r1: NotNegativeFloat = Field(10.0, description="weight of half the squared gradient; of r1 alone")
    critic_limit: PositiveFloat = Field(
        1e6, description="a critic's loss of this size has exploded: training stops, before it is infinite"
    )


BaselineSystem = Literal[
    "srcnn", "vdsr", "edsr", "srresnet", "srgan", "waveletsrnet", "cascade", "tdae_style", "gfrnet", "gfrnet_landmarks"
]


class BaselineRates(Section):
    """Adam's learning rate for each system; `python -m gwainet search-rates` tries some on validation faces."""

    srcnn: PositiveFloat = 1e-4
    vdsr: PositiveFloat = 1e-4
    edsr: PositiveFloat = 1e-4
    srresnet: PositiveFloat = 1e-4
    srgan: PositiveFloat = 1e-4
    waveletsrnet: PositiveFloat = 2e-4
    cascade: PositiveFloat = 1e-4
    tdae_style: PositiveFloat = 1e-4
    gfrnet: PositiveFloat = 2e-4
    gfrnet_landmarks: PositiveFloat = 2e-4


BASELINE_WIDTH = 64  # feature maps of other papers' systems as published, at their narrowest place


class TrainBaselines(SeveralSeeds):
    """Other papers' systems in the same harness (docs/baselines.md)."""

    same: Literal["images", "compute"] = Field(
        "images",
        description="images: each system sees as many images as `epochs` say. compute: as many multiply-adds of its "
        "forward as our guided generator has on those images; neither backward passes nor critics count",
    )
    # not taken from the sections of our phases: a change of ours would then train all of them again
    epochs: NotNegativeFloat = Field(
        20.0,
        description="passes over the training split, as many as train_psnr's for a fair table; 0 writes untrained "
        "weights, which the benchmark leaves out",
    )
    critic_epochs: NotNegativeFloat = Field(
        6.0, description="more passes of the systems with a critic (SRGAN, GFRNet), as many as train_adversarial's"
    )
    batch_size: Positive = 16
    narrow: int = Field(
        1,
        ge=1,
        le=32,
        description="feature maps are divided by it; above 1 no system has its published size, and the report says so",
    )
    learning_rates: BaselineRates = BaselineRates()
    lambda_adv: NotNegativeFloat = Field(1e-3, description="of SRGAN (its paper's); GFRNet's is 1")
    lambda_features: NotNegativeFloat = Field(
        0.006, description="of Inet's features, which stand in for VGG's, in SRGAN's and GFRNet's losses"
    )
    warp_share: Fraction = Field(0.25, description="of GFRNet's steps, the first ones, which train its WarpNet alone")
    landmarks: Literal["auto", "on", "off"] = Field(
        "auto",
        description="gfrnet_landmarks, whose training needs the faces' landmarks. auto: where the data has none, its "
        "weights are written untrained, which the benchmark leaves out and says so. on: data without them is an error. "
        "off: never trained",
    )


class TrainBaseline(SteadyTraining):
    """`TrainBaselines` as it comes to one system (`gwainet.baselines.budget`); no section of params.yaml."""

    system: BaselineSystem
    epochs: NotNegativeFloat = Field(description="passes over the training split")
    batch_size: Positive
    narrow: Positive
    lambda_adv: NotNegativeFloat
    lambda_features: NotNegativeFloat
    warp_share: Fraction


class SearchRates(Section):
    """Learning rates that `python -m gwainet search-rates` tries (docs/baselines.md). It shapes no stage's result."""

    rates: tuple[PositiveFloat, ...] = Field(
        (3e-5, 1e-4, 3e-4, 1e-3), min_length=1, description="of Adam; each is tried for each system", strict=False
    )
    share: float = Field(
        0.1, gt=0, le=1, description="of the epochs of train_baselines and train_psnr, for which each rate is tried"
    )

    @model_validator(mode="after")
    def _rates_differ(self) -> Self:
        if list(self.rates) != sorted(set(self.rates)):
            raise ValueError(f"rates must rise, not {list(self.rates)}")
        return self


class Benchmark(Section):
    """How models are compared (docs/paper.md, M1 to M11)."""

    splits: tuple[Literal["validation", "test"], ...] = Field(("validation", "test"), min_length=1, strict=False)
    max_faces: Positive | None = Field(None, description="at most so many faces of a split; null: all")
    batch_size: Positive = 8
    bootstrap_samples: Positive = Field(2000, description="resamples of the identities for the 95 % intervals")
    seed: NotNegative = 0
    grid_faces: Positive = Field(8, description="rows of the picture grid")
    identity: Literal["auto", "on", "off"] = Field(
        "off",
        description="similarity of faces by dlib (M3): `on` needs the extra `identity`, `auto` measures where it is "
        "installed, so that what comes out depends on the machine; the report says which it was",
    )
    lpips_weights: tuple[str, ...] = Field(
        (),
        description="files that together hold LPIPS v0.1 with AlexNet (gwainet/lpips.py), which nobody can fetch here: "
        "relative to where the stage runs; none: LPIPS is not measured",
        strict=False,
    )


class RegisterModel(Section):
    """What goes into the model registry."""

    name: str = Field("gwainet", min_length=1, description="of the registered model")
    variant: Literal["gwainet", "gwanet", "banet"] = "gwainet"


class LargestLoss(Section):
    """How much worse a challenger may be, at the lower end of the 95 % interval of the paired difference."""

    psnr: NotNegativeFloat = Field(0.05, description="dB; where another metric is `primary`")
    ssim: NotNegativeFloat = 0.002
    lr_psnr: NotNegativeFloat = Field(0.5, description="dB, of LR consistency (M4)")
    identity_similarity: NotNegativeFloat = Field(0.005, description="where it was measured of both (M3)")
    guide_gain: NotNegativeFloat = Field(0.1, description="dB, of what the right guide brings over another person's")
    worst_slice: NotNegativeFloat = Field(0.5, description="dB, in the slice of faces that loses most")


class Promotion(Section):
    """What a challenger must show to become the champion (docs/promotion.md). It shapes no stage's result."""

    primary: Literal["psnr", "ssim", "identity_similarity"] = Field("psnr", description="what must have become better")
    least_gain: NotNegativeFloat = Field(0.0, description="lower end of the primary metric's difference is above this")
    least_gain_over_bicubic: NotNegativeFloat = Field(0.0, description="dB of PSNR, as above; of every challenger")
    least_guide_gain: NotNegativeFloat | None = Field(
        0.0, description="dB of PSNR, as above: the right guide over another person's; null: a guide is not asked for"
    )
    largest_loss: LargestLoss = LargestLoss()
    largest_latency_ratio: PositiveFloat = Field(1.25, description="median time of an image over the champion's")
    latency_rounds: Positive = Field(30, description="images a model, in turn with the other")
    least_people: int = Field(30, ge=2, description="test identities below which nothing is decided")
    least_slice_people: int = Field(10, ge=2, description="identities below which a slice is not judged")
    bootstrap_samples: Positive = Field(2000, description="resamples of the identities for the 95 % intervals")
    seed: NotNegative = Field(0, description="of the resamples")
    claim_seconds: PositiveFloat = Field(60.0, description="after which the claim of a killed promotion ends")


Switch = Literal["auto", "on", "off"]


class Runtime(Section):
    """How to run. Nothing here changes what comes out but for rounding, so DVC does not watch it."""

    device: Device = Field("auto", description="auto: a GPU if there is one")
    threads: NotNegative = Field(0, description="of one operation on the CPU; 0: all cores")
    workers: NotNegative = Field(0, description="processes that prepare photos; 0: all cores")
    processes: Positive | Literal["auto"] = Field(
        "auto",
        description="that train one model together and share each batch; auto: one for each GPU, as far as they divide "
        "the batch",
    )
    fold: Switch = Field(
        "auto",
        description="decoders with layers composed into one: the same function but for rounding, and faster (auto: "
        "where that was measured, docs/performance.md)",
    )
    data: Literal["auto", "host", "device", "ahead"] = Field(
        "auto",
        description="where a training's pictures lie: on the disk's pages, read when needed (host); in the device's "
        "memory; or on the disk's pages, read ahead into pinned memory. auto: host on a CPU; on a GPU device, or ahead "
        "where they take more than half of its free memory",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of a training's convolutions; weights, losses, penalty, flow and grid are float32 in any case. "
        "auto: bfloat16 on a GPU, float32 on a CPU",
    )
    channels_last: Switch = Field("auto", description="memory layout of a training's features; auto: on a GPU")
    compile: Switch = Field("auto", description="networks by torch.compile while training; auto: on a GPU")
    cuda_graph: Switch = Field(
        "auto", description="a training's step captured once and replayed; auto: on a GPU, where one process trains"
    )
    joint_critic_batches: Switch = Field(
        "auto", description="the generator answers all critic batches of a step in one call; auto: on a GPU"
    )
    checkpoint_seconds: PositiveFloat = Field(60.0, description="between checkpoints of a training")


class Params(Section):
    """All params of one profile."""

    profile: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_-]+$")
    fetch_faces: FetchFaces = FetchFaces()
    prepare_faces: PrepareFaces = PrepareFaces()
    check_faces: CheckFaces = CheckFaces()
    networks: Networks = Networks()
    pretrain_inet: PretrainInet = PretrainInet()
    pretrain_wnet: PretrainWnet = PretrainWnet()
    train_psnr: TrainPsnr = TrainPsnr()
    train_adversarial: TrainAdversarial = TrainAdversarial()
    train_baselines: TrainBaselines = TrainBaselines()
    benchmark: Benchmark = Benchmark()
    register_model: RegisterModel = RegisterModel()
    search_rates: SearchRates = SearchRates()
    promotion: Promotion = Promotion()
    runtime: Runtime = Runtime()

    def flat(self, sections: Sequence[str] | None = None) -> dict[str, object]:
        """All values under dotted names, such as `train_psnr.learning_rate`, of the given sections or of all."""
        values = self.model_dump(mode="json")
        chosen = values if sections is None else {name: values[name] for name in sections}
        return flatten(chosen)

    def digest(self, sections: Sequence[str] | None = None) -> str:
        """12 hexadecimal digits over the values of the given sections, or of all that shape a result."""
        if sections is None:
            sections = [name for name in type(self).model_fields if name not in NOT_SHAPING]
        text = json.dumps({name: self.model_dump(mode="json")[name] for name in sections}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def load_params(path: Path, profile: str | None = None, overrides: Sequence[str] = ()) -> Params:
    """Read `params.yaml`, merge a profile over the base and check every value.

    Args:
        path: the file.
        profile: its name; None takes the file's own `profile`.
        overrides: `section.key=value` each, applied last; the value is read as YAML.

    Raises:
        ParamsError: the file, the profile, a name, a type or a range is wrong; the message has the full name.
    """
    base, profiles, chosen = _read(path)
    name = profile if profile is not None else chosen
    if not isinstance(name, str) or name not in profiles:
        known = ", ".join(profiles) or "none"
        raise ParamsError(f"{path}: there is no profile `{name}`; it has {known}")
    # the base and the other profiles too: a mistake there would otherwise be found weeks later
    _check_all({"profile": name, **base}, f"{path}, base")
    for other, values in profiles.items():
        _check_all({"profile": other, **_merge(base, values)}, str(path))
    merged = _merge(base, profiles[name])
    for override in overrides:
        merged = _merge(merged, _override(override))
    if "profile" in merged:
        raise ParamsError("--set profile=... does not choose a profile: give --profile NAME")
    return _check_all({"profile": name, **merged}, "--set" if overrides else str(path))


def _check_all(values: Mapping[str, Any], origin: str) -> Params:
    """Check what only all sections together tell, too; a Kubeflow pod has those of its own stage alone."""
    params = check_params(values, origin)
    psnr, own = params.train_psnr, params.train_adversarial
    lacking = {own.seed, *own.more_seeds} - {psnr.seed, *psnr.more_seeds}
    if own.more_seeds and (lacking or own.seed != psnr.seed):  # told here, not after the hours of the PSNR phase
        raise ParamsError(
            f"{origin}: train_adversarial.more_seeds = {list(own.more_seeds)}: each goes on from what train_psnr "
            f"trains with the same seed. Give both stages one `seed` (train_psnr has {psnr.seed}, train_adversarial "
            f"{own.seed}), and have all of {list(own.more_seeds)} in train_psnr.more_seeds ({list(psnr.more_seeds)})"
        )
    return params


def _read(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]], object]:
    """The base, the profiles and the chosen profile of a file; their shape is checked, their sections are not yet."""
    document = read_yaml(path, "--params", "`profile`, `base` and `profiles`")
    unknown = sorted(str(key) for key in set(document) - {"profile", "base", "profiles"})
    if unknown:
        raise ParamsError(
            f"{path}: unknown param `{unknown[0]}`: at the top stand `profile`, `base` and `profiles` alone"
        )
    base = _mapping(document.get("base"), f"{path}: `base`")
    profiles = {
        key: _mapping(values, f"{path}: `profiles.{key}`")
        for key, values in _mapping(document.get("profiles"), f"{path}: `profiles`").items()
    }
    for place, values in {"base": base, **{f"profiles.{key}": values for key, values in profiles.items()}}.items():
        if "profile" in values:
            raise ParamsError(f"{path}: unknown param `{place}.profile`: `profile` stands at the top of the file")
    return base, profiles, document.get("profile")


def _parse_yaml(text: str, what: str) -> object:
    """Read YAML 1.2; `what` begins the message where it is none."""
    from ruamel.yaml import YAML  # here, so that networks and trainings, which read no file of params, do not need it
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ParamsError(f"{what} not valid YAML: {error}") from None


def read_yaml(path: Path, option: str, holds: str) -> dict[str, Any]:
    """Read a file of settings that `holds` names; `option` of the command line chooses another.

    Raises:
        ParamsError: the file is missing, is not YAML or holds no names with values.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParamsError(f"{path} does not exist: run from the project's root, or give {option} FILE") from None
    except OSError as error:
        raise ParamsError(f"{path} cannot be read ({error.strerror}): give {option} FILE") from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from None
    document = _parse_yaml(text, f"{path} is")
    if not isinstance(document, dict):
        raise ParamsError(f"{path} must hold {holds}")
    return document


def _mapping(value: object, place: str) -> dict[str, Any]:
    """A mapping, empty where nothing is written."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ParamsError(f"{place} must hold names with values below them, not {value!r}")
    for key in value:
        if not isinstance(key, str):
            raise ParamsError(f"{place}: the name `{key}` must be text: put it in quotes")
    return value


def check_params(values: Mapping[str, object], origin: str = "params") -> Params:
    """Check the values of one profile.

    Raises:
        ParamsError: lists every wrong param with its full name and what was expected.
    """
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise ParamsError(f"{origin}, profile `{values.get('profile')}`:\n{explain(error, Params)}") from None


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """What is wrong, a line for each value of `model`, with its full name."""
    problems = error.errors()
    lines = []
    for problem in problems:
        location = tuple(part for part in problem["loc"] if part != "[key]")
        name = ".".join(str(part) for part in location) or "params"
        if problem["type"] == "extra_forbidden":
            known = _names_beside(location, model)
            lines.append(f"  unknown param `{name}`; known here: {', '.join(known)}")
        elif "[key]" in problem["loc"]:
            lines.append(f"  unknown param `{name}`; known here: {problem['ctx']['expected']}")
        elif problem["type"] == "too_short" and any(
            other["loc"][: len(location)] == location != other["loc"] for other in problems
        ):
            continue  # pydantic does not count a wrong item; the item has its own line
        else:
            expected = _EXPECTED.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
            given = re.sub(r"//[^/@]*@", "//...@", repr(problem["input"]))  # an address may hold a login
            lines.append(f"  {name} = {given}: {expected}")
    return "\n".join(lines)


_EXPECTED = {
    "model_type": "expected names with values below it; write {} to set none",
    "dict_type": "expected names with values below it",
    "tuple_type": "expected a list, such as [1, 2]",
}


def _names_beside(location: tuple[int | str, ...], top: type[BaseModel]) -> list[str]:
    """Names of the params that stand where an unknown one was found, below the model `top`."""
    model: Any = top
    for part in location[:-1]:
        annotation = model.model_fields[part].annotation if isinstance(part, str) else model
        arguments = [a for a in getattr(annotation, "__args__", ()) if isinstance(a, type) and issubclass(a, Section)]
        model = annotation if isinstance(annotation, type) and issubclass(annotation, Section) else arguments[0]
    return sorted(set(model.model_fields) - {"profile"})


def _override(text: str) -> dict[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ParamsError(f"--set {text!r} must read section.key=value, such as train_psnr.learning_rate=2e-4")
    parsed: Any = _parse_yaml(value, f"--set {text!r}: the value is")
    for part in reversed(name.strip().split(".")):
        parsed = {part: parsed}
    result: dict[str, Any] = parsed
    return result


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` deeply over `base`: mappings are merged, anything else (a list too) takes the place of what was."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested mappings as one, under dotted names."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
