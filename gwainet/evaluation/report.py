"""`benchmark.json`: its schema, and how it is made of the per-image figures (docs/paper.md, M6, M7)."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev
from types import MappingProxyType
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from gwainet.dataset import Split
from gwainet.evaluation.distances import DISTANCE_CONVENTIONS, FRECHET, KERNEL
from gwainet.evaluation.measure import Measured, metric_code_digest
from gwainet.evaluation.slices import SLICES, SMALLEST_GROUP
from gwainet.evaluation.systems import (
    BASELINE_SYSTEMS,
    BASELINES,
    HEADLINE,
    HEADLINE_METRICS,
    MODELS,
    SEED,
    Guide,
    comparisons_of,
    systems_of,
)
from gwainet.identity import IDENTITY_CONVENTION, IDENTITY_METRIC
from gwainet.lpips import LPIPS, LPIPS_CONVENTION
from gwainet.metrics import CONVENTIONS, METRICS, Interval, bootstrap_interval, paired_difference
from gwainet.params import BASELINE_WIDTH, Benchmark, Params

DIGITS = 6  # of numbers in the report: the last bits of a sum depend on the machine


class Part(BaseModel):
    """Frozen, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(Part):
    """A mean over images with its interval over people; the unit is the metric's."""

    mean: float
    low: float = Field(description="2.5th percentile of the bootstrap over identities")
    high: float = Field(description="97.5th percentile of the bootstrap over identities")


class DistanceReport(Part):
    """How far the faces of a system's answers lie from the true ones as a whole (`gwainet.evaluation.distances`)."""

    identity_frechet: float
    identity_kernel: float
    images: int = Field(description="of each of the two sets; figures of other numbers are not comparable")


class SpreadReport(Part):
    """One metric over several trainings of a system that differ in their seed alone."""

    mean: float
    deviation: float = Field(description="standard deviation, divided by the number of seeds less one")
    lowest: float
    highest: float


class SeedsReport(Part):
    """A system trained with several seeds; all other figures of it are those of the first one."""

    seeds: list[int]
    splits: dict[str, dict[str, SpreadReport]] = Field(description="split -> metric: of the means over images")


class LpipsReport(Part):
    """Whose weights LPIPS was measured with."""

    weights_digests: dict[str, str] = Field(description="a file as `benchmark.lpips_weights` names it -> SHA-256")


class ModelReport(Part):
    """Weights that were compared."""

    file: str = Field(description="relative to the models' directory of the profile")
    weights_digest: str = Field(description="SHA-256 of the file")
    parameters: int = Field(description="number of trained values")
    guided: bool
    macs: int | None = Field(None, description="multiply-adds of the forward of one image of these faces' size")
    images: int | None = Field(
        None,
        description="that the steps of its training drew, a critic's own batches and those of what it starts from "
        "included; null: its training did not say",
    )
    narrow: int | None = Field(None, description="by what a baseline's feature maps are divided; 1: as published")
    same: str | None = Field(
        None,
        description="what a baseline's budget holds equal to ours: `images` or `compute`; null: ours, or not known",
    )
    epochs: float | None = Field(
        None, description="passes over the training split of its own training alone; null: its training did not say"
    )
    learning_rate: float | None = Field(None, description="the same training's; of a schedule the first part's")


class SplitReport(Part):
    """The faces of a split that were used."""

    images: int
    identities: int


class IdentityReport(Part):
    """The network of `identity_similarity`, and how often its detector found a face on the ground truth."""

    dlib: str = Field(description="version")
    descriptor_digest: str = Field(description="SHA-256 of the descriptor's weights")
    landmarks_digest: str = Field(description="SHA-256 of the landmarks' weights")
    faces_found: dict[str, int] = Field(description="split -> images; the others were cut out at the usual place")


class SystemReport(Part):
    """One system's figures."""

    system: str
    title: str
    model: str | None = Field(description="a key of `models`; null for a method without weights")
    guide: Guide
    splits: dict[str, dict[str, Estimate]] = Field(description="split -> metric")
    distances: dict[str, DistanceReport] = Field(
        default_factory=dict, description="split -> distances of sets of faces; empty: faces were not compared"
    )
    seeds: SeedsReport | None = Field(None, description="null: trained with one seed")


class ComparisonReport(Part):
    """Mean of a - b over the same images."""

    a: str
    b: str
    splits: dict[str, dict[str, Estimate]] = Field(description="split -> metric")


class SliceReport(Part):
    """A model's gain over bicubic on a group of a split's images (docs/paper.md, M7)."""

    slice: str = Field(description="what the images are sorted by: a key of `gwainet.evaluation.slices.SLICES`")
    group: str
    split: str
    system: str = Field(description="a key of `models`, with the guide of the same person where it takes one")
    images: int
    identities: int
    gain: Estimate = Field(description="PSNR of the system minus bicubic's, on the same images, dB")

    @property
    def too_small(self) -> bool:
        """Whether the group has too few people for any claim."""
        return self.identities < SMALLEST_GROUP


