"""Stage `check_faces`: the data contract on prepared faces; every later stage waits for its `passed.json`.

The numbers are computed here, in one pass over the arrays; `gwainet.quality` holds them against the contract and
`gwainet.report` makes the page.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gwainet import quality, report
from gwainet.errors import ContractError, DataError
from gwainet.files import staged_directory, write_json
from gwainet.images import Uint8, downscale
from gwainet.params import SCALE, CheckFaces, Params
from gwainet.progress import progress, say
from gwainet.recorder import Recorder

SPLITS = ("train", "validation", "test")
CHANNELS = ("red", "green", "blue")
KINDS = {
    "row": "whole number",
    "identity": "text",
    "identity_index": "whole number",
    "split": "text",
    "source_file": "text",
    "source_sha256": "text",
    "source_height": "whole number",
    "source_width": "whole number",
    "is_target": "true or false",
    "guide_row": "whole number",
    "other_guide_row": "whole number",
}
CHUNK_BYTES = 32 * 2**20  # of an array in memory at a time, however large the array is
SAMPLED_ROWS = 256  # whose low-resolution image is made again
SHOWN_FACES = 12  # on the page's contact sheet
SHOWN_OFFENDERS = 12  # pictures under a failed rule

Numbers = npt.NDArray[np.int64]


class _InfoMeans(BaseModel):
    lr: tuple[float, float, float]
    hr: tuple[float, float, float]


class _Info(BaseModel):
    """What the contract reads of faces.json."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1]
    source: str
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    means: _InfoMeans
    images: dict[str, int]
    identities: dict[str, int]
    found: int
    rejected: dict[str, int]
    dropped: dict[str, int]
    digest: str
    source_digest: str


@dataclass(frozen=True)
class _Prepared:
    """Prepared faces as they lie there: nothing is taken for granted yet."""

    info: _Info
    manifest: pd.DataFrame
    hr: Uint8
    lr: Uint8


@dataclass(frozen=True)
class _Pixels:
    """What one pass over the arrays gives.

    Attributes:
        brightest: (N,) largest value of a crop, 0 to 255.
        hr: (N, 3) sum of a crop's values per channel.
        lr: (N, 3) the same of the low-resolution image.
    """

    brightest: Numbers
    hr: Numbers
    lr: Numbers


def run(params: Params, *, faces: Path, out: Path, recorder: Recorder) -> None:
    """Hold the data contract; write `passed.json` only if it does.

    Args:
        params: `check_faces` gives the contract's numbers.
        faces: what `prepare_faces` wrote.
        out: gets `validation.json`, `report.html` and, if the contract holds, `passed.json` (docs/formats.md).
        recorder: gets the results, also those of a contract that does not hold.

    Raises:
        DataError: `faces` cannot be read at all.
        ContractError: lists the rules that do not hold, each with the count and example rows; `out` is written.
    """
    prepared = _open(faces)
    settings = params.check_faces
    by_image = prepared.info.source == "pairs" and params.prepare_faces.split_pairs_by == "image"
    rules = quality.contract(settings, split_by_image=by_image)
    say(f"Checking {len(rules)} expectations")
    tables = _structure(prepared)
    outcomes = quality.validate(tables, rules)
    pixels = None
    if all(outcome.state == "held" for outcome in outcomes if outcome.rule.structural):
        pixels = _measure(prepared)
        measured = _tables(prepared, pixels, settings)
        later = {outcome.rule.name: outcome for outcome in quality.validate(measured, rules)}
        outcomes = [later[first.rule.name] if first.state == "not checked" else first for first in outcomes]
        tables |= measured

    validation = _summary(params, prepared, outcomes, tables, pixels)
    page = report.faces_page(
        validation,
        _accepted(prepared, outcomes, tables["images"]) if pixels else (),
        _offenders(prepared, outcomes, tables["images"]) if pixels else {},
    )
    with staged_directory(out) as directory:
        write_json(directory / "validation.json", validation)
        (directory / "report.html").write_text(page, encoding="utf-8")
        if validation["passed"]:
            passed = {"format": 1, "digest": prepared.info.digest, "expectations": len(rules)}
            write_json(directory / "passed.json", passed)
    _record(params, validation, out, recorder)
    if not validation["passed"]:
        raise ContractError(_complaint(faces, out, outcomes))
    say(f"The data contract holds: {len(rules)} of {len(rules)} expectations. See {out / 'report.html'}")


