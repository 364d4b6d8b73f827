"""`benchmark.html`: what was compared, who is better and how sure that is, with the faces to look at.

Words and numbers are made here, looks in `gwainet/templates/benchmark.html`. The page says nothing that
`benchmark.json`, `benchmark.csv` and the weights do not hold; the same content gives the same bytes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from gwainet.dataset import Split
from gwainet.evaluation.report import BenchmarkReport, Estimate, groups_of
from gwainet.evaluation.show import COLUMNS, DECIMALS, best_of, count, giga, maps_of
from gwainet.evaluation.slices import SLICES, SMALLEST_GROUP
from gwainet.evaluation.systems import MAIN, Guide
from gwainet.images import ERROR_SCALE, Uint8, error_picture
from gwainet.report import data_uri, histogram, render

FACES = 10  # of each kind: best, median, worst
MOST_BINS = 28
QUALITY = 88  # of the page's pictures, WebP: 30 faces of six pictures stay below 3 MB
LONGEST = 168  # pixels, as CelebA's crops

MINUS = "\u2212"
QUANTILES = {"Least": 0.0, "Lower quarter": 0.25, "Median": 0.5, "Upper quarter": 0.75, "Most": 1.0}

GUIDES: dict[Guide, str] = {
    "none": "none",
    "own": "same person",
    "other": "another person",
    "target": "the target itself",
}

# a model, what it is without a guide
GUIDED = {"psnr_phase": "banet_psnr", "gwanet": "banet", "gwainet": "banet"}

# the comparisons that the page opens with, in words: "... is better than ..."
CLAIMS = {
    ("gwainet", "bicubic"): ("GWAInet", "bicubic upscaling"),
    ("gwainet", "banet"): ("GWAInet", "BAnet, the model without a guide"),
    ("gwainet", "gwainet-r"): ("GWAInet with the right guide", "GWAInet with another person's"),
    ("gwainet", "gwanet"): ("GWAInet", "GWAnet, which has no identity loss"),
}

# Table 1 of the paper, as printed: PSNR (dB) on VggFace2 and WebFace, "on the dataset of [27]"
TABLE_1 = (
    ("SRCNN [10]", "22.30", "23.50"),
    ("VDSR [23]", "22.50", "23.65"),
    ("SRGAN [26]", "23.01", "24.49"),
    ("CBN [52]", "21.84", "23.10"),
    ("WaveletSR [18]", "20.87", "21.63"),
    ("TDAE [48]", "20.19", "20.24"),
    ("GFRNet [27]", "24.10", "27.21"),
    ("Ours (Full-GWAInet)", "25.57", "27.11"),
)

Outcome = Literal["better", "worse", "undecided", "too few people"]


@dataclass(frozen=True)
class Figure:
    """A mean and its interval as text; `whisker` is where low, mean and high lie on an axis of 0 to 100."""

    mean: str
    interval: str
    whisker: tuple[float, float, float] | None = None

    def __str__(self) -> str:
        return f"{self.mean} {self.interval}"


@dataclass(frozen=True)
class Verdict:
    """What an interval says of a difference."""

    outcome: Outcome
    says: str
    figure: str


@dataclass(frozen=True)
class Axis:
    """From the least to the largest of some differences, 0 among them."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Where a value lies, 0 to 100."""
        return round(100 * (value - self.low) / ((self.high - self.low) or 1.0), 2)

    @classmethod
    def of(cls, estimates: Sequence[Estimate]) -> "Axis":
        """That holds the intervals of all."""
        return cls(min(0.0, *(e.low for e in estimates)), max(0.0, *(e.high for e in estimates)))


@dataclass(frozen=True)
class Example:
    """A face with its guide and what the main model makes of them; dB."""

    row: int
    title: str
    file: str
    psnr: float
    bicubic: float
    pictures: tuple[tuple[str, str], ...]

    @property
    def gain(self) -> str:
        """Over bicubic."""
        return signed(self.psnr - self.bicubic, 2)


def signed(value: float, digits: int) -> str:
    """With its sign, a true minus; nothing is said of the sign of what rounds to 0."""
    text = f"{value:+.{digits}f}".replace("-", MINUS)
    return text[1:] if not any(digit in text for digit in "123456789") else text