class BenchmarkReport(Part):
    """`benchmark.json`."""

    format: Literal[2] = 2
    profile: str
    data_digest: str = Field(description="of faces.json: the manifest's content and the pictures")
    metric_code_digest: str = Field(description="of the code that measured: `gwainet.evaluation.measure.MEASURING`")
    params_digest: str = Field(description="over the sections `networks` and `benchmark`; the models have digests")
    conventions: dict[str, str] = Field(description="metric -> what it is, in words; `interval`: of the intervals")
    splits: dict[str, SplitReport]
    identity: IdentityReport | None = Field(None, description="null: identity_similarity was not measured")
    lpips: LpipsReport | None = Field(None, description="null: LPIPS was not measured")
    models: dict[str, ModelReport]
    untrained: dict[str, str] = Field(
        default_factory=dict,
        description="title of another paper's system that is in no row -> why its weights are fresh",
    )
    systems: list[SystemReport]
    comparisons: list[ComparisonReport]
    slices: list[SliceReport]

    @property
    def metrics(self) -> tuple[str, ...]:
        """What was measured, in the order of tables."""
        return _metrics_of(self.lpips, self.identity)


def _metrics_of(lpips: LpipsReport | None, identity: IdentityReport | None) -> tuple[str, ...]:
    measured = {LPIPS: lpips, IDENTITY_METRIC: identity}
    return (*METRICS, *(metric for metric, network in measured.items() if network is not None))


def make_report(
    params: Params,
    params_digest: str,
    data_digest: str,
    measured: Measured,
    models: dict[str, ModelReport],
    identified: IdentityReport | None,
    lpips: LpipsReport | None = None,
    seeds: Mapping[str, Sequence[int]] = MappingProxyType({}),
    untrained: Mapping[str, str] = MappingProxyType({}),
) -> BenchmarkReport:
    """Means, intervals and differences of what `measure` found.

    Args:
        params: of the profile.
        params_digest: over the sections that shape the report.
        data_digest: of the faces.
        measured: what every system's answers came to.
        models: whose weights answered.
        identified: by which network faces were compared; None where they were not.
        lpips: by which weights LPIPS was measured; None where it was not.
        seeds: of systems trained with several, the first one's before the others'.
        untrained: of `BASELINES` that are in no row -> why.
    """
    settings, table = params.benchmark, measured.table
    metrics = _metrics_of(lpips, identified)
    samples, seed = settings.bootstrap_samples, settings.seed
    # of[split][system]: one row an image, in the same order for every system
    of = {
        split: {str(name): part for name, part in of_split.groupby("system")}
        for split, of_split in ((split, table[table["split"] == split]) for split in settings.splits)
    }
    identities = {split: parts["bicubic"]["identity"] for split, parts in of.items()}

    def means(system: str) -> dict[str, dict[str, Estimate]]:
        return {
            split: {
                metric: rounded(bootstrap_interval(parts[system][metric], identities[split], samples, seed))
                for metric in metrics
            }
            for split, parts in of.items()
        }

    def differences(a: str, b: str) -> dict[str, dict[str, Estimate]]:
        return {
            split: {
                metric: rounded(paired_difference(parts[a][metric], parts[b][metric], identities[split], samples, seed))
                for metric in metrics
            }
            for split, parts in of.items()
        }

    def sets(system: str) -> dict[str, DistanceReport]:
        return {
            split: DistanceReport(
                identity_frechet=round(of_split[system].frechet, DIGITS),
                identity_kernel=round(of_split[system].kernel, DIGITS),
                images=len(who),
            )
            for split, who in identities.items()
            if (of_split := measured.distances.get(split)) is not None
        }

    def spread(system: str) -> SeedsReport | None:
        if system not in seeds:
            return None
        names = [system, *(f"{system}{SEED}{seed}" for seed in seeds[system][1:])]
        return SeedsReport(
            seeds=list(seeds[system]),
            splits={
                split: {metric: _spread([float(parts[name][metric].mean()) for name in names]) for metric in metrics}
                for split, parts in of.items()
            },
        )

    names = set(table["system"])
    systems = [system for system in systems_of(MODELS, BASELINES) if system.name in names]
    return BenchmarkReport(
        profile=params.profile,
        data_digest=data_digest,
        metric_code_digest=metric_code_digest(),
        params_digest=params_digest,
        conventions={
            **CONVENTIONS,
            LPIPS: LPIPS_CONVENTION if lpips else "not measured: benchmark.lpips_weights names no files",
            IDENTITY_METRIC: IDENTITY_CONVENTION if identified else _why_not_measured(settings),
            **(
                DISTANCE_CONVENTIONS if identified else dict.fromkeys(DISTANCE_CONVENTIONS, _why_not_measured(settings))
            ),
            "interval": (
                f"95 % percentile bootstrap over identities: {samples} resamples of the people of the split, with "
                "replacement; the mean is over all images of a resample"
            ),
            "slices": f"groups of fewer than {SMALLEST_GROUP} people are too small: no claim rests on them",
            **{f"slices.{name}": kind.says for name, kind in SLICES.items()},
        },
        splits={split: SplitReport(images=len(who), identities=who.nunique()) for split, who in identities.items()},
        identity=identified,
        lpips=lpips,
        models=models,
        untrained={system.title: untrained[system.name] for system in BASELINE_SYSTEMS if system.name in untrained},
        systems=[
            SystemReport(
                system=system.name,
                title=system.title + narrowed(models[system.model].narrow if system.model in models else None),
                model=system.model,
                guide=system.guide,
                splits=means(system.name),
                distances=sets(system.name),
                seeds=spread(system.name),
            )
            for system in systems
        ],
        comparisons=[ComparisonReport(a=a, b=b, splits=differences(a, b)) for a, b in comparisons_of(names)],
        slices=[entry for split, parts in of.items() for entry in _slices(split, parts, samples, seed)],
    )


