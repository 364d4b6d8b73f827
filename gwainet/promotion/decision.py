"""Whether a challenger takes the champion's place (docs/promotion.md): a verdict from per-image figures, nothing else.

Both are compared on the same test faces, image by image, with 95 % intervals over people (docs/paper.md, M6). Knows no
registry: `gwainet.promotion` brings the figures and carries the verdict out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from gwainet.dataset import Split
from gwainet.evaluation.report import DIGITS, Estimate, Part, rounded
from gwainet.evaluation.slices import SLICES
from gwainet.evaluation.systems import SUFFIXES
from gwainet.identity import IDENTITY_METRIC
from gwainet.metrics import bootstrap_interval, paired_difference
from gwainet.params import Promotion

SPLIT: Split = "test"
FACE = ("identity", "source_file", "guide_row")  # what makes two rows of two tables the same face
GUIDE_GAIN, BICUBIC_GAIN = "guide_gain", "gain_over_bicubic"


@dataclass(frozen=True)
class Contender:
    """One of the two models.

    Attributes:
        title: as the verdict names it, such as `models:/gwainet/2`.
        guided: whether it takes a guide.
        faces: `per_image` of its figures.
        seconds: median time of one image, measured in turn with the other's.
    """

    title: str
    guided: bool
    faces: pd.DataFrame
    seconds: float


class Check(Part):
    """One requirement."""

    name: str
    challenger: float | None = Field(None, description="mean over the images; people or milliseconds where named so")
    champion: float | None = None
    difference: Estimate | None = Field(None, description="challenger - champion, image by image; or the gain itself")
    required: str
    passed: bool | None = Field(description="null: not measured, and not required")
    reason: str = Field("", description="why not")


class Verdict(Part):
    """`verdict.json`: what was compared, and every requirement."""

    format: Literal[1] = 1
    challenger: str
    champion: str | None = Field(description="null: there was none, so that only the absolute requirements count")
    passed: bool
    checks: list[Check]
    images: int
    identities: int
    bootstrap_samples: int
    seed: int
    data_digest: str = ""
    metric_code_digest: str = ""
    measured: str = Field("", description="where the figures come from")
    params: dict[str, object] = Field(default_factory=dict, description="the thresholds: section `promotion`")

    @property
    def reasons(self) -> list[str]:
        """Why the challenger is refused; empty where it is not."""
        return [f"{check.name}: {check.reason}" for check in self.checks if check.passed is False]


def per_image(table: pd.DataFrame, system: str) -> pd.DataFrame:
    """One row a test face: what a system made of it, of the rows of `benchmark.csv`.

    Returns:
        `FACE` and every column of figures, indexed by the manifest's `row`; with `guide_gain` (dB of PSNR over the
        answer with another person's guide) where the system takes a guide, and `gain_over_bicubic`. Empty where the
        table has none of the system's test faces.
    """
    test = table[table["split"] == SPLIT].set_index("row").sort_index()
    parts = {name: part for name, part in test.groupby("system")}  # noqa: C416  pandas' own keys are no str
    own = parts.get(system, test.iloc[:0]).drop(columns=["split", "system"])
    for gain, rival in ((GUIDE_GAIN, f"{system}{SUFFIXES['other']}"), (BICUBIC_GAIN, "bicubic")):
        if rival in parts:
            own = own.assign(**{gain: own["psnr"] - parts[rival]["psnr"].reindex(own.index)})
    return own


def same_faces(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    """Whether two tables of `per_image` are of the same faces of the same people with the same guides."""
    # a model without a guide has -1 for it
    guided = (a["guide_row"] >= 0).all() and (b["guide_row"] >= 0).all()
    columns = [name for name in FACE if guided or name != "guide_row"]
    return len(a) > 0 and a[columns].equals(b[columns])


def decide(challenger: Contender, champion: Contender | None, settings: Promotion) -> Verdict:
    """Hold a challenger against the champion, or, where there is none, against bicubic and its own guide alone."""
    faces = challenger.faces
    comparable = champion is None or same_faces(faces, champion.faces)
    checks = [_people(faces, settings)]
    if not comparable:
        why = f"{challenger.title} was measured on other faces than the champion: nothing can be compared"
        checks.append(Check(name="same faces", required="the same test faces of both", passed=False, reason=why))
    elif len(faces):
        checks += _absolute(challenger, settings)
        if champion is not None:
            checks += _relative(challenger, champion, settings)
    return Verdict(
        challenger=challenger.title,
        champion=None if champion is None else champion.title,
        passed=all(check.passed is not False for check in checks),
        checks=checks,
        images=len(faces),
        identities=int(faces["identity"].nunique()),
        bootstrap_samples=settings.bootstrap_samples,
        seed=settings.seed,
        params=settings.model_dump(mode="json"),
    )


def _people(faces: pd.DataFrame, settings: Promotion) -> Check:
    people, least = int(faces["identity"].nunique()), settings.least_people
    return Check(
        name="test people",
        challenger=people,
        required=f"at least {least}",
        passed=people >= least,
        reason="" if people >= least else f"{people} test people are too few to decide on: {least} are asked for",
    )


def _absolute(challenger: Contender, settings: Promotion) -> Iterator[Check]:
    """What every challenger must show, whoever is champion."""
    yield _gain(challenger, BICUBIC_GAIN, settings.least_gain_over_bicubic, settings)
    if settings.least_guide_gain is not None:
        yield _gain(challenger, GUIDE_GAIN, settings.least_guide_gain, settings)


def _gain(challenger: Contender, column: str, least: float, settings: Promotion) -> Check:
    name = {GUIDE_GAIN: "use of its guide", BICUBIC_GAIN: "PSNR over bicubic"}[column]
    required = f"above {least:g} dB"
    missing = "it takes no guide" if column == GUIDE_GAIN and not challenger.guided else ""
    missing = missing or _missing(challenger, column)
    if missing:
        return Check(name=name, required=required, passed=False, reason=missing)
    faces = challenger.faces
    found = rounded(bootstrap_interval(faces[column], faces["identity"], settings.bootstrap_samples, settings.seed))
    passed = found.low > least
    reason = "" if passed else f"{_shown(found)} dB is not surely above {least:g} dB"
    return Check(name=name, difference=found, required=required, passed=passed, reason=reason)


def _relative(challenger: Contender, champion: Contender, settings: Promotion) -> Iterator[Check]:
    """What a challenger must show against the champion."""
    loss = settings.largest_loss.model_dump()
    primary = settings.primary
    yield _difference(challenger, champion, primary, settings, least=settings.least_gain)
    for metric in ("psnr", "ssim", "lr_psnr", IDENTITY_METRIC):
        if metric != primary:
            yield _difference(challenger, champion, metric, settings, least=-loss[metric])
    if challenger.guided and champion.guided:
        yield _difference(challenger, champion, GUIDE_GAIN, settings, least=-loss[GUIDE_GAIN])
    yield _worst_slice(challenger, champion, loss["worst_slice"], settings)
    yield _latency(challenger, champion, settings.largest_latency_ratio)


def _difference(challenger: Contender, champion: Contender, metric: str, settings: Promotion, *, least: float) -> Check:
    """The lower end of the paired difference must lie above `least`."""
    gains = metric == settings.primary
    required = f"difference above {least:g}"
    missing = _missing(challenger, metric) or _missing(champion, metric)
    if missing:
        optional = metric == IDENTITY_METRIC and not gains
        both = "" if optional else missing
        return Check(name=metric, required=required, passed=None if optional else False, reason=both)
    a, b = challenger.faces[metric], champion.faces[metric]
    found = rounded(paired_difference(a, b, challenger.faces["identity"], settings.bootstrap_samples, settings.seed))
    passed = found.low > least
    if passed:
        reason = ""
    elif found.high < 0:
        reason = f"it is worse: {_shown(found)}"
    elif gains:
        reason = f"no gain above {least:g} is shown: {_shown(found)}"
    else:
        reason = f"a loss of {-least:g} or more cannot be ruled out: {_shown(found)}"
    return Check(
        name=metric,
        challenger=_mean(a),
        champion=_mean(b),
        difference=found,
        required=required,
        passed=passed,
        reason=reason,
    )


def _worst_slice(challenger: Contender, champion: Contender, largest: float, settings: Promotion) -> Check:
    """PSNR in the slice of faces whose difference has the lowest lower end."""
    required = f"difference of PSNR above {-largest:g}"
    worst: tuple[str, pd.Index, Estimate] | None = None
    for name, rows in _slices(challenger.faces):
        identity = challenger.faces.loc[rows, "identity"]
        a, b = (contender.faces.loc[rows, "psnr"] for contender in (challenger, champion))
        if identity.nunique() < settings.least_slice_people or not np.isfinite(a - b).all():
            continue
        found = rounded(paired_difference(a, b, identity, settings.bootstrap_samples, settings.seed))
        if worst is None or found.low < worst[2].low:
            worst = name, rows, found
    if worst is None:
        return Check(name="worst slice", required=required, passed=None)
    name, rows, found = worst
    passed = found.low > -largest
    reason = "" if passed else f"a loss of {largest:g} dB or more cannot be ruled out there: {_shown(found)}"
    return Check(
        name=f"worst slice ({name})",
        challenger=_mean(challenger.faces.loc[rows, "psnr"]),
        champion=_mean(champion.faces.loc[rows, "psnr"]),
        difference=found,
        required=required,
        passed=passed,
        reason=reason,
    )


def _slices(faces: pd.DataFrame) -> Iterator[tuple[str, pd.Index]]:
    """Every slice's name and rows, as the benchmark's report has them (docs/paper.md, M7)."""
    for name, kind in SLICES.items():
        if name in faces:
            groups = kind.group(faces[name].to_numpy())
            for group in kind.groups:
                yield f"{name}: {group}", faces.index[groups == group]


def _latency(challenger: Contender, champion: Contender, largest: float) -> Check:
    ratio = challenger.seconds / champion.seconds
    passed = ratio <= largest
    return Check(
        name="ms per image",
        challenger=round(challenger.seconds * 1000, 3),
        champion=round(champion.seconds * 1000, 3),
        required=f"at most {largest:g} times",
        passed=passed,
        reason="" if passed else f"it takes {ratio:.2f} times as long, {largest:g} times is allowed",
    )


def _missing(contender: Contender, column: str) -> str:
    if column not in contender.faces:
        return f"not measured of {contender.title}"
    wrong = int((~np.isfinite(contender.faces[column].to_numpy(np.float64))).sum())
    return f"{contender.title} has no finite value on {wrong} of {len(contender.faces)} images" if wrong else ""


def _mean(values: pd.Series) -> float:
    return round(float(values.mean()), DIGITS)


def _shown(found: Estimate) -> str:
    return f"{found.mean:+.4g} [{found.low:+.4g}, {found.high:+.4g}]"
