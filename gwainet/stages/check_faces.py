"""Stage `check_faces`: the data contract on prepared faces; every later stage waits for its `passed.json`.

`gwainet.measured` reads the arrays, in one pass, `gwainet.contract_tables` makes tables of them, `gwainet.quality`
holds those against the contract, `gwainet.exhibits` chooses pictures and `gwainet.report` makes the page.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field, ValidationError

from gwainet import distributions, duplicates, exhibits, labels, quality, report
from gwainet.contract_tables import SPLITS, runs, structure, tables_of
from gwainet.errors import ContractError
from gwainet.files import staged_directory, write_json
from gwainet.measured import Pixels, Prepared, measure, open_prepared
from gwainet.params import Params
from gwainet.progress import say
from gwainet.recorder import Recorder

DISTRIBUTIONS = "distributions.json"


class _Record(BaseModel):
    """An earlier data set's distributions (`distributions.record`)."""

    format: Literal[1]
    digest: str
    images: int
    quantiles: dict[str, Annotated[list[float], Field(min_length=1)]]


def run(params: Params, *, faces: Path, out: Path, recorder: Recorder) -> None:
    """Hold the data contract; write `passed.json` only if it does.

    Args:
        params: `check_faces` gives the contract's numbers.
        faces: what `prepare_faces` wrote.
        out: gets `validation.json`, `distributions.json`, `report.html` and, if the contract holds, `passed.json`
            (docs/formats.md).
        recorder: gets the results, also those of a contract that does not hold; knows the last accepted data set.

    Raises:
        DataError: `faces` cannot be read at all.
        ExtraError: `check_faces.identity` is `on` and dlib is not installed.
        ContractError: lists the rules that do not hold, each with the count and example rows; `out` is written.
    """
    prepared = open_prepared(faces)
    settings = params.check_faces
    describes = labels.wanted(settings)
    earlier = _earlier(recorder)
    by_image = prepared.info.source == "pairs" and params.prepare_faces.split_pairs_by == "image"
    rules = quality.contract(
        settings,
        params.prepare_faces.near_duplicate_of(prepared.info.source),
        split_by_image=by_image,
        guides_given=prepared.info.source == "pairs",
        labels=describes,
        landmarks=prepared.landmarks is not None,
        earlier=earlier is not None,
    )
    say(f"Checking {len(rules)} expectations")
    tables = structure(prepared)
    outcomes = quality.validate(tables, rules)
    pixels = record = None
    if all(outcome.state == "held" for outcome in outcomes if outcome.rule.structural):
        pixels = measure(prepared)
        tables = tables_of(prepared, pixels, params, across=not by_image)
        if describes:
            tables["images"] = labels.described(tables["images"], prepared.hr, settings, params.runtime.workers)
        columns = dict(zip(distributions.STATISTICS, pixels.statistics.T, strict=True))
        record = distributions.record(columns, prepared.info.digest)
        if earlier is not None:
            tables["drift"] = pd.DataFrame(distributions.shifts(earlier, record))
        later = {outcome.rule.name: outcome for outcome in quality.validate(tables, rules)}
        outcomes = [later[first.rule.name] if first.state == "not checked" else first for first in outcomes]

    validation = _summary(params, prepared, outcomes, tables, pixels)
    validation["labels"] = labels.what_was_done(settings, tables.get("images") if describes else None)
    validation["drift"] = _told_drift(earlier, record, tables.get("drift"), settings.drift)
    page = report.faces_page(
        validation,
        exhibits.accepted(prepared, outcomes, tables["images"]) if pixels else (),
        exhibits.offenders(prepared, outcomes, tables["images"]) if pixels else {},
        exhibits.distributions(prepared, tables["images"], pixels.statistics) if pixels else (),
    )
    with staged_directory(out) as directory:
        write_json(directory / "validation.json", validation)
        (directory / "report.html").write_text(page, encoding="utf-8")
        if record is not None:
            write_json(directory / DISTRIBUTIONS, record)
        if validation["passed"]:
            # of the data alone: neither what was warned of nor what an earlier data set was like
            binding = sum(not rule.warns for rule in rules)
            passed = {"format": 1, "digest": prepared.info.digest, "expectations": binding}
            write_json(directory / "passed.json", passed)
    _record(params, validation, out, recorder)
    _warn(outcomes, out)
    if not validation["passed"]:
        raise ContractError(_complaint(faces, out, outcomes))
    held = validation["counts"]["held"]
    say(f"The data contract holds: {held} of {len(rules)} expectations. See {out / 'report.html'}")


def _earlier(recorder: Recorder) -> dict[str, Any] | None:
    """The distributions of the last data set that was accepted, if it was another one and can be read."""
    text = recorder.earlier(DISTRIBUTIONS)
    if text is None:
        return None
    try:
        found = _Record.model_validate_json(text)
    except ValidationError:
        found = None
    if found is None or not found.quantiles.keys() & distributions.STATISTICS.keys():
        say(f"the {DISTRIBUTIONS} of the last accepted data set is of another format: nothing is compared with it")
        return None
    return found.model_dump()