def narrowed(narrow: int | None) -> str:
    """What a row's title says of a baseline that is narrower than published: `, 1/4 width`."""
    if narrow is None or narrow == 1:
        return ""
    share = f"1/{narrow}" if BASELINE_WIDTH % narrow == 0 else f"{BASELINE_WIDTH // narrow}/{BASELINE_WIDTH}"
    return f", {share} width"


def _spread(values: Sequence[float]) -> SpreadReport:
    figures = {"mean": fmean(values), "deviation": stdev(values), "lowest": min(values), "highest": max(values)}
    return SpreadReport(**{name: round(value, DIGITS) for name, value in figures.items()})


def groups_of(images: pd.DataFrame) -> dict[str, pd.Series]:
    """Slice -> the group of each of a split's images, one row an image."""
    return {name: pd.Series(kind.group(images[name].to_numpy()), images.index) for name, kind in SLICES.items()}


def _slices(split: str, parts: Mapping[str, pd.DataFrame], samples: int, seed: int) -> Iterator[SliceReport]:
    """The models' gains over bicubic in every group of a split that has images."""
    bicubic = parts["bicubic"]
    for name, groups in groups_of(bicubic).items():
        for group in SLICES[name].groups:
            inside = (groups == group).to_numpy()
            if not inside.any():
                continue
            people, plain = bicubic.loc[inside, "identity"], bicubic.loc[inside, "psnr"]
            for system in MODELS:
                yield SliceReport(
                    slice=name,
                    group=group,
                    split=split,
                    system=system,
                    images=len(people),
                    identities=people.nunique(),
                    gain=rounded(paired_difference(parts[system].loc[inside, "psnr"], plain, people, samples, seed)),
                )


def _why_not_measured(settings: Benchmark) -> str:
    missing = ", and the extra `identity` was not installed" if settings.identity == "auto" else ""
    return f"not measured: benchmark.identity is `{settings.identity}`{missing}"


def rounded(interval: Interval) -> Estimate:
    """An interval as a report holds it."""
    return Estimate(**{name: round(value, DIGITS) for name, value in interval._asdict().items()})


def headline(report: BenchmarkReport) -> dict[str, dict[str, dict[str, float]]]:
    """Split -> system -> metric of the main systems."""
    return {
        split: {
            entry.system: {
                metric: round(entry.splits[split][metric].mean, 4)
                for metric in HEADLINE_METRICS
                if metric in report.metrics
            }
            for entry in report.systems
            if entry.system in HEADLINE
        }
        for split in report.splits
    }


def plot_table(report: BenchmarkReport, split: Split) -> pd.DataFrame:
    """PSNR of the main systems on a split, dB; the target as its own guide (100 dB) would flatten their differences."""
    rows = []
    for entry in (entry for entry in report.systems if entry.system in HEADLINE):
        psnr = entry.splits[split]["psnr"]
        rows.append((entry.system, split, *(round(value, 4) for value in (psnr.mean, psnr.low, psnr.high))))
    return pd.DataFrame(rows, columns=["system", "split", "psnr", "low", "high"])


def flat(report: BenchmarkReport) -> dict[str, float]:
    """Names and values for the recorder: `test.gwainet.psnr`, `test.gwainet_minus_banet.psnr_low`."""
    values: dict[str, float] = {}
    for entry in report.systems:
        for split, metrics in entry.splits.items():
            values |= {f"{split}.{entry.system}.{metric}": estimate.mean for metric, estimate in metrics.items()}
        for split, of_sets in entry.distances.items():
            values[f"{split}.{entry.system}.{FRECHET}"] = of_sets.identity_frechet
            values[f"{split}.{entry.system}.{KERNEL}"] = of_sets.identity_kernel
    for pair in report.comparisons:
        for split, metrics in pair.splits.items():
            for metric, estimate in metrics.items():
                name = f"{split}.{pair.a}_minus_{pair.b}.{metric}"
                values |= {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return values
