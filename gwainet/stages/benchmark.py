"""Stage `benchmark`: every system on the same held-out faces, with every metric (docs/paper.md, M1 to M6).

A system is what answers: a plain method, or a model with a kind of guide. The suffix of its name says which guide:
none for another photo of the same person, `-r` for a photo of another person (GWAnet-R), `-target` for the target
itself (an upper bound on what a guide can give).

Writes, each the same bytes for the same weights, faces and params on one kind of device:

- `benchmark.json`: `BenchmarkReport` below: means with 95 % intervals over people, paired differences, digests
- `benchmark.csv`: one row an image and system: `split, row, identity, source_file, guide_row, system`, then the
  metrics that were measured; `row` and `guide_row` are rows of the manifest, `guide_row` is -1 for a system without
  a guide
- `metrics.json`: split -> system -> metric of the main systems, for `dvc metrics show`
- `benchmark_table.csv`: `system, split, psnr, low, high`, for `dvc plots show`
- `grid.png`: some test faces beside what the systems make of them

Seconds per image go to the recorder alone: they differ from run to run.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from rich.table import Table
from rich.text import Text

from gwainet.dataset import Faces, Rows, Split, open_checked
from gwainet.errors import CheckpointError, DataError, ExtraError
from gwainet.files import file_digest, staged_directory, write_json
from gwainet.identity import (
    IDENTITY_CONVENTION,
    IDENTITY_METRIC,
    FaceNetwork,
    Similarities,
    face_network,
    face_processes,
    similarities,
)
from gwainet.images import Uint8, grid, upscale
from gwainet.metrics import (
    CONVENTIONS,
    METRICS,
    SMALLEST_SIDE,
    Interval,
    all_metrics,
    bootstrap_interval,
    paired_difference,
)
from gwainet.nets.model import Generator, load_generator
from gwainet.params import SCALE, Params
from gwainet.params import Benchmark as BenchmarkParams
from gwainet.progress import Ticker, console, progress, say
from gwainet.recorder import Recorder
from gwainet.stages import STAGES
from gwainet.training.device import choose_device, device_facts

Guide = Literal["none", "own", "other", "target"]

SUFFIXES: dict[Guide, str] = {"own": "", "other": "-r", "target": "-target"}
DIGITS = 6  # of numbers in the report: the last bits of a sum depend on the machine


@dataclass(frozen=True)
class Model:
    """Trained weights that are compared.

    Attributes:
        folder: the stage's input they lie in: `psnr` or `adversarial`.
        variant: of that stage.
        guided: whether the variant takes a guide.
    """

    folder: Literal["psnr", "adversarial"]
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

COLUMNS = {  # of the tables a user sees
    "psnr": "PSNR dB [95 %]",
    "psnr_y": "PSNR-Y",
    "ssim": "SSIM",
    "lr_psnr": "LR-PSNR",
    IDENTITY_METRIC: "face",
}
DECIMALS = {"ssim": 4, IDENTITY_METRIC: 3}  # in those tables; 2 of what is in dB

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


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(_Part):
    """A mean over images with its interval over people; the unit is the metric's."""

    mean: float
    low: float = Field(description="2.5th percentile of the bootstrap over identities")
    high: float = Field(description="97.5th percentile of the bootstrap over identities")


class ModelReport(_Part):
    """Weights that were compared."""

    file: str = Field(description="relative to the models' directory of the profile")
    weights_digest: str = Field(description="SHA-256 of the file")
    parameters: int = Field(description="number of trained values")
    guided: bool


class SplitReport(_Part):
    """The faces of a split that were used."""

    images: int
    identities: int


class IdentityReport(_Part):
    """The network of `identity_similarity`, and how often its detector found a face on the ground truth."""

    dlib: str = Field(description="version")
    descriptor_digest: str = Field(description="SHA-256 of the descriptor's weights")
    landmarks_digest: str = Field(description="SHA-256 of the landmarks' weights")
    faces_found: dict[str, int] = Field(description="split -> images; the others were cut out at the usual place")