def _open(faces: Path) -> _Prepared:
    again = "run prepare_faces again"
    try:
        info = _Info.model_validate(json.loads((faces / "faces.json").read_text(encoding="utf-8")))
        manifest = pd.read_parquet(faces / "manifest.parquet")
        hr, lr = (np.load(faces / name, mmap_mode="r") for name in ("hr.npy", "lr.npy"))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise DataError(f"{faces / 'faces.json'} is not what docs/formats.md promises ({problems}): {again}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{faces} holds no complete prepared faces ({error}): {again}") from error
    if manifest.empty:
        raise DataError(f"{faces} has no images at all: see rejected.csv there for the reasons, then {again}")
    return _Prepared(info, manifest.reset_index(drop=True), hr, lr)


def _structure(prepared: _Prepared) -> dict[str, pd.DataFrame]:
    """The tables that can be made of anything: the others need these to be right."""
    info, manifest = prepared.info, prepared.manifest
    columns = [
        {"column": name, "kind": _kind(manifest[name]) if name in manifest else "absent", "expected_kind": kind}
        for name, kind in KINDS.items()
    ]
    arrays = [
        {
            "file": file,
            "images": len(array) if array.ndim else 0,
            "rows": len(manifest),
            "size": " x ".join(map(str, array.shape[1:])) + f" {array.dtype}",
            "expected_size": f"{info.height // scale} x {info.width // scale} x 3 uint8",
            "divisible": info.height % SCALE == info.width % SCALE == 0 if scale == 1 else None,
        }
        for file, array, scale in (("hr.npy", prepared.hr, 1), ("lr.npy", prepared.lr, SCALE))
    ]
    return {"columns": pd.DataFrame(columns), "arrays": pd.DataFrame(arrays)}


def _kind(column: "pd.Series[Any]") -> str:
    """What a column holds, missing values aside: with one, pandas reads whole numbers as floats."""
    present = column.dropna()
    kind = pd.api.types.infer_dtype(present, skipna=True)
    if kind == "floating" and (present == present.round()).all():
        kind = "integer"
    names = {"integer": "whole number", "string": "text", "boolean": "true or false", "empty": "nothing"}
    return names.get(kind, kind)


