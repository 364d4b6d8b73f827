"""The systems that are compared, and the comparisons (docs/paper.md, M5; Sec. 4.3).

A system is what answers: a plain method, or a model with a kind of guide. The suffix of its name says which guide:
none for another photo of the same person, `-r` for a photo of another person (GWAnet-R), `-target` for the target
itself (an upper bound on what a guide can give), `-none` for no guide, of models that can do without.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from gwainet.identity import IDENTITY_METRIC
from gwainet.lpips import LPIPS
from gwainet.params import BaselineSystem

Guide = Literal["none", "own", "other", "target"]

SUFFIXES: dict[Guide, str] = {"own": "", "other": "-r", "target": "-target"}


@dataclass(frozen=True)
class Model:
    """Trained weights that are compared.

    Attributes:
        folder: the stage's input they lie in.
        variant: of that stage.
        guided: whether the variant takes a guide.
    """

    folder: Literal["psnr", "adversarial", "baselines"]
    variant: str
    guided: bool


@dataclass(frozen=True)
class System:
    """What answers.

    Attributes:
        name: in files.
        title: in tables.
        model: whose weights; None for a method without weights.
        guide: which guide it is given.
    """

    name: str
    title: str
    model: str | None
    guide: Guide


MODELS = {
    "banet_psnr": Model("psnr", "banet", guided=False),
    "psnr_phase": Model("psnr", "guided", guided=True),
    "banet": Model("adversarial", "banet", guided=False),
    "gwanet": Model("adversarial", "gwanet", guided=True),
    "gwainet": Model("adversarial", "gwainet", guided=True),
}


def _each_guide(name: str, title: str, model: str | None) -> tuple[System, ...]:
    return (
        System(name, title, model, "own"),
        System(f"{name}-r", f"{title}-R", model, "other"),
        System(f"{name}-target", f"{title} (target)", model, "target"),
    )


SYSTEMS: tuple[System, ...] = (
    System("bicubic", "Bicubic", None, "none"),
    *_each_guide("guide_only", "Guide only", None),
    *_each_guide("warped_guide", "Warped guide", "psnr_phase"),
    System("banet_psnr", "PSNR phase, no guide", "banet_psnr", "none"),
    *_each_guide("psnr_phase", "PSNR phase", "psnr_phase"),
    System("banet", "BAnet", "banet", "none"),
    *_each_guide("gwanet", "GWAnet", "gwanet"),
    *_each_guide("gwainet", "GWAInet", "gwainet"),
)

# Other papers' systems, trained here (docs/baselines.md); those that a profile does not train are left out.
BASELINES = {
    system: Model("baselines", system, guided=system in ("gfrnet", "gfrnet_landmarks"))
    for system in get_args(BaselineSystem)
}
BASELINE_SYSTEMS: tuple[System, ...] = (
    System("srcnn", "SRCNN", "srcnn", "none"),
    System("vdsr", "VDSR", "vdsr", "none"),
    System("edsr", "EDSR baseline", "edsr", "none"),
    System("srresnet", "SRResNet", "srresnet", "none"),
    System("srgan", "SRGAN, Inet for VGG", "srgan", "none"),
    System("waveletsrnet", "WaveletSRNet", "waveletsrnet", "none"),
    System("cascade", "Cascade, no landmarks", "cascade", "none"),
    System("tdae_style", "TDAE-style, our size", "tdae_style", "none"),
    *_each_guide("gfrnet", "GFRNet-style", "gfrnet"),
    *_each_guide("gfrnet_landmarks", "GFRNet-style, landmarks", "gfrnet_landmarks"),
)

NO_GUIDE = "-none"
SEED = "@"  # between a system and the seed of another training of it: srcnn@1


def systems_of(optional: Container[str], baselines: Container[str] = ()) -> tuple[System, ...]:
    """`SYSTEMS`, more rows for some models.

    Args:
        optional: models whose guide may be left out: a row without a guide.
        baselines: of `BASELINES`, those that are trained: their rows, before our models'.
    """
    others = [system for system in BASELINE_SYSTEMS if system.model in baselines]
    first = next(place for place, system in enumerate(SYSTEMS) if system.model == "banet_psnr")
    chosen: list[System] = []
    for system in (*SYSTEMS[:first], *others, *SYSTEMS[first:]):
        chosen.append(system)
        if system.model in optional and system.name == f"{system.model}-target":
            title = system.title.removesuffix(" (target)")
            chosen.append(System(f"{system.model}{NO_GUIDE}", f"{title} (no guide)", system.model, "none"))
    return tuple(chosen)


def systems_of_seeds(models: Iterable[str]) -> tuple[System, ...]:
    """A row for each further training of a model, `vdsr@1`, with the guide of the same person where it takes one."""
    return tuple(
        System(name, f"{name.partition(SEED)[0]}, seed {name.partition(SEED)[2]}", name, _guide_of(name))
        for name in models
    )


def _guide_of(name: str) -> Guide:
    return "own" if {**MODELS, **BASELINES}[name.partition(SEED)[0]].guided else "none"


MAIN = "gwainet"  # whose faces, gains and slices the page shows: the paper's full model

HEADLINE = (  # of metrics.json: 18 systems would not fit a terminal
    "bicubic",
    "banet_psnr",
    "psnr_phase",
    "psnr_phase-r",
    "banet",
    "gwanet",
    "gwanet-r",
    "gwainet",
    "gwainet-r",
)
HEADLINE_METRICS = ("psnr", "ssim", IDENTITY_METRIC)
LOWER_IS_BETTER = (LPIPS,)  # of the metrics of one image

COMPARISONS: tuple[tuple[str, str], ...] = (
    ("warped_guide", "guide_only"),
    ("banet_psnr", "bicubic"),
    ("psnr_phase", "bicubic"),
    ("psnr_phase", "banet_psnr"),
    ("psnr_phase", "psnr_phase-r"),
    ("banet", "bicubic"),
    ("gwanet", "bicubic"),
    ("gwanet", "banet"),
    ("gwanet", "gwanet-r"),
    ("gwainet", "bicubic"),
    ("gwainet", "banet"),
    ("gwainet", "gwainet-r"),
    ("gwainet", "gwanet"),
)


def comparisons_of(baselines: Container[str]) -> tuple[tuple[str, str], ...]:
    """`COMPARISONS`, and the main model against each of `baselines`."""
    return (*COMPARISONS, *((MAIN, name) for name in BASELINES if name in baselines))
