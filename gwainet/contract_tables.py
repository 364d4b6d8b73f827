"""The tables that the data contract is checked on (`gwainet.quality` says what each holds)."""

from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gwainet import duplicates, quality
from gwainet.images import downscale
from gwainet.measured import Listed, Numbers, Pixels, Prepared
from gwainet.params import SCALE, CheckFaces, Params

SPLITS = ("train", "validation", "test")  # not the one of `sources`, on whose code the check would then depend
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
SAMPLED_ROWS = 256  # whose low-resolution image is made again


def structure(prepared: Prepared) -> dict[str, pd.DataFrame]:
    """The tables that can be made of anything: the others need these to be right."""
    info, manifest = prepared.info, prepared.manifest
    columns = [
        {"column": name, "kind": _kind(manifest[name]) if name in manifest else "absent", "expected_kind": kind}
        for name, kind in KINDS.items()
    ]
    arrays = [
        _size_of(file, array, len(manifest), f"{info.height // scale} x {info.width // scale} x 3 uint8")
        for file, array, scale in (("hr.npy", prepared.hr, 1), ("lr.npy", prepared.lr, SCALE))
    ]
    arrays[0]["divisible"] = info.height % SCALE == info.width % SCALE == 0
    if prepared.landmarks is not None:
        arrays.append(_size_of("landmarks.npy", prepared.landmarks, len(manifest), "5 x 2 float32"))
    return {"columns": pd.DataFrame(columns), "arrays": pd.DataFrame(arrays)}


def _size_of(file: str, array: npt.NDArray[Any], rows: int, expected: str) -> dict[str, Any]:
    return {
        "file": file,
        "images": len(array) if array.ndim else 0,
        "rows": rows,
        "size": " x ".join(map(str, array.shape[1:])) + f" {array.dtype}",
        "expected_size": expected,
        "divisible": None,
    }


def _kind(column: "pd.Series[Any]") -> str:
    """What a column holds, missing values aside: with one, pandas reads whole numbers as floats."""
    present = column.dropna()
    kind = pd.api.types.infer_dtype(present, skipna=True)
    if kind == "floating" and (present == present.round()).all():
        kind = "integer"
    names = {"integer": "whole number", "string": "text", "boolean": "true or false", "empty": "nothing"}
    return names.get(kind, kind)


def tables_of(prepared: Prepared, pixels: Pixels, params: Params, *, across: bool) -> dict[str, pd.DataFrame]:
    """All other tables.

    Args:
        prepared: faces.
        pixels: of them.
        params: `check_faces` and `prepare_faces`.
        across: whether to look for near-duplicates in other splits.
    """
    info, manifest, settings = prepared.info, prepared.manifest, params.check_faces
    images = _images(prepared, pixels)
    least = params.prepare_faces.near_duplicate_of(info.source)
    images = _near_duplicate_guides(images, pixels, least, guides_given=info.source == "pairs")
    if across:
        images = _near_duplicates_across(images, pixels, settings)
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
    listed = info.listed or Listed(photos=info.found, identities=0, splits={})
    partition = dict(settings.published.partition) if settings.published else {}
    fewest = {"train": 2, "validation": settings.min_validation_identities, "test": settings.min_test_identities}
    in_split = manifest.groupby("split")["identity"]
    splits = pd.DataFrame({"split": SPLITS}).assign(
        images=lambda t: t["split"].map(in_split.size()).fillna(0),
        recorded_images=lambda t: t["split"].map(info.images).fillna(0),
        identities=lambda t: t["split"].map(in_split.nunique()).fillna(0),
        recorded_identities=lambda t: t["split"].map(info.identities).fillna(0),
        fewest_identities=lambda t: t["split"].map(fewest),
        published_images=lambda t: t["split"].map(dict(settings.images or {})).astype(float),
        listed_images=lambda t: t["split"].map(listed.splits).fillna(0),
        published_partition=lambda t: t["split"].map(partition).astype(float),
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
        "published": _published(listed, settings),
    }


def _published(listed: Listed, settings: CheckFaces) -> pd.DataFrame:
    """What the source lists and what it should."""
    wanted = settings.published
    return pd.DataFrame(
        [
            {"what": "photos", "listed": listed.photos, "published": wanted.photos if wanted else None},
            {"what": "people", "listed": listed.identities, "published": wanted.identities if wanted else None},
        ]
    )