def _measure(prepared: _Prepared) -> _Pixels:
    """Read the arrays once, in chunks, so that memory does not grow with their length."""
    count = len(prepared.hr)
    pixels = _Pixels(np.empty(count, np.int64), np.empty((count, 3), np.int64), np.empty((count, 3), np.int64))
    step = max(1, CHUNK_BYTES // prepared.hr[0].nbytes)
    with progress("Reading the prepared faces", count, "images") as bar:
        for start in range(0, count, step):
            part = slice(start, start + step)
            crops = np.ascontiguousarray(prepared.hr[part])
            pixels.brightest[part] = crops.reshape(len(crops), -1).max(axis=1)
            pixels.hr[part] = _channel_sums(crops)
            pixels.lr[part] = _channel_sums(np.ascontiguousarray(prepared.lr[part]))
            bar.advance(len(crops))
    return pixels


def _channel_sums(images: Uint8) -> Numbers:
    """Exact sums, so that the result depends on no order. Shapes: (N, H, W, 3) -> (N, 3)."""
    count, height, width, channels = images.shape
    # over the rows first: 12 times faster than over both axes at once, whose inner loop would be 3 values long
    columns = images.reshape(count, height, width * channels).sum(axis=1, dtype=np.uint32)
    sums: Numbers = columns.reshape(count, width, channels).sum(axis=1, dtype=np.int64)
    return sums


def _tables(prepared: _Prepared, pixels: _Pixels, settings: CheckFaces) -> dict[str, pd.DataFrame]:
    info, manifest = prepared.info, prepared.manifest
    images = _images(prepared, pixels)
    people = (
        manifest.assign(is_target=manifest["is_target"].astype("boolean").fillna(False).astype(bool))
        .groupby(["split", "identity"], sort=False)
        .agg(
            images=("identity", "size"),
            targets=("is_target", "sum"),
            source_file=("source_file", "first"),
        )
        .reset_index()
    )
    found_in = people.groupby("identity")["split"].agg(", ".join)
    people["found_in"] = people["identity"].map(found_in)
    people["splits"] = people.groupby("identity")["split"].transform("size")
    # too few images are another rule's business
    people["targets"] = people["targets"].where(people["images"] >= quality.FEWEST_IMAGES)
    fewest = {"train": 2, "validation": settings.min_validation_identities, "test": settings.min_test_identities}
    in_split = manifest.groupby("split")["identity"]
    splits = pd.DataFrame({"split": SPLITS}).assign(
        images=lambda t: t["split"].map(in_split.size()).fillna(0),
        recorded_images=lambda t: t["split"].map(info.images).fillna(0),
        identities=lambda t: t["split"].map(in_split.nunique()).fillna(0),
        recorded_identities=lambda t: t["split"].map(info.identities).fillna(0),
        fewest_identities=lambda t: t["split"].map(fewest),
        published_images=lambda t: t["split"].map(dict(settings.images or {})).astype(float),
    )
    rejected = sum(info.rejected.values())
    totals = pd.DataFrame(
        [{"found": info.found, "rejected": rejected, "rejected_share": rejected / max(1, info.found)}]
    )
    return {
        "images": images,
        "people": people,
        "splits": splits,
        "means": _means(prepared, pixels),
        "totals": totals,
    }


def _images(prepared: _Prepared, pixels: _Pixels) -> pd.DataFrame:
    """One row an image: the manifest, what its guides are, and what its pixels say."""
    info, manifest = prepared.info, prepared.manifest
    missing = manifest[list(KINDS)].isna()
    names = np.full(len(manifest), "nothing", dtype=object)
    for position in np.flatnonzero(missing.any(axis=1)):
        names[position] = ", ".join(missing.columns[missing.iloc[position]])
    group = manifest["split"].astype(object).fillna("") + "\0" + manifest["identity"].astype(object).fillna("")
    begins = group != group.shift()
    order = manifest["split"].map({split: place for place, split in enumerate(SPLITS)})
    numbers = pd.Series(pd.factorize(manifest["identity"])[0], manifest.index)
    table = manifest.assign(
        position=np.arange(len(manifest)),
        missing=names,
        in_place=~(begins & group.duplicated()) & ~(order < order.cummax()),
        expected_identity_index=numbers.where(numbers >= 0),
        photo_splits=manifest.groupby("source_sha256")["split"].transform("nunique"),
        brightest=pixels.brightest,
        mean=pixels.hr.sum(axis=1) / (info.height * info.width * len(CHANNELS)),
        lr_difference=_lr_differences(prepared),
        crop_height=info.height,
        crop_width=info.width,
    )
    for column, facts in (
        ("guide", ("identity", "split", "sha256", "source_file")),
        ("other_guide", ("identity", "split")),
    ):
        row = pd.to_numeric(manifest[f"{column}_row"])
        known = row.where(row.between(0, len(manifest) - 1))
        is_target = manifest["is_target"].astype("boolean")  # may have missing values
        right = np.where(is_target.fillna(False), known.notna(), row == -1).astype(object)
        table[f"{column}_exists"] = pd.Series(right, manifest.index).where(row.notna() & is_target.notna(), None)
        table[f"known_{column}_row"] = known
        for fact in facts:
            source = "source_sha256" if fact == "sha256" else fact
            table[f"{column}_{fact}"] = known.map(manifest[source])
    # a target that is its own guide is another rule's business
    table["guide_sha256"] = table["guide_sha256"].where(table["known_guide_row"] != table["position"])
    return table


def _means(prepared: _Prepared, pixels: _Pixels) -> pd.DataFrame:
    """Recorded and recomputed means of the training split, in [0, 1]."""
    train = (prepared.manifest["split"] == "train").to_numpy(bool)
    rows = []
    means = prepared.info.means
    arrays = (("hr.npy", means.hr, pixels.hr, prepared.hr), ("lr.npy", means.lr, pixels.lr, prepared.lr))
    for file, recorded_means, sums, images in arrays:
        values = int(train.sum()) * images.shape[1] * images.shape[2] * 255
        for channel, total, recorded in zip(CHANNELS, sums[train].sum(axis=0), recorded_means, strict=True):
            recomputed = float(total) / values if values else np.nan
            rows.append(
                {
                    "file": file,
                    "channel": channel,
                    "recorded": recorded,
                    "recomputed": recomputed,
                    "difference": abs(recorded - recomputed),
                }
            )
    return pd.DataFrame(rows)


def _lr_differences(prepared: _Prepared) -> npt.NDArray[np.float64]:
    """Largest difference between some low-resolution images and new ones; NaN for the images left out."""
    count = len(prepared.hr)
    differences = np.full(count, np.nan)
    for row in np.random.default_rng(0).choice(count, min(count, SAMPLED_ROWS), replace=False):
        again = downscale(np.asarray(prepared.hr[row])).astype(int)
        differences[row] = np.abs(again - prepared.lr[row]).max()
    return differences


def _summary(
    params: Params,
    prepared: _Prepared,
    outcomes: Sequence[quality.Outcome],
    tables: dict[str, pd.DataFrame],
    pixels: _Pixels | None,
) -> dict[str, Any]:
    """What `validation.json` says and the page shows."""
    info = prepared.info
    states = [outcome.state for outcome in outcomes]
    summary: dict[str, Any] = {
        "format": 1,
        "profile": params.profile,
        "passed": all(state == "held" for state in states),
        "counts": {state: states.count(state) for state in ("held", "failed", "not checked")},
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
        counts, edges = np.histogram(brightness, bins=32, range=(0, 256))
        sizes = tables["people"]["images"].to_numpy()
        summary["statistics"] = {
            "means": means.astype(object).where(means.notna(), None).to_dict("records"),
            "mean_brightness": float(brightness.mean()),
            "brightness": {"counts": counts.tolist(), "edges": edges.tolist()},
            "images_per_identity": {str(size): int((sizes == size).sum()) for size in np.unique(sizes)},
        }
    return summary


def _accepted(prepared: _Prepared, outcomes: Sequence[quality.Outcome], images: pd.DataFrame) -> list[report.Face]:
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


def _offenders(
    prepared: _Prepared, outcomes: Sequence[quality.Outcome], images: pd.DataFrame
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


def _record(params: Params, validation: dict[str, Any], out: Path, recorder: Recorder) -> None:
    counts, statistics = validation["counts"], validation["statistics"]
    metrics = {"expectations": float(len(validation["expectations"])), "failed": float(counts["failed"])}
    metrics["not_checked"] = float(counts["not checked"])
    metrics |= {f"images_{split}": float(count) for split, count in validation["images"].items()}
    if statistics:
        metrics["mean_brightness"] = statistics["mean_brightness"]
    recorder.metrics(metrics)
    recorder.artifact(out / "report.html")
    recorder.artifact(out / "validation.json")
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