def _told_drift(
    earlier: dict[str, Any] | None, record: dict[str, Any] | None, drift: pd.DataFrame | None, limit: float
) -> dict[str, Any] | None:
    """What `validation.json` says of the comparison; None where there was nothing to compare with."""
    if earlier is None or record is None or drift is None:
        return None
    return {
        "digest": earlier["digest"],
        "images_before": earlier["images"],
        "images_now": record["images"],
        "limit": limit,
        "statistics": drift.to_dict("records"),
    }


def _summary(
    params: Params,
    prepared: Prepared,
    outcomes: Sequence[quality.Outcome],
    tables: dict[str, pd.DataFrame],
    pixels: Pixels | None,
) -> dict[str, Any]:
    """What `validation.json` says and the page shows."""
    info = prepared.info
    states = [outcome.state for outcome in outcomes]
    summary: dict[str, Any] = {
        "format": 1,
        "profile": params.profile,
        "passed": all(state in ("held", "warned") for state in states),
        "counts": {state: states.count(state) for state in ("held", "failed", "warned", "not checked")},
        "expectations": [outcome.as_json() for outcome in outcomes],
        "source": info.source,
        "height": info.height,
        "width": info.width,
        "images": {split: info.images.get(split, 0) for split in SPLITS},
        "identities": {split: info.identities.get(split, 0) for split in SPLITS},
        "found": info.found,
        "rejected": info.rejected,
        "dropped": info.dropped,
        "digest": info.digest,
        "source_digest": info.source_digest,
        "statistics": None,
    }
    if pixels:
        means = tables["means"].drop(columns="difference")
        brightness = tables["images"]["mean"].to_numpy()
        sizes = tables["people"]["images"].to_numpy()
        summary["statistics"] = {
            "means": means.astype(object).where(means.notna(), None).to_dict("records"),
            "mean_brightness": float(brightness.mean()),
            "images_per_identity": {str(size): int((sizes == size).sum()) for size in np.unique(sizes)},
            "near_duplicates": _told_near_duplicates(params, info.source, tables["images"], pixels),
        }
    return summary


def _told_near_duplicates(params: Params, source: str, images: pd.DataFrame, pixels: Pixels) -> dict[str, Any]:
    """How many near-duplicates there are, rule or no rule: training draws guides among all of a person's photos."""
    least = params.prepare_faces.near_duplicate_of(source)
    within = duplicates.alike_within(pixels.faces, runs(images), least)
    across = images.get("alike_in_other_split")  # not looked at where one person may be in two splits
    return {
        "correlation": least,
        "pairs_of_a_person": len(within.first),
        "guides": int((images["guide_correlation"] >= least).sum()),
        "across_splits": None if across is None else int(across.sum()) // 2,
    }


def _warn(outcomes: Sequence[quality.Outcome], out: Path) -> None:
    """Say what stops nothing and should be looked at."""
    for outcome in outcomes:
        if outcome.state == "warned":
            count = f"{len(outcome.offenders):,} of {outcome.checked:,}"
            say(f"warning: {outcome.rule.name}: {outcome.rule.says} Not so for {count}: see {out / 'report.html'}")


def _record(params: Params, validation: dict[str, Any], out: Path, recorder: Recorder) -> None:
    counts, statistics = validation["counts"], validation["statistics"]
    metrics = {"expectations": float(len(validation["expectations"])), "failed": float(counts["failed"])}
    metrics |= {"warned": float(counts["warned"]), "not_checked": float(counts["not checked"])}
    metrics |= {f"images_{split}": float(count) for split, count in validation["images"].items()}
    if statistics:
        metrics["mean_brightness"] = statistics["mean_brightness"]
        found = {name: count for name, count in statistics["near_duplicates"].items() if name != "correlation"}
        metrics |= {f"near_duplicates.{name}": float(count) for name, count in found.items() if count is not None}
    if validation["drift"]:
        for shift in validation["drift"]["statistics"]:
            metrics |= {f"drift.{shift['statistic']}.{name}": shift[name] for name in ("distance", "moved")}
    recorder.metrics(metrics)
    recorder.artifact(out / "report.html")
    recorder.artifact(out / "validation.json")
    if statistics:
        recorder.artifact(out / DISTRIBUTIONS)
    facts = {name: validation[name] for name in ("source", "height", "width", "images", "identities", "found")}
    recorder.dataset(params.profile, validation["digest"], facts, "checked")


def _complaint(faces: Path, out: Path, outcomes: Sequence[quality.Outcome]) -> str:
    """The failed rules in plain words, with counts and example rows."""
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    skipped = sum(outcome.state == "not checked" for outcome in outcomes)
    lines = [f"the data contract of {faces} does not hold: {len(failed)} of {len(outcomes)} expectations failed"]
    for outcome in failed:
        rule = outcome.rule
        lines.append(f"  {rule.name}: {rule.says} Broken by {len(outcome.offenders):,} of {outcome.checked:,}:")
        for example in outcome.examples:
            cells = (f"{name} {'missing' if value is None else value}" for name, value in example.items())
            lines.append("    " + ", ".join(cells))
        if len(outcome.offenders) > len(outcome.examples):
            lines.append(f"    and {len(outcome.offenders) - len(outcome.examples):,} more")
    if skipped:
        lines.append(f"  ({skipped} expectations could not be checked: the files do not fit together)")
    lines.append(
        f"See {out / 'report.html'}; mend the photos or the params, then run prepare_faces and check_faces again."
    )
    return "\n".join(lines)
