"""The benchmark for the eye: the grid of faces, and tables on the terminal."""

from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image
from rich.table import Table
from rich.text import Text

from gwainet.evaluation.measure import Clock
from gwainet.evaluation.report import BenchmarkReport
from gwainet.evaluation.systems import BASELINE_SYSTEMS, LOWER_IS_BETTER
from gwainet.identity import IDENTITY_METRIC
from gwainet.images import Uint8, grid
from gwainet.lpips import LPIPS
from gwainet.params import BASELINE_WIDTH, SCALE

COLUMNS = {
    "psnr": "PSNR dB [95 %]",
    "psnr_y": "PSNR-Y",
    "ssim": "SSIM",
    "lr_psnr": "LR-PSNR",
    LPIPS: "LPIPS",
    IDENTITY_METRIC: "face",
}
DECIMALS = {"ssim": 4, LPIPS: 4, IDENTITY_METRIC: 3}  # 2 of what is in dB


def best_of(report: BenchmarkReport, split: str) -> dict[str, float]:
    """The best mean of each metric on a split among those that were not given the target itself."""
    rivals = [entry for entry in report.systems if entry.guide != "target"]
    return {
        metric: (min if metric in LOWER_IS_BETTER else max)(entry.splits[split][metric].mean for entry in rivals)
        for metric in report.metrics
    }