class SystemReport(_Part):
    """One system's figures."""

    system: str
    title: str
    model: str | None = Field(description="a key of `models`; null for a method without weights")
    guide: Guide
    splits: dict[str, dict[str, Estimate]] = Field(description="split -> metric")


class ComparisonReport(_Part):
    """Mean of a - b over the same images."""

    a: str
    b: str
    splits: dict[str, dict[str, Estimate]] = Field(description="split -> metric")


class BenchmarkReport(_Part):
    """`benchmark.json`."""

    format: Literal[1] = 1
    profile: str
    data_digest: str = Field(description="of faces.json: the manifest's content and the pictures")
    params_digest: str = Field(description="over the sections `networks` and `benchmark`; the models have digests")
    conventions: dict[str, str] = Field(description="metric -> what it is, in words; `interval`: of the intervals")
    splits: dict[str, SplitReport]
    identity: IdentityReport | None = Field(None, description="null: identity_similarity was not measured")
    models: dict[str, ModelReport]
    systems: list[SystemReport]
    comparisons: list[ComparisonReport]

    @property
    def metrics(self) -> tuple[str, ...]:
        """What was measured, in the order of tables."""
        return _metrics_of(measures_identity=self.identity is not None)


def _metrics_of(*, measures_identity: bool) -> tuple[str, ...]:
    return (*METRICS, IDENTITY_METRIC) if measures_identity else METRICS


@dataclass
class Clock:
    """Seconds that a model took for its batches."""

    batches: list[tuple[float, int]] = field(default_factory=list)

    def seconds_per_image(self) -> float:
        """Median over the batches, without the first, which also sets up kernels and memory, where there are others."""
        return median(seconds / images for seconds, images in self.batches[1:] or self.batches)


@dataclass(frozen=True)
class Measured:
    """What `_measure` finds: per-image table, the grid's pictures by row, each model's clock, faces found by split."""

    table: pd.DataFrame
    pictures: dict[int, dict[str, Uint8]]
    clocks: dict[str, Clock]
    faces_found: dict[str, int]


def run(
    params: Params, *, faces: Path, passed: Path, psnr: Path, adversarial: Path, out: Path, recorder: Recorder
) -> None:
    """Compare all systems on `benchmark.splits` and write the report.

    Args:
        params: of the profile.
        faces: written by prepare_faces.
        passed: written by check_faces for these faces.
        psnr: holds `guided/weights.safetensors` and `banet/weights.safetensors`.
        adversarial: holds `gwainet/`, `gwanet/` and `banet/`, each with `weights.safetensors`.
        out: directory to write.
        recorder: takes metrics, the grid and the files.

    Raises:
        ContractError: check_faces passed other faces than these.
        DataError: the faces are missing, too small to be measured, or a split has none.
        CheckpointError: weights are missing, damaged or of another kind.
        ExtraError: `benchmark.identity` is `on` and dlib is not installed.
    """
    prepared = open_checked(faces, passed)
    if min(prepared.height, prepared.width) < SMALLEST_SIDE:
        raise DataError(
            f"{faces}: faces of {prepared.height} x {prepared.width} pixels are too small for the metrics: at least "
            f"{SMALLEST_SIDE} a side are needed (prepare_faces.crop)"
        )
    settings = params.benchmark
    network = _face_network(settings)
    rows: dict[Split, Rows] = {split: _rows_of(prepared, split, settings) for split in settings.splits}
    device = choose_device(params.runtime)
    recorder.params(device_facts(device))
    recorder.dataset(params.profile, prepared.digest, _facts(rows, prepared), "benchmark")

    files = {name: {"psnr": psnr, "adversarial": adversarial}[m.folder] / m.variant for name, m in MODELS.items()}
    weights = {name: folder / "weights.safetensors" for name, folder in files.items()}
    generators = {name: load_generator(path, device) for name, path in weights.items()}
    for name, generator in generators.items():
        if generator.guided != MODELS[name].guided:
            raise CheckpointError(
                f"{weights[name]} holds a model {'with' if generator.guided else 'without'} a guide, where one "
                f"{'without' if generator.guided else 'with'} belongs: run the stage that writes it again"
            )

    shown_split: Split = "test" if "test" in settings.splits else settings.splits[-1]
    shown = choose_faces(rows[shown_split], prepared.identity, settings.grid_faces, settings.seed)
    workers = params.runtime.workers or _cores()
    measured = _measure(prepared, rows, generators, shown, settings.batch_size, workers, network is not None)
    models = {
        name: ModelReport(
            file=f"{path.parent.parent.name}/{path.parent.name}/{path.name}",
            weights_digest=file_digest(path),
            parameters=sum(parameter.numel() for parameter in generators[name].parameters()),
            guided=generators[name].guided,
        )
        for name, path in weights.items()
    }
    identified = None if network is None else IdentityReport(**network._asdict(), faces_found=measured.faces_found)
    report = _report(params, prepared, measured.table, models, identified)
    picture = _picture(measured.pictures)
    with staged_directory(out) as partial:
        write_json(partial / "benchmark.json", report.model_dump(mode="json"))
        write_json(partial / "metrics.json", _headline(report))
        measured.table.to_csv(partial / "benchmark.csv", index=False, float_format=f"%.{DIGITS}f")
        _plot_table(report).to_csv(partial / "benchmark_table.csv", index=False)
        picture.save(partial / "grid.png", optimize=True)
        for file in sorted(partial.iterdir()):
            recorder.artifact(file, "benchmark")
        recorder.metrics(_flat(report))
        recorder.metrics(
            {f"seconds_per_image.{name}": clock.seconds_per_image() for name, clock in measured.clocks.items()}
        )
        recorder.picture("grid", picture)
    for split in settings.splits:
        console.print(_results_table(report, split, measured.clocks))
        console.print(_comparisons_table(report, split))
    say(f"Benchmark: {out / 'benchmark.json'}, pictures in {out / 'grid.png'}")


