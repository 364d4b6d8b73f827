"""Pictures on the page of `check_faces`: faces that break a rule, faces that keep the contract, and the extremes."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from gwainet import quality, report
from gwainet.distributions import STATISTICS
from gwainet.measured import Numbers, Prepared

SHOWN_FACES = 12  # that keep the contract
SHOWN_OFFENDERS = 12  # under a rule
SHOWN_EXTREMES = 6  # of a distribution
BINS = 32  # bars of a distribution

# rule -> the column of another row that explains the break, and what to call its picture
BESIDE = {
    "no_near_duplicate_across_splits": ("twin_row", "in another split"),
    "labels_plausible": ("label_twin", "the person's most typical"),
}


def accepted(prepared: Prepared, outcomes: Sequence[quality.Outcome], images: pd.DataFrame) -> list[report.Face]:
    """A few faces with which nothing is wrong, spread over the splits."""
    guides = _guide_rows(images, "guide")
    wrong = {row for outcome in outcomes for row in _rows(outcome)}
    good = images[(guides >= 0) & ~images["position"].isin(wrong)]
    random = np.random.default_rng(0)
    shares = {"train": SHOWN_FACES // 2, "validation": SHOWN_FACES // 4, "test": SHOWN_FACES // 4}
    chosen: list[int] = []
    for split, share in shares.items():
        rows = good.loc[good["split"] == split, "position"].to_numpy()
        chosen += sorted(random.choice(rows, min(len(rows), share), replace=False).tolist())
    return [
        report.Face(
            *_names(images, row),
            pictures=(
                ("low resolution", np.asarray(prepared.lr[row])),
                ("guide", np.asarray(prepared.hr[guides[row]])),
                ("crop", np.asarray(prepared.hr[row])),
            ),
        )
        for row in chosen
    ]


def offenders(
    prepared: Prepared, outcomes: Sequence[quality.Outcome], images: pd.DataFrame
) -> dict[str, list[report.Face]]:
    """The first pictures that break a rule, by the rule's name; with the guide where the rule is about it."""
    found: dict[str, list[report.Face]] = {}
    for outcome in outcomes:
        guides = _guide_rows(images, "other_guide" if outcome.rule.name.startswith("other_guide") else "guide")
        for row in _rows(outcome)[:SHOWN_OFFENDERS]:
            pictures = [("crop", np.asarray(prepared.hr[row]))]
            if outcome.rule.name == "lr_is_downscaled":
                pictures.insert(0, ("low resolution", np.asarray(prepared.lr[row])))
            if outcome.rule.group == "Guides" and guides[row] >= 0:
                pictures.append(("guide", np.asarray(prepared.hr[guides[row]])))
            if beside := BESIDE.get(outcome.rule.name):
                column, title = beside
                twin = images[column].to_numpy(float)[row]
                if not np.isnan(twin):
                    pictures.append((title, np.asarray(prepared.hr[int(twin)])))
            found.setdefault(outcome.rule.name, []).append(report.Face(*_names(images, row), tuple(pictures)))
    return found


def _guide_rows(images: pd.DataFrame, kind: Literal["guide", "other_guide"]) -> Numbers:
    """Rows of the guides, -1 for what is no row."""
    rows: Numbers = images[f"known_{kind}_row"].fillna(-1).to_numpy(np.int64)
    return rows


def _rows(outcome: quality.Outcome) -> list[int]:
    """The images that break a rule about images."""
    return list(outcome.offenders) if outcome.rule.table == "images" else []


def _names(images: pd.DataFrame, row: int) -> tuple[str, str]:
    """Whom an image shows, and the photo's path."""
    identity, split, file = images.loc[row, ["identity", "split", "source_file"]].fillna("missing")
    return f"{identity} \u00b7 {split}", f"row {row} \u00b7 {file}"


def distributions(
    prepared: Prepared, images: pd.DataFrame, statistics: npt.NDArray[np.float64]
) -> list[report.Distribution]:
    """Each statistic as a chart, with the photos at the end that people should look at.

    Shapes: statistics (N, S), in the order of `STATISTICS`.
    """
    found = []
    for column, statistic in enumerate(STATISTICS.values()):
        values = statistics[:, column]
        order = np.argsort(-values if statistic.extreme == "highest" else values, kind="stable")[:SHOWN_EXTREMES]
        extremes = [
            report.Face(
                f"{values[row]:.3g} {statistic.unit}",
                " \u00b7 ".join(_names(images, int(row))),
                (("crop", np.asarray(prepared.hr[row])),),
            )
            for row in order
        ]
        low, median, high = (float(value) for value in np.quantile(values, (0.05, 0.5, 0.95)))
        top = float(np.quantile(values, 0.99)) * 1.05 or 1.0  # a few far values would leave one bar for all others
        counts, edges = np.histogram(np.minimum(values, top), bins=BINS, range=(0, top))
        edges[-1] = max(edges[-1], values.max())  # the last bar holds the far ones
        marks = [float(f"{edge:.3g}") for edge in edges]
        found.append(
            report.Distribution(
                statistic.title,
                statistic.tells,
                statistic.unit,
                report.histogram(counts.tolist(), marks, "images", statistic.title.lower()),
                median,
                (low, high),
                statistic.extreme_title,
                extremes,
            )
        )
    return found