def level(estimate: Estimate, metric: str) -> Figure:
    """A system's figure."""
    mean, low, high = (f"{value:.{DECIMALS.get(metric, 2)}f}" for value in (estimate.mean, estimate.low, estimate.high))
    return Figure(mean, f"[{low}, {high}]")


def difference(estimate: Estimate, metric: str, axis: Axis | None = None) -> Figure:
    """A difference's figure, with as many digits as keep both ends of its interval from reading 0."""
    ends = [abs(end) for end in (estimate.low, estimate.high) if end]
    least = DECIMALS.get(metric, 2)
    digits = next((d for d in range(least, least + 3) if all(round(end, d) for end in ends)), least + 2)
    mean, low, high = (signed(value, digits) for value in (estimate.mean, estimate.low, estimate.high))
    at = (axis.at(estimate.low), axis.at(estimate.mean), axis.at(estimate.high)) if axis else None
    return Figure(mean, f"[{low}, {high}]", at)


def outcome(estimate: Estimate, identities: int) -> Outcome:
    """What a 95 % interval over people decides of a difference (docs/paper.md, M8)."""
    if identities < SMALLEST_GROUP:
        return "too few people"
    if estimate.low > 0:
        return "better"
    return "worse" if estimate.high < 0 else "undecided"


def verdict(a: str, b: str, estimate: Estimate, identities: int) -> Verdict:
    """A sentence on PSNR of a - b.

    Args:
        a: in words, as the sentence's subject.
        b: in words, after "than".
        estimate: of a - b, dB.
        identities: people it rests on.
    """
    decided = outcome(estimate, identities)
    figure = str(difference(estimate, "psnr")).replace(" ", " dB ", 1)
    match decided:
        case "better" | "worse":
            return Verdict(decided, f"{a} is {decided} than {b}", figure)
        case "undecided":
            return Verdict(decided, f"Undecided whether {a} is better than {b}: the interval includes 0", figure)
        case "too few people":
            people = f"{identities} {'person is' if identities == 1 else 'people are'} too few to tell"
            return Verdict(decided, f"No verdict whether {a} is better than {b}: {people}", figure)


def gains_of(table: pd.DataFrame, split: Split) -> pd.Series:
    """PSNR of the main model minus bicubic's, dB, by row of the manifest."""
    psnr = table[table["split"] == split].pivot_table(index="row", columns="system", values="psnr")
    return psnr[MAIN] - psnr["bicubic"]