def _face_network(settings: BenchmarkParams) -> FaceNetwork | None:
    """The network that `benchmark.identity` asks for; None where it is not to be measured."""
    if settings.identity == "off":
        return None
    try:
        return face_network()
    except ExtraError as error:
        if settings.identity == "on":
            raise
        say(f"Not measured: {IDENTITY_METRIC} ({error})")
        return None


def choose_faces(rows: Rows, identity: Rows, count: int | None, seed: int) -> Rows:
    """At most `count` of `rows`, drawn by `seed` and spread over the people: none has two more than another.

    People with fewer images than that give all they have.

    Args:
        rows: of the manifest, to choose from.
        identity: of every row of the manifest.
        count: how many; None for all.
        seed: of the choice.

    Returns:
        The chosen rows in ascending order.
    """
    if count is None or count >= len(rows):
        return np.sort(rows)
    order = pd.Series(np.random.default_rng(seed).permutation(rows))
    turn = order.groupby(identity[order.to_numpy()]).cumcount()  # a person's first image, second image, ...
    chosen = order[turn.sort_values(kind="stable").index[:count]]
    return np.sort(chosen.to_numpy(np.int64))


def _rows_of(faces: Faces, split: Split, settings: BenchmarkParams) -> Rows:
    rows = choose_faces(faces.targets(split), faces.identity, settings.max_faces, settings.seed)
    if not len(rows):
        raise DataError(
            f"the {split} split has no faces to measure: see prepare_faces, or take it out of benchmark.splits"
        )
    return rows


def _facts(rows: Mapping[Split, Rows], faces: Faces) -> dict[str, object]:
    facts: dict[str, object] = {"height": faces.height, "width": faces.width}
    for split, chosen in rows.items():
        facts[f"{split}_images"] = len(chosen)
        facts[f"{split}_identities"] = len(np.unique(faces.identity[chosen]))
    return facts


