"""HTML pages that need nothing beside them: no script, no font, no picture from elsewhere. Light or dark, any screen.

The templates in `gwainet/templates/` hold the words and the looks; `base.html` refuses, by its content security policy,
whatever a page might want to load. The same content gives the same bytes.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from gwainet.images import Uint8

LONGEST = 160  # pixels of a picture's longer side on a page: larger ones are scaled down
MOST_BARS = 32
_CHART = (560, 150)  # width and height of the bars, in the drawing's own units


@dataclass(frozen=True)
class Face:
    """A tile of pictures that belong together.

    Attributes:
        title: whom it shows.
        detail: where it comes from.
        pictures: what each is, and its pixels.
    """

    title: str
    detail: str
    pictures: tuple[tuple[str, Uint8], ...]


@dataclass(frozen=True)
class Bar:
    """A bar of a chart, in the drawing's units; `says` is its text, `low` marks one that lies wholly below 0."""

    x: float
    y: float
    width: float
    height: float
    says: str
    low: bool = False


@dataclass(frozen=True)
class Chart:
    """A bar chart: `ticks` are positions and labels along the axis, `highest` is the value at the top."""

    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    highest: int
    width: int = _CHART[0]
    height: int = _CHART[1]


@dataclass(frozen=True)
class Distribution:
    """A statistic of all images, for people.

    Attributes:
        title: of the statistic.
        tells: what it is.
        unit: of its values.
        chart: how many images have which value.
        median: of the values.
        middle: between which two values 90 % of the images lie.
        extreme_title: which end `extremes` shows.
        extremes: images at that end.
    """

    title: str
    tells: str
    unit: str
    chart: Chart
    median: float
    middle: tuple[float, float]
    extreme_title: str
    extremes: Sequence[Face]


def faces_page(
    validation: Mapping[str, Any],
    accepted: Sequence[Face] = (),
    offenders: Mapping[str, Sequence[Face]] | None = None,
    distributions: Sequence[Distribution] = (),
) -> str:
    """The page of `check_faces`.

    Args:
        validation: what `validation.json` holds.
        accepted: faces that keep the contract, as examples.
        offenders: a rule's name -> faces that break it.
        distributions: of what the photos are like.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for expectation in validation["expectations"]:
        groups.setdefault(expectation["group"], []).append(expectation)
    statistics = validation["statistics"]
    charts = {}
    if statistics:
        people = {int(size): count for size, count in statistics["images_per_identity"].items()}
        charts["people"] = counts_chart(people, "people", "images")
    return render(
        "faces.html",
        title=f"Prepared faces of {validation['profile']}",
        validation=validation,
        groups=groups,
        total=len(validation["expectations"]),
        charts=charts,
        accepted=accepted,
        offenders=offenders or {},
        distributions=distributions,
    )


def stage_page(title: str, run: str, facts: Mapping[str, object], picture: Uint8 | None = None) -> str:
    """What a stage came to, as Kubeflow's page shows it.

    Args:
        title: of the stage and the profile.
        run: where to look at its MLflow run, an address or a sentence.
        facts: name -> number or text.
        picture: shown as large as the page.
    """
    shown = {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in facts.items()}
    return render("stage.html", title=title, run=run, facts=shown, picture=picture)


def render(template: str, **content: object) -> str:
    """Fill in a template of `gwainet/templates/`; everything is escaped."""
    environment = Environment(
        loader=PackageLoader("gwainet"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"count": lambda value: f"{value:,}", "data_uri": data_uri}
    return environment.get_template(template).render(**content)


def data_uri(picture: Uint8, longest: int = LONGEST, quality: int | None = None) -> str:
    """A picture as text for an `src` attribute, scaled down to `longest` pixels where it is larger.

    Args:
        picture: (H, W, 3).
        longest: pixels of the longer side.
        quality: of WebP, 0 to 100, which takes a tenth of the space; None for PNG, which loses nothing.
    """
    image = Image.fromarray(picture)
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    if quality is None:
        image.save(buffer, kind := "PNG", optimize=True)
    else:
        image.save(buffer, kind := "WEBP", quality=quality)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def histogram(counts: Sequence[int], edges: Sequence[float], what: str, of: str) -> Chart:
    """A chart of counts between edges.

    Args:
        counts: of each bin.
        edges: of the bins, one more than counts.
        what: is counted, such as "images".
        of: what the edges measure, such as "mean brightness".
    """
    says = [
        f"{count:,} {what} with {of} {low:g} to {high:g}"
        for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
    ]
    step = max(1, len(counts) // 4)
    first = list(edges).index(0) % step if 0 in edges else 0  # 0 is labelled where it is an edge
    ticks = tuple((_CHART[0] * i / len(counts), f"{edges[i]:g}") for i in range(first, len(edges), step))
    bars = tuple(replace(bar, low=high <= 0) for bar, high in zip(_bars(counts, says), edges[1:], strict=True))
    return Chart(bars, ticks, max(counts, default=0))


def counts_chart(counts: Mapping[int, int], what: str, of: str) -> Chart:
    """A chart of how often each whole number occurs; neighbours share a bar where there would be too many.

    Args:
        counts: number -> how often.
        what: is counted, such as "people".
        of: what the numbers are, such as "images".
    """
    first, last = min(counts), max(counts)
    step = -(-(last - first + 1) // MOST_BARS)
    lows = list(range(first, last + 1, step))
    values = [sum(counts.get(number, 0) for number in range(low, low + step)) for low in lows]
    names = [f"{low}" if step == 1 else f"{low} to {low + step - 1}" for low in lows]
    says = [f"{value:,} {what} with {name} {of}" for value, name in zip(values, names, strict=True)]
    slot = _CHART[0] / len(lows)
    shown = max(1, -(-len(lows) // (8 if step == 1 else 4)))  # a range takes more room than a number
    ticks = tuple((slot * (i + 0.5), names[i].replace(" to ", "\u2013")) for i in range(0, len(lows), shown))
    return Chart(_bars(values, says), ticks, max(values))


def _bars(counts: Sequence[int], says: Sequence[str]) -> tuple[Bar, ...]:
    width, height = _CHART
    slot, highest = width / max(1, len(counts)), max(1, max(counts, default=1))
    thickness = min(slot - 2, 56)
    return tuple(
        Bar(
            round(slot * i + (slot - thickness) / 2, 2),
            round(height * (1 - count / highest), 2),
            round(thickness, 2),
            round(height * count / highest, 2),
            text,
        )
        for i, (count, text) in enumerate(zip(counts, says, strict=True))
    )