def _images(prepared: Prepared, pixels: Pixels) -> pd.DataFrame:
    """One row an image: the manifest, what its guides are, and what its pixels say."""
    info, manifest = prepared.info, prepared.manifest
    missing = manifest[list(KINDS)].isna()
    names = np.full(len(manifest), "nothing", dtype=object)
    for position in np.flatnonzero(missing.any(axis=1)):
        names[position] = ", ".join(missing.columns[missing.iloc[position]])
    group = _who(manifest)
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
    if prepared.landmarks is not None:
        last = np.array([info.width - 1, info.height - 1])
        inside = np.isnan(prepared.landmarks) | ((prepared.landmarks >= 0) & (prepared.landmarks <= last))
        table["landmarks_outside"] = (~inside.all(axis=2)).sum(axis=1)
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


def _means(prepared: Prepared, pixels: Pixels) -> pd.DataFrame:
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


def _lr_differences(prepared: Prepared) -> npt.NDArray[np.float64]:
    """Largest difference between some low-resolution images and new ones; NaN for the images left out."""
    count = len(prepared.hr)
    differences = np.full(count, np.nan)
    for row in np.random.default_rng(0).choice(count, min(count, SAMPLED_ROWS), replace=False):
        again = downscale(np.asarray(prepared.hr[row])).astype(int)
        differences[row] = np.abs(again - prepared.lr[row]).max()
    return differences


def _near_duplicate_guides(images: pd.DataFrame, pixels: Pixels, least: float, *, guides_given: bool) -> pd.DataFrame:
    """How alike each target and its guide are; of near-duplicates, whether the person has a photo that is none."""
    guides = images["known_guide_row"].to_numpy(float)
    targets = np.flatnonzero(~np.isnan(guides) & (guides != np.arange(len(guides))))
    correlation = np.full(len(images), np.nan)
    correlation[targets] = duplicates.correlations(pixels.faces, targets, guides[targets].astype(np.int64))
    by_choice: npt.NDArray[np.object_] = np.full(len(images), None, object)
    by_choice[targets] = False
    for_want, people = by_choice.copy(), runs(images)
    for target in targets[correlation[targets] >= least].tolist():
        another = not guides_given and len(duplicates.other_guides(pixels.faces, people, target, least)) > 0
        by_choice[target], for_want[target] = another, not another
    return images.assign(
        guide_correlation=correlation, near_duplicate_by_choice=by_choice, near_duplicate_for_want=for_want
    )


def _near_duplicates_across(images: pd.DataFrame, pixels: Pixels, settings: CheckFaces) -> pd.DataFrame:
    """How many near-duplicates of an image lie in other splits, and the most alike of them."""
    rows = {split: np.flatnonzero((images["split"] == split).to_numpy(bool)) for split in SPLITS}
    found = [
        duplicates.alike_between(
            pixels.faces,
            pixels.hashes,
            rows[first],
            rows[second],
            settings.split_hash_distance,
            settings.split_near_duplicate,
        )
        for first, second in combinations(SPLITS, 2)
    ]
    pairs = pd.DataFrame(
        {
            "row": np.concatenate([side for pair in found for side in (pair.first, pair.second)]),
            "twin_row": np.concatenate([side for pair in found for side in (pair.second, pair.first)]),
            "twin_correlation": np.concatenate([pair.correlation for pair in found for _ in range(2)]),
        }
    )
    nearest = pairs.sort_values("twin_correlation", ascending=False, kind="stable").drop_duplicates("row")
    nearest = nearest.set_index("row").reindex(range(len(images)))
    counts = pairs["row"].value_counts().reindex(range(len(images)), fill_value=0)
    twin = nearest["twin_row"]
    return images.assign(
        alike_in_other_split=counts.to_numpy(),
        twin_row=twin.to_numpy(),
        twin_split=twin.map(images["split"]).to_numpy(),
        twin_source_file=twin.map(images["source_file"]).to_numpy(),
        twin_correlation=nearest["twin_correlation"].to_numpy(),
    )


def runs(images: pd.DataFrame) -> Numbers:
    """Number of the run of rows of one person in one split that a row lies in: guides come from it."""
    who = _who(images)
    begins = (who != who.shift()).to_numpy(bool)
    numbers: Numbers = begins.cumsum().astype(np.int64)
    return numbers


def _who(images: pd.DataFrame) -> pd.Series:
    """One text for each person in each split; what is missing is empty."""
    return images["split"].astype(object).fillna("") + "\0" + images["identity"].astype(object).fillna("")