def _measure(
    faces: Faces,
    rows: Mapping[Split, Rows],
    generators: Mapping[str, Generator],
    shown: Rows,
    batch_size: int,
    workers: int,
    measures_identity: bool,
) -> Measured:
    """Let every system answer for every row, and measure each answer."""
    clocks = {name: Clock() for name in generators}
    keep = set(shown.tolist())
    pictures: dict[int, dict[str, Uint8]] = {}
    parts: list[pd.DataFrame] = []
    found: dict[str, int] = dict.fromkeys(rows, 0)
    processes: AbstractContextManager[Executor | None] = nullcontext()
    if measures_identity:
        processes = face_processes(workers)
    total = len(SYSTEMS) * sum(len(chosen) for chosen in rows.values())
    # the metrics' time is spent in NumPy and SciPy, which let other threads run: no processes to start
    with progress("benchmark", total, "images") as ticker, ThreadPoolExecutor(workers) as pool, processes as describers:
        for split, batch in _batches(rows, batch_size):
            ticker.note(split)
            low, truth = np.asarray(faces.lr[batch]), np.asarray(faces.hr[batch])
            guide_rows: dict[Guide, Rows] = {
                "none": np.full(len(batch), -1),
                "own": faces.guide_row[batch],
                "other": faces.other_guide_row[batch],
                "target": batch,
            }
            guides: dict[Guide, Uint8] = {
                kind: np.asarray(faces.hr[of]) for kind, of in guide_rows.items() if kind != "none"
            }
            answers = answer(generators, low, guides, clocks)
            compared = _compare_faces(describers, answers, truth)  # meanwhile, the other metrics
            values = _metrics(pool, answers, low, truth, ticker)
            for job in compared:
                face = job.result()
                found[split] += face.found
                for name, value in face.cosines.items():
                    values[name].setdefault(IDENTITY_METRIC, []).append(value)
            people = faces.manifest.iloc[batch]
            parts += [
                pd.DataFrame(
                    {
                        "split": split,
                        "row": batch,
                        "identity": people["identity"].to_numpy(),
                        "source_file": people["source_file"].to_numpy(),
                        "guide_row": guide_rows[system.guide],
                        "system": system.name,
                        **values[system.name],
                    }
                )
                for system in SYSTEMS
            ]
            for place, row in enumerate(batch.tolist()):
                if row in keep:
                    pictures[row] = {name: made[place] for name, made in answers.items()}
                    pictures[row] |= {"lr": low[place], "guide": guides["own"][place], "gt": truth[place]}
    return Measured(pd.concat(parts, ignore_index=True), pictures, clocks, found)


def answer(
    generators: Mapping[str, Generator], low: Uint8, guides: Mapping[Guide, Uint8], clocks: Mapping[str, Clock]
) -> dict[str, Uint8]:
    """What each system makes of a batch.

    Args:
        generators: of `MODELS`.
        low: I_LR, (B, h, w, 3).
        guides: the pictures for each kind of guide, (B, H, W, 3).
        clocks: one a model; the time from pictures to pictures is added.

    Returns:
        System -> (B, H, W, 3), in the order of `SYSTEMS`.
    """
    made: dict[str, Uint8] = {"bicubic": np.stack([upscale(picture) for picture in low])}
    for kind, guide in guides.items():
        made[f"guide_only{SUFFIXES[kind]}"] = guide
    for name, generator in generators.items():
        kinds: list[Guide] = list(guides) if generator.guided else ["own"]  # without a guide there is one answer
        for kind in kinds:
            started = time.perf_counter()
            sr, warped = generator.super_resolve(low, guides[kind] if generator.guided else None)
            clocks[name].batches.append((time.perf_counter() - started, len(low)))
            made[f"{name}{SUFFIXES[kind]}"] = sr
            if name == "psnr_phase" and warped is not None:
                made[f"warped_guide{SUFFIXES[kind]}"] = warped
    return {system.name: made[system.name] for system in SYSTEMS}


def _batches(rows: Mapping[Split, Rows], size: int) -> Iterator[tuple[Split, Rows]]:
    for split, chosen in rows.items():
        for start in range(0, len(chosen), size):
            yield split, chosen[start : start + size]