GRID = {  # some faces beside what the main systems make of them
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

# The paper's figures, with the people of this data set: file -> what stands side by side (docs/baselines.md)
FIGURES: dict[str, dict[str, str]] = {
    "figure3.png": {  # all systems
        "lr": "LR",
        "bicubic": "Bicubic",
        **{system.name: system.title for system in BASELINE_SYSTEMS if system.name == system.model},
        "banet": "BAnet",
        "gwanet": "GWAnet",
        "gwainet": "GWAInet",
        "gt": "GT",
    },
    "figure4.png": {  # without a guide and with one
        "lr": "LR",
        "bicubic": "Bicubic",
        "banet_psnr": "PSNR, no guide",
        "banet": "BAnet",
        "guide": "Guide",
        "warped_guide": "Warped guide",
        "psnr_phase": "PSNR phase",
        "gwanet": "GWAnet",
        "gwainet": "GWAInet",
        "gt": "GT",
    },
    "figure5.png": {  # the right guide and a wrong one
        "lr": "LR",
        "guide": "Guide",
        "gwanet": "GWAnet",
        "gwainet": "GWAInet",
        "guide_only-r": "Another person",
        "gwanet-r": "GWAnet-R",
        "gwainet-r": "GWAInet-R",
        "gt": "GT",
    },
}


def figure(pictures: Mapping[int, Mapping[str, Uint8]], columns: Mapping[str, str]) -> Image.Image:
    """Some faces beside what systems make of them; a column of what was not measured is left out."""
    made = [pictures[row] for row in sorted(pictures)]
    shown = {name: title for name, title in columns.items() if name in made[0]}
    rows = []
    for of in made:
        large = {"lr": of["lr"].repeat(SCALE, axis=0).repeat(SCALE, axis=1)}
        rows.append([{**of, **large}[name] for name in shown])
    return grid(rows, list(shown.values()))


def results_table(report: BenchmarkReport, split: str, clocks: Mapping[str, Clock]) -> Table:
    """Systems by metrics; the best of each metric is bold, upper bounds aside."""
    faces = report.splits[split]
    table = _narrow_table(f"{split}: {faces.images} faces of {faces.identities} people")
    table.add_column("system")
    for title in (*(COLUMNS[metric] for metric in report.metrics), "ms/face"):
        table.add_column(title, justify="right", no_wrap=True)
    rivals = [entry for entry in report.systems if entry.guide != "target"]
    best = best_of(report, split)
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


COSTS = ("M param.", "GMAC", "ms/face", "drawn", "training", "seeds", "maps")


@dataclass(frozen=True)
class TrainingCost:
    """What a training and those it started from took; None where one of them did not say.

    Attributes:
        images: drawn.
        seconds: without the pretraining of Wnet and Inet.
        device: CPU with its threads, or the GPU's name.
        same: the rule by which its length was chosen (`train_baselines.same`).
        epochs: of its own training.
        learning_rate: of its own training.
    """

    images: int | None = None
    seconds: float | None = None
    device: str | None = None
    same: str | None = None
    epochs: float | None = None
    learning_rate: float | None = None


def costs_table(report: BenchmarkReport, clocks: Mapping[str, Clock], trainings: Mapping[str, TrainingCost]) -> Table:
    """What each model costs: parameters, operations, time of a face here, and what its training saw and took."""
    devices = sorted({training.device for training in trainings.values() if training.device})
    table = _narrow_table("costs; trained on: " + ("; ".join(devices) or "not known"))
    table.add_column("model")
    for title in COSTS:
        table.add_column(title, justify="right", no_wrap=True)
    for line in costs_of(report, clocks, trainings):
        milliseconds = f"{1000 * line.seconds_per_image:.1f}"
        seconds = "" if line.training_seconds is None else f"{line.training_seconds:,.0f} s"
        cells = (
            f"{line.parameters / 1e6:.3f}",
            giga(line.macs),
            milliseconds,
            count(line.images),
            seconds,
            str(line.seeds),
        )
        table.add_row(line.title, *cells, maps_of(line.narrow))
    return table


@dataclass(frozen=True)
class CostLine:
    """A line of `costs.csv`; what is not known is None."""

    model: str
    title: str
    parameters: int
    macs: int | None
    seconds_per_image: float
    images: int | None
    training_seconds: float | None
    training_device: str | None
    seeds: int
    narrow: int | None
    same: str | None
    epochs: float | None
    learning_rate: float | None


def costs_of(
    report: BenchmarkReport, clocks: Mapping[str, Clock], trainings: Mapping[str, TrainingCost]
) -> list[CostLine]:
    """What each model costs; trainings with further seeds count in `seeds` alone."""
    entries = {entry.system: entry for entry in report.systems}
    lines = []
    for name, model in report.models.items():
        if name not in entries:
            continue
        seeds = entries[name].seeds
        lines.append(
            CostLine(
                model=name,
                title=entries[name].title,
                parameters=model.parameters,
                macs=model.macs,
                seconds_per_image=clocks[name].seconds_per_image(),
                images=model.images,
                training_seconds=trainings[name].seconds,
                training_device=trainings[name].device,
                seeds=1 if seeds is None else len(seeds.seeds),
                narrow=model.narrow,
                same=model.same,
                epochs=model.epochs,
                learning_rate=model.learning_rate,
            )
        )
    return lines


def maps_of(narrow: int | None) -> str:
    """Feature maps of another paper's system, 64 as published; empty of ours."""
    return "" if narrow is None else str(BASELINE_WIDTH // narrow)


def giga(macs: int | None) -> str:
    """Multiply-adds in units of 1e9; empty where they are not known."""
    return "" if macs is None else f"{macs / 1e9:.2f}"


def count(number: int | None) -> str:
    """A number with its thousands apart; empty where it is not known."""
    return "" if number is None else f"{number:,}"


def seeds_table(report: BenchmarkReport, split: str) -> Table | None:
    """Mean and standard deviation over seeds of the systems that were trained with several; None where none was."""
    several = [(entry.title, entry.seeds) for entry in report.systems if entry.seeds is not None]
    if not several:
        return None
    table = _narrow_table(f"{split}: over seeds, mean \u00b1 standard deviation")
    table.add_column("system")
    table.add_column("seeds", justify="right", no_wrap=True)
    for metric in report.metrics:
        table.add_column(COLUMNS[metric].partition(" [")[0], justify="right", no_wrap=True)
    for title, seeds in several:
        cells = []
        for metric in report.metrics:
            spread, digits = seeds.splits[split][metric], DECIMALS.get(metric, 2)
            cells.append(f"{spread.mean:.{digits}f} \u00b1 {spread.deviation:.{digits}f}")
        table.add_row(title, str(len(seeds.seeds)), *cells)
    return table


def distances_table(report: BenchmarkReport, split: str) -> Table | None:
    """Distances of sets of faces; None where faces were not compared."""
    measured = [(entry.title, entry.distances[split]) for entry in report.systems if split in entry.distances]
    if not measured:
        return None
    images = measured[0][1].images
    table = _narrow_table(f"{split}: distance of all {images} faces from the true {images}, dlib's descriptors")
    table.add_column("system")
    for title in ("Frechet", "kernel x 1000", "images"):
        table.add_column(title, justify="right", no_wrap=True)
    for title, found in measured:
        table.add_row(title, f"{found.identity_frechet:.4f}", f"{1000 * found.identity_kernel:.4f}", str(found.images))
    return table


def comparisons_table(report: BenchmarkReport, split: str) -> Table:
    """Paired differences; those whose interval excludes 0 are bold."""
    titles = {entry.system: entry.title for entry in report.systems}
    columns = [metric for metric in ("psnr", IDENTITY_METRIC) if metric in report.metrics]
    table = _narrow_table(f"{split}: paired differences")
    table.add_column("difference")
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
    """Without lines, for the 80 characters of a log: the column of names wraps, and no figure is ever cut."""
    return Table(title=title, title_justify="left", box=None, pad_edge=False, collapse_padding=True)