def choose_examples(gains: pd.Series) -> dict[str, list[int]]:
    """Rows of the faces with the largest gains, the middle and, the worst first, the least."""
    order = gains.sort_values(ascending=False, kind="stable").index.tolist()
    count = min(FACES, max(1, len(order) // 3))
    middle = (len(order) - count) // 2
    return {"best": order[:count], "median": order[middle : middle + count], "worst": order[::-1][:count]}


def edges_of(values: npt.ArrayLike) -> list[float]:
    """Edges of at most `MOST_BINS` bins, multiples of 1, 2 or 5 times a power of 10: 0 is one where it is inside."""
    low, high = float(np.min(values)), float(np.max(values))
    steps = (digit * 10.0**power for power in range(-2, 4) for digit in (1, 2, 5))
    first, last, step = next(
        (first, last, step)
        for step in steps
        if (last := math.floor(high / step) + 1) - (first := _floor(low, step)) <= MOST_BINS
    )
    return [round(place * step, 6) for place in range(first, last + 1)]


def _floor(value: float, step: float) -> int:
    """The last whole number of steps that is not above the value, however small that is: a division may give -0."""
    places = math.floor(value / step)
    return places - 1 if places * step > value else places


def benchmark_page(
    report: BenchmarkReport,
    table: pd.DataFrame,
    split: Split,
    pictures: Mapping[int, Mapping[str, Uint8]],
    settings: Mapping[str, object],
    code: str,
    drawn: bool,
) -> str:
    """The page.

    Args:
        report: what `benchmark.json` holds.
        table: what `benchmark.csv` holds.
        split: that verdicts, faces and slices are of.
        pictures: by row, of `measure.look_again`, of the faces of `choose_examples`.
        settings: every param that shapes the report, under flat names.
        code: version of the code that measured.
        drawn: whether the people were drawn by the project, so that nobody has to bring photos.
    """
    gains = gains_of(table, split)
    edges = edges_of(gains)
    counts = np.histogram(gains, edges)[0].tolist()
    comparisons = {(pair.a, pair.b): pair for pair in report.comparisons}
    people = report.splits[split].identities
    return render(
        "benchmark.html",
        title=f"Benchmark of the profile {report.profile}",
        report=report,
        split=split,
        main=_titles(report)[MAIN],
        verdicts=[verdict(a, b, comparisons[pair].splits[split]["psnr"], people) for pair, (a, b) in CLAIMS.items()],
        gain=difference(comparisons[MAIN, "bicubic"].splits[split]["psnr"], "psnr"),
        columns=[COLUMNS[metric].partition(" [")[0] for metric in report.metrics],
        standings={name: list(_standings(report, name)) for name in report.splits},
        paired={name: list(_paired(report, name)) for name in report.splits},
        guides={COLUMNS[metric].partition(" [")[0]: list(_guides(report, split, metric)) for metric in report.metrics},
        costs=list(_costs(report)),
        apart=list(_apart(report, split)),
        seeded=list(_seeded(report, split)),
        quoted=TABLE_1,
        chart=histogram(counts, edges, "images", "a gain of"),
        gains=gains,
        quantiles={name: signed(float(gains.quantile(share)), 2) for name, share in QUANTILES.items()},
        examples={
            kind: [_example(row, table, pictures[row]) for row in rows] for kind, rows in choose_examples(gains).items()
        },
        error_scale=ERROR_SCALE,
        slices=list(_slices(report, table, split)),
        smallest=SMALLEST_GROUP,
        settings=settings,
        code=code,
        drawn=drawn,
    )


def _titles(report: BenchmarkReport) -> dict[str, str]:
    return {entry.system: entry.title for entry in report.systems}


@dataclass(frozen=True)
class Standing:
    """A row of the table of systems; `best` are the metrics in which nobody without the target is better."""

    title: str
    guide: str
    figures: dict[str, Figure]
    best: frozenset[str]
    bound: bool


def _standings(report: BenchmarkReport, split: str) -> Iterator[Standing]:
    most = best_of(report, split)
    for entry in report.systems:
        estimates = entry.splits[split]
        bound = entry.guide == "target"
        best = frozenset(m for m in report.metrics if not bound and estimates[m].mean == most[m])
        figures = {metric: level(estimates[metric], metric) for metric in report.metrics}
        yield Standing(entry.title, GUIDES[entry.guide], figures, best, bound)


@dataclass(frozen=True)
class Cost:
    """A row of the table of costs."""

    title: str
    parameters: str
    giga_macs: str
    images: str
    seeds: str
    maps: str
    same: str
    epochs: str
    rate: str


def _costs(report: BenchmarkReport) -> Iterator[Cost]:
    entries = {entry.system: entry for entry in report.systems}
    for name, model in report.models.items():
        if name not in entries:  # trained with another seed: a row of the table of seeds
            continue
        seeds = entries[name].seeds
        yield Cost(
            entries[name].title,
            f"{model.parameters:,}",
            giga(model.macs),
            count(model.images),
            "1" if seeds is None else str(len(seeds.seeds)),
            maps_of(model.narrow),
            model.same or "",
            "" if model.epochs is None else f"{model.epochs:.4g}",
            "" if model.learning_rate is None else f"{model.learning_rate:g}",
        )


@dataclass(frozen=True)
class Apart:
    """A row of the table of distances between sets of faces."""

    title: str
    frechet: str
    kernel: str
    bound: bool


def _apart(report: BenchmarkReport, split: str) -> Iterator[Apart]:
    for entry in report.systems:
        if split in entry.distances:
            found = entry.distances[split]
            kernel = f"{1000 * found.identity_kernel:.4f}".replace("-", MINUS)
            yield Apart(entry.title, f"{found.identity_frechet:.4f}", kernel, entry.guide == "target")


@dataclass(frozen=True)
class Seeded:
    """A row of the table of seeds; `figures` by the metric's column."""

    title: str
    seeds: str
    figures: dict[str, str]


def _seeded(report: BenchmarkReport, split: str) -> Iterator[Seeded]:
    for entry in report.systems:
        if entry.seeds is None:
            continue
        figures = {}
        for metric in report.metrics:
            spread, digits = entry.seeds.splits[split][metric], DECIMALS.get(metric, 2)
            figures[metric] = f"{spread.mean:.{digits}f} \u00b1 {spread.deviation:.{digits}f}"
        yield Seeded(entry.title, ", ".join(str(seed) for seed in entry.seeds.seeds), figures)


@dataclass(frozen=True)
class Paired:
    """A row of the table of differences; `zero` is where 0 lies on the axis of the whiskers."""

    title: str
    figures: dict[str, Figure]
    outcome: Outcome
    zero: float


def _paired(report: BenchmarkReport, split: str) -> Iterator[Paired]:
    titles = _titles(report)
    axis = Axis.of([pair.splits[split]["psnr"] for pair in report.comparisons])
    for pair in report.comparisons:
        estimates = pair.splits[split]
        figures = {m: difference(estimates[m], m, axis if m == "psnr" else None) for m in report.metrics}
        decided = outcome(estimates["psnr"], report.splits[split].identities)
        yield Paired(f"{titles[pair.a]} {MINUS} {titles[pair.b]}", figures, decided, axis.at(0))


@dataclass(frozen=True)
class Use:
    """What a model comes to with each guide, by one metric; `matters`: the right guide minus another person's."""

    title: str
    figures: dict[Guide, Figure]
    helps: Figure
    matters: Figure


def _guides(report: BenchmarkReport, split: str, metric: str) -> Iterator[Use]:
    """The use of the guide by one metric (docs/paper.md, M5)."""
    systems = {entry.system: entry for entry in report.systems}
    pairs = {(pair.a, pair.b): pair.splits[split] for pair in report.comparisons}
    for model, without in GUIDED.items():
        named: dict[Guide, str] = {"own": model, "other": f"{model}-r", "none": without, "target": f"{model}-target"}
        yield Use(
            systems[model].title,
            {guide: level(systems[name].splits[split][metric], metric) for guide, name in named.items()},
            difference(pairs[model, without][metric], metric),
            difference(pairs[model, f"{model}-r"][metric], metric),
        )


@dataclass(frozen=True)
class Group:
    """A row of a slice's table."""

    name: str
    values: str
    images: int
    identities: int
    gain: Figure
    outcome: Outcome


@dataclass(frozen=True)
class Sliced:
    """A slice's table."""

    title: str
    says: str
    groups: tuple[Group, ...]
    zero: float


def _slices(report: BenchmarkReport, table: pd.DataFrame, split: str) -> Iterator[Sliced]:
    """The main model's gain in every slice, all on one axis."""
    images = table[(table["split"] == split) & (table["system"] == MAIN)]
    member = groups_of(images)
    found = [entry for entry in report.slices if entry.split == split and entry.system == MAIN]
    axis = Axis.of([entry.gain for entry in found])
    for name, kind in SLICES.items():
        groups = []
        for entry in (entry for entry in found if entry.slice == name):
            values = images.loc[member[name] == entry.group, name]
            groups.append(
                Group(
                    entry.group.replace("_", " "),
                    ""
                    if values.isna().any()
                    else f"{values.min():.3g} to {values.max():.3g}{kind.unit}".replace("-", MINUS),
                    entry.images,
                    entry.identities,
                    difference(entry.gain, "psnr", axis),
                    outcome(entry.gain, entry.identities),
                )
            )
        yield Sliced(kind.title, kind.says, tuple(groups), axis.at(0))


def _example(row: int, table: pd.DataFrame, pictures: Mapping[str, Uint8]) -> Example:
    main, bicubic = (table[(table["row"] == row) & (table["system"] == name)].iloc[0] for name in (MAIN, "bicubic"))
    shown = {
        "LR": data_uri(pictures["lr"]),
        "Guide": _picture(pictures["guide"]),
        "Warped guide": _picture(pictures["warped_guide"]),
        "SR": _picture(pictures["sr"]),
        "GT": _picture(pictures["gt"]),
        "Error": _picture(error_picture(pictures["sr"], pictures["gt"])),
    }
    return Example(
        row,
        str(main["identity"]),
        str(main["source_file"]),
        float(main["psnr"]),
        float(bicubic["psnr"]),
        tuple(shown.items()),
    )


def _picture(picture: Uint8) -> str:
    return data_uri(picture, LONGEST, QUALITY)