def _metrics(
    pool: ThreadPoolExecutor, answers: Mapping[str, Uint8], low: Uint8, truth: Uint8, ticker: Ticker
) -> dict[str, dict[str, list[float]]]:
    """System -> metric -> a value an image."""
    images = len(low)
    values: dict[str, dict[str, list[float]]] = {name: {metric: [] for metric in METRICS} for name in answers}
    jobs = [(name, made[place], truth[place], low[place]) for name, made in answers.items() for place in range(images)]
    for (name, *_), measured in zip(jobs, pool.map(lambda job: all_metrics(*job[1:]), jobs), strict=True):
        for metric, value in measured.items():
            values[name][metric].append(value)
        ticker.advance()
    return values


def _compare_faces(
    processes: Executor | None, answers: Mapping[str, Uint8], truth: Uint8
) -> list[Future[Similarities]]:
    """A job for each image; none where identity is not measured."""
    if processes is None:
        return []
    return [
        processes.submit(similarities, gt, {name: made[place] for name, made in answers.items()})
        for place, gt in enumerate(truth)
    ]


def _report(
    params: Params,
    faces: Faces,
    table: pd.DataFrame,
    models: dict[str, ModelReport],
    identified: IdentityReport | None,
) -> BenchmarkReport:
    settings = params.benchmark
    metrics = _metrics_of(measures_identity=identified is not None)
    samples, seed = settings.bootstrap_samples, settings.seed
    # of[split][system]: one row an image, in the same order for every system
    of = {
        split: {str(name): part for name, part in of_split.groupby("system")}
        for split, of_split in ((split, table[table["split"] == split]) for split in settings.splits)
    }
    first = {split: parts["bicubic"] for split, parts in of.items()}
    return BenchmarkReport(
        profile=params.profile,
        data_digest=faces.digest,
        params_digest=params.digest(STAGES["benchmark"].sections),
        conventions={
            **CONVENTIONS,
            IDENTITY_METRIC: IDENTITY_CONVENTION if identified else _why_not_measured(settings),
            "interval": (
                f"95 % percentile bootstrap over identities: {samples} resamples of the people of the split, with "
                "replacement; the mean is over all images of a resample"
            ),
        },
        splits={
            split: SplitReport(images=len(part), identities=part["identity"].nunique()) for split, part in first.items()
        },
        identity=identified,
        models=models,
        systems=[
            SystemReport(
                system=system.name,
                title=system.title,
                model=system.model,
                guide=system.guide,
                splits={
                    split: {
                        metric: _estimate(
                            bootstrap_interval(parts[system.name][metric], first[split]["identity"], samples, seed)
                        )
                        for metric in metrics
                    }
                    for split, parts in of.items()
                },
            )
            for system in SYSTEMS
        ],
        comparisons=[
            ComparisonReport(
                a=a,
                b=b,
                splits={
                    split: {
                        metric: _estimate(
                            paired_difference(
                                parts[a][metric], parts[b][metric], first[split]["identity"], samples, seed
                            )
                        )
                        for metric in metrics
                    }
                    for split, parts in of.items()
                },
            )
            for a, b in COMPARISONS
        ],
    )


def _why_not_measured(settings: BenchmarkParams) -> str:
    missing = ", and the extra `identity` was not installed" if settings.identity == "auto" else ""
    return f"not measured: benchmark.identity is `{settings.identity}`{missing}"


def _estimate(interval: Interval) -> Estimate:
    return Estimate(**{name: round(value, DIGITS) for name, value in interval._asdict().items()})


def _headline(report: BenchmarkReport) -> dict[str, dict[str, dict[str, float]]]:
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


def _plot_table(report: BenchmarkReport) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (entry.system, split, *(round(value, 4) for value in (psnr.mean, psnr.low, psnr.high)))
            for split in report.splits
            for entry in report.systems
            for psnr in (entry.splits[split]["psnr"],)
        ],
        columns=["system", "split", "psnr", "low", "high"],
    )


def _flat(report: BenchmarkReport) -> dict[str, float]:
    """Names and values for the recorder: `test.gwainet.psnr`, `test.gwainet_minus_banet.psnr_low`."""
    values: dict[str, float] = {}
    for entry in report.systems:
        for split, metrics in entry.splits.items():
            values |= {f"{split}.{entry.system}.{metric}": estimate.mean for metric, estimate in metrics.items()}
    for pair in report.comparisons:
        for split, metrics in pair.splits.items():
            for metric, estimate in metrics.items():
                name = f"{split}.{pair.a}_minus_{pair.b}.{metric}"
                values |= {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return values


def _picture(pictures: Mapping[int, Mapping[str, Uint8]]) -> Image.Image:
    columns = {
        "lr": "LR",
        "guide": "Guide",
        "warped_guide": "Warped guide",
        "bicubic": "Bicubic",
        "banet": "BAnet",
        "psnr_phase": "PSNR phase",
        "gwanet": "GWAnet",
        "gwainet": "GWAInet",
        "gwainet-r": "GWAInet, wrong guide",
        "gt": "GT",
    }
    rows: list[Sequence[Uint8]] = []
    for row in sorted(pictures):
        shown = dict(pictures[row])
        shown["lr"] = shown["lr"].repeat(SCALE, axis=0).repeat(SCALE, axis=1)
        rows.append([shown[name] for name in columns])
    return grid(rows, list(columns.values()))


def _results_table(report: BenchmarkReport, split: str, clocks: Mapping[str, Clock]) -> Table:
    """Systems by metrics; the best of each metric is bold, upper bounds aside."""
    faces = report.splits[split]
    table = _narrow_table(f"{split}: {faces.images} faces of {faces.identities} people")
    table.add_column("system", no_wrap=True)
    for title in (*(COLUMNS[metric] for metric in report.metrics), "ms/face"):
        table.add_column(title, justify="right", no_wrap=True)
    rivals = [entry for entry in report.systems if entry.guide != "target"]
    best = {metric: max(entry.splits[split][metric].mean for entry in rivals) for metric in report.metrics}
    for entry in report.systems:
        cells = [Text(entry.title, style="" if entry in rivals else "dim")]
        for metric in report.metrics:
            estimate = entry.splits[split][metric]
            text = f"{estimate.mean:.{DECIMALS.get(metric, 2)}f}"
            if metric == "psnr":
                text += f" [{estimate.low:.2f}, {estimate.high:.2f}]"
            cells.append(
                Text(text, style="dim" if entry not in rivals else "bold" if estimate.mean == best[metric] else "")
            )
        own_time = entry.model is not None and entry.system == entry.model
        cells.append(Text(f"{clocks[entry.system].seconds_per_image() * 1000:.1f}" if own_time else ""))
        table.add_row(*cells)
    return table


def _comparisons_table(report: BenchmarkReport, split: str) -> Table:
    """Paired differences; those whose interval excludes 0 are bold."""
    titles = {entry.system: entry.title for entry in report.systems}
    columns = [metric for metric in ("psnr", IDENTITY_METRIC) if metric in report.metrics]
    table = _narrow_table(f"{split}: paired differences")
    table.add_column("difference", no_wrap=True)
    for metric in columns:
        table.add_column(COLUMNS[metric], justify="right", no_wrap=True)
    for pair in report.comparisons:
        cells = [Text(f"{titles[pair.a]} - {titles[pair.b]}")]
        for metric in columns:
            estimate, digits = pair.splits[split][metric], DECIMALS.get(metric, 2)
            mean, low, high = (f"{value:+.{digits}f}" for value in (estimate.mean, estimate.low, estimate.high))
            sure = "bold" if estimate.low > 0 or estimate.high < 0 else ""
            cells.append(Text(f"{mean} [{low}, {high}]", style=sure))
        table.add_row(*cells)
    return table


def _narrow_table(title: str) -> Table:
    """Without lines: all columns fit the 80 characters of a log."""
    return Table(title=title, title_justify="left", box=None, pad_edge=False, collapse_padding=True)


def _cores() -> int:
    return os.cpu_count() or 1
