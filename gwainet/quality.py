"""The data contract on prepared faces, held by Great Expectations: the only module that imports it.

A rule is one built-in expectation on one small table, with plain words for people and a stable name for programs.
`gwainet.contract_tables` makes the tables of the manifest and the arrays, `check_faces` that of drift:

============  ==========================  =========================================================================
table         a row is                    columns besides those that only name the row
============  ==========================  =========================================================================
columns       a promised manifest column  kind, expected_kind
arrays        an array                    images, rows, size, expected_size, divisible
images        an image                    what the manifest says, its guides, its pixels, what is alike
people        an identity in a split      images, targets, splits (that the identity stands in)
splits        a split                     images, identities, and what was recorded or required of each
means         an array's colour channel   recorded, recomputed, difference
totals        everything                  rejected_share
published     photos, people              listed (by the source), published
drift         a distribution              distance from that of the last accepted data set
============  ==========================  =========================================================================
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import great_expectations as gx
import great_expectations.expectations as gxe
import numpy as np
import pandas as pd

from gwainet.params import SCALE, CheckFaces, Params

MEANS_TOLERANCE = 1e-6  # recorded and recomputed means are sums of the same integers: only the division can differ
FEWEST_IMAGES = 2  # of an identity in a split: a target and its guide (Sec. 4.1)
EXAMPLES = 5
_DIFFERS = " differs from "  # in the name of a column that `_compared` makes
GROUPS = ("Files", "People and splits", "Guides", "Pictures", "Source", "Warnings")

Value = str | int | float | bool | None
State = Literal["held", "failed", "warned", "not checked"]

_WHO = ("row", "identity", "split", "source_file")


@dataclass(frozen=True)
class Rule:
    """One line of the contract.

    Attributes:
        name: stable, for programs.
        group: heading under which people find it.
        says: what must hold, in plain words.
        why: what goes wrong otherwise.
        table: that it is checked on.
        expectation: Great Expectations' own.
        shown: columns of the table that describe an offending row.
        structural: whether the other rules only make sense where this one holds.
        warns: whether a break is told and stops nothing.
    """

    name: str
    group: str
    says: str
    why: str
    table: str
    expectation: gxe.Expectation
    shown: tuple[str, ...]
    structural: bool = False
    warns: bool = False

    @property
    def reads(self) -> set[str]:
        """Columns that the expectation is about."""
        arguments = self.expectation.configuration.kwargs
        single = {arguments[name] for name in ("column", "column_A", "column_B") if name in arguments}
        return single | set(arguments.get("column_list", ()))


@dataclass(frozen=True)
class Outcome:
    """What came of a rule.

    Attributes:
        rule: that was checked.
        state: "not checked" where a structural rule failed before it; "warned" for a broken rule that only warns.
        checked: how many rows of the table it applied to.
        offenders: positions in the table of all rows that break it; a rule that allows for some holds with a few.
        examples: the first few of them, as `rule.shown`.
    """

    rule: Rule
    state: State
    checked: int
    offenders: tuple[int, ...]
    examples: tuple[dict[str, Value], ...]

    def as_json(self) -> dict[str, Any]:
        """What `validation.json` says of it."""
        configuration = self.rule.expectation.configuration.to_json_dict()
        return {
            "name": self.rule.name,
            "group": self.rule.group,
            "says": self.rule.says,
            "why": self.rule.why,
            "table": self.rule.table,
            "expectation": configuration["type"],
            "arguments": configuration["kwargs"],
            "result": self.state,
            "warns": self.rule.warns,
            "checked": self.checked,
            "offending": len(self.offenders),
            "examples": list(self.examples),
        }


def contract(
    settings: CheckFaces,
    near_duplicate: float,
    *,
    split_by_image: bool = False,
    guides_given: bool = False,
    labels: bool = False,
    landmarks: bool = False,
    earlier: bool = False,
) -> list[Rule]:
    """All rules, in the order in which people should read them.

    Args:
        settings: the contract's numbers.
        near_duplicate: correlation from which two photos of a person are near-duplicates (`prepare_faces`).
        split_by_image: pairs were split image by image, the paper's way (docs/paper.md, D11), so that a person, and
            a photo that guides several targets, may stand in several splits.
        guides_given: the source brings each target's guide (`pairs`), so that there was no other choice.
        labels: the faces were described, so that doubtful labels can be told.
        landmarks: the faces have some.
        earlier: there is an accepted data set to compare with.
    """
    rules = [
        Rule(
            "columns_as_promised",
            "Files",
            "The manifest has every promised column, each with its kind of value.",
            "Training reads these columns by name.",
            "columns",
            _equal("kind", "expected_kind"),
            ("column", "kind", "expected_kind"),
            structural=True,
        ),
        Rule(
            "rows_match_arrays",
            "Files",
            "The manifest has as many rows as each array has images.",
            "Row i of the manifest must describe image i.",
            "arrays",
            _equal("images", "rows"),
            ("file", "images", "rows"),
            structural=True,
        ),
        Rule(
            "sizes_as_recorded",
            "Files",
            f"Crops have the size that faces.json records, low-resolution images 1/{SCALE} of it: 8-bit RGB.",
            "The networks are built for this size.",
            "arrays",
            _equal("size", "expected_size"),
            ("file", "size", "expected_size"),
            structural=True,
        ),
        Rule(
            "sizes_divisible",
            "Files",
            f"Height and width of the crops are divisible by {SCALE}.",
            f"The networks scale by exactly {SCALE}.",
            "arrays",
            _in_set("divisible", True),
            ("file", "size"),
        ),
        Rule(
            "rows_numbered",
            "Files",
            "Rows are numbered 0, 1, 2, ... without a gap.",
            "Guides are named by row number.",
            "images",
            _equal("row", "position"),
            ("position", *_WHO),
        ),
        Rule(
            "nothing_missing",
            "Files",
            "No column of the manifest has a missing value.",
            "A missing value becomes a wrong number somewhere later.",
            "images",
            _in_set("missing", "nothing"),
            (*_WHO, "missing"),
        ),
        Rule(
            "splits_known",
            "People and splits",
            "Every image belongs to train, validation or test.",
            "An image of any other split would be used nowhere.",
            "images",
            _in_set("split", "train", "validation", "test"),
            _WHO,
        ),
        Rule(
            "identities_together",
            "People and splits",
            "Rows are sorted by split, and all images of a person in a split follow each other.",
            "Guides are drawn from the run of rows around the target.",
            "images",
            _in_set("in_place", True),
            _WHO,
        ),
        Rule(
            "identities_numbered",
            "People and splits",
            "People are numbered 0, 1, 2, ... in the order of their first image.",
            "Training tells people apart by this number.",
            "images",
            _equal("identity_index", "expected_identity_index"),
            (*_WHO, "identity_index", "expected_identity_index"),
        ),
    ]
    if not split_by_image:
        rules += [
            Rule(
                "identity_in_one_split",
                "People and splits",
                "No person stands in two splits.",
                "Otherwise the test score measures memory.",
                "people",
                _in_set("splits", 1),
                ("identity", "split", "images", "found_in"),
            ),
            Rule(
                "photo_in_one_split",
                "People and splits",
                "No photo (by its SHA-256) stands in two splits, whoever it is said to show.",
                "Otherwise the test score measures memory.",
                "images",
                _in_set("photo_splits", 1),
                (*_WHO, "source_sha256"),
            ),
            Rule(
                "no_near_duplicate_across_splits",
                "People and splits",
                "No two splits hold near-duplicates, whoever they are said to show: photos whose perceptual hashes "
                f"differ in at most {settings.split_hash_distance} of 256 bits and whose faces correlate by "
                f"{settings.split_near_duplicate:g} or more.",
                "Otherwise the test score measures memory.",
                "images",
                _in_set("alike_in_other_split", 0),
                (*_WHO, "alike_in_other_split", "twin_row", "twin_split", "twin_source_file", "twin_correlation"),
            ),
        ]
    rules += [
        Rule(
            "enough_images",
            "People and splits",
            f"Everyone has at least {FEWEST_IMAGES} images in their split.",
            "A target needs another image of the person as its guide (Sec. 4.1).",
            "people",
            _between("images", FEWEST_IMAGES, None),
            ("identity", "split", "images", "source_file"),
        ),
        Rule(
            "everyone_is_a_target",
            "People and splits",
            "Everyone has at least one image that is to be super-resolved.",
            "A person with guides alone teaches and tests nothing.",
            "people",
            _between("targets", 1, None),
            ("identity", "split", "images", "targets", "source_file"),
        ),
        Rule(
            "images_as_recorded",
            "People and splits",
            "Every split has as many images as faces.json records.",
            "Manifest and faces.json must come from one run of prepare_faces.",
            "splits",
            _equal("images", "recorded_images"),
            ("split", "images", "recorded_images"),
        ),
        Rule(
            "identities_as_recorded",
            "People and splits",
            "Every split has as many people as faces.json records.",
            "Manifest and faces.json must come from one run of prepare_faces.",
            "splits",
            _equal("identities", "recorded_identities"),
            ("split", "identities", "recorded_identities"),
        ),
        Rule(
            "enough_identities",
            "People and splits",
            f"There are at least {settings.min_validation_identities} people to validate on, "
            f"{settings.min_test_identities} to test on and 2 to train on.",
            "A score over fewer people says nothing, and another person's guide needs another person.",
            "splits",
            _at_least("identities", "fewest_identities"),
            ("split", "identities", "fewest_identities"),
        ),
    ]
    if settings.images:
        wanted = ", ".join(f"{count:,} {split}" for split, count in settings.images.items())
        rules.append(
            Rule(
                "images_as_published",
                "People and splits",
                f"The splits have exactly the published number of images: {wanted}.",
                "Results are comparable with published ones only on the same images.",
                "splits",
                _equal("images", "published_images"),
                ("split", "images", "published_images"),
            )
        )
    if settings.published:
        published = settings.published
        wanted = ", ".join(f"{count:,} {split}" for split, count in published.partition.items())
        rules += [
            Rule(
                "source_as_published",
                "Source",
                f"The source lists the published {published.photos:,} photos of {published.identities:,} people.",
                "A list that was cut short or is another version gives other splits.",
                "published",
                _equal("listed", "published"),
                ("what", "listed", "published"),
            ),
            Rule(
                "partition_as_published",
                "Source",
                f"The partition file gives the splits the published number of photos: {wanted}.",
                "Results are comparable with published ones only on the same partition.",
                "splits",
                _equal("listed_images", "published_partition"),
                ("split", "listed_images", "published_partition"),
            ),
        ]
    if labels:
        rules.append(
            Rule(
                "labels_plausible",
                "Warnings",
                "A described face is no further than "
                f"{settings.identity_distance:g} (median, dlib's descriptors) from the person's other photos.",
                "A photo of another person under this name is a wrong guide and a wrong target.",
                "images",
                _between("label_distance", None, settings.identity_distance),
                (*_WHO, "label_distance", "face_found"),
                warns=True,
            )
        )
    if earlier:
        rules.append(
            Rule(
                "distributions_as_before",
                "Warnings",
                f"No distribution has moved by more than {settings.drift:g} (Kolmogorov and Smirnov's distance, 0 to 1)"
                " since the last accepted data set.",
                "Models and scores of the two data sets may not be comparable.",
                "drift",
                _between("distance", None, settings.drift),
                ("statistic", "median_before", "median_now", "distance", "moved", "unit"),
                warns=True,
            )
        )
    rules += [
        Rule(
            "guide_exists",
            "Guides",
            "Every target's guide is a row of the manifest; images that are guides alone have none (-1).",
            "Validation and test read the guide from this row.",
            "images",
            _in_set("guide_exists", True),
            (*_WHO, "guide_row"),
        ),
        Rule(
            "guide_is_another_image",
            "Guides",
            "A guide is never the target itself.",
            "The answer would be given away.",
            "images",
            _different("position", "known_guide_row"),
            (*_WHO, "guide_row"),
        ),
        Rule(
            "guide_is_another_photo",
            "Guides",
            "A guide is never a copy of the target's photo (by its SHA-256).",
            "The answer would be given away.",
            "images",
            _different("source_sha256", "guide_sha256"),
            (*_WHO, "guide_row", "guide_source_file"),
        ),
        Rule(
            "guide_shows_the_person",
            "Guides",
            "A guide shows the same person as the target.",
            "That is what makes it a guide (Sec. 3).",
            "images",
            _equal("identity", "guide_identity"),
            (*_WHO, "guide_row", "guide_identity"),
        ),
        Rule(
            "guide_in_same_split",
            "Guides",
            "A guide belongs to the target's split.",
            "Otherwise test photos leak into training, or the other way.",
            "images",
            _equal("split", "guide_split"),
            (*_WHO, "guide_row", "guide_split"),
        ),
        Rule(
            "other_guide_exists",
            "Guides",
            "Every target's other-person guide is a row of the manifest; images that are guides alone have none (-1).",
            "The benchmark's GWAnet-R reads it from this row.",
            "images",
            _in_set("other_guide_exists", True),
            (*_WHO, "other_guide_row"),
        ),
        Rule(
            "other_guide_shows_another",
            "Guides",
            "An other-person guide shows another person than the target.",
            "The benchmark compares the right person's guide with a wrong one (GWAnet-R).",
            "images",
            _different("identity", "other_guide_identity"),
            (*_WHO, "other_guide_row", "other_guide_identity"),
        ),
        Rule(
            "other_guide_in_same_split",
            "Guides",
            "An other-person guide belongs to the target's split.",
            "Otherwise test photos leak into training, or the other way.",
            "images",
            _equal("split", "other_guide_split"),
            (*_WHO, "other_guide_row", "other_guide_split"),
        ),
        Rule(
            "not_black",
            "Pictures",
            f"No crop is all black: its brightest value is at least {settings.black_below:g} of 255.",
            "A black crop is a damaged photo or a misplaced crop box.",
            "images",
            _between("brightest", settings.black_below, None),
            (*_WHO, "brightest"),
        ),
        Rule(
            "means_in_range",
            "Pictures",
            f"Each colour's mean over the training split lies between {settings.mean_lowest:g} and "
            f"{settings.mean_highest:g} (0 is black, 1 is white).",
            "Means beyond it say that these are no ordinary photos of faces.",
            "means",
            _between("recomputed", settings.mean_lowest, settings.mean_highest),
            ("file", "channel", "recomputed"),
        ),
        Rule(
            "means_as_recorded",
            "Pictures",
            f"The means that faces.json records are those of the arrays (within {MEANS_TOLERANCE:g}).",
            "The networks subtract the recorded means (Sec. 4.2).",
            "means",
            _between("difference", 0, MEANS_TOLERANCE),
            ("file", "channel", "recorded", "recomputed"),
        ),
        Rule(
            "lr_is_downscaled",
            "Pictures",
            f"Low-resolution images equal the crops, bicubically scaled down {SCALE} times (a seeded sample of rows).",
            "Another way of scaling shifts every score (docs/paper.md, D4).",
            "images",
            _in_set("lr_difference", 0),
            (*_WHO, "lr_difference"),
        ),
        Rule(
            "photos_tall_enough",
            "Source",
            "Every photo is at least as high as the crop.",
            "A crop must not be enlarged: its detail would be invented.",
            "images",
            _at_least("source_height", "crop_height"),
            (*_WHO, "source_height", "crop_height"),
        ),
        Rule(
            "photos_wide_enough",
            "Source",
            "Every photo is at least as wide as the crop.",
            "A crop must not be enlarged: its detail would be invented.",
            "images",
            _at_least("source_width", "crop_width"),
            (*_WHO, "source_width", "crop_width"),
        ),
        Rule(
            "few_rejected",
            "Source",
            f"At most {100 * settings.max_rejected:g} % of the source's photos were unusable.",
            "More points to a damaged download or a wrong folder; rejected.csv lists each with its reason.",
            "totals",
            _between("rejected_share", None, settings.max_rejected),
            ("found", "rejected", "rejected_share"),
        ),
    ]
    if not guides_given:
        rules.append(
            Rule(
                "guide_is_no_near_duplicate",
                "Guides",
                f"No fixed guide is a near-duplicate of its target (their faces correlate by {near_duplicate:g} or "
                "more) where the person has a photo that is none.",
                "The answer would be given away.",
                "images",
                _in_set("near_duplicate_by_choice", False),
                (*_WHO, "guide_row", "guide_source_file", "guide_correlation"),
            )
        )
    rules.append(
        Rule(
            "few_near_duplicate_guides",
            "Guides",
            f"At most {100 * settings.max_near_duplicate_guides:g} % of the targets have a near-duplicate as fixed "
            f"guide (a correlation of {near_duplicate:g} or more) for want of any other photo.",
            "The answer is given away; the score of a few such targets is lost among the others.",
            "images",
            _in_set("near_duplicate_for_want", False, mostly=1 - settings.max_near_duplicate_guides),
            (*_WHO, "guide_row", "guide_source_file", "guide_correlation"),
        )
    )
    if landmarks:
        rules.append(
            Rule(
                "landmarks_in_crop",
                "Pictures",
                "Every landmark that is known lies in its crop.",
                "GFRNet-style, landmarks, is led by them.",
                "images",
                _in_set("landmarks_outside", 0),
                (*_WHO, "landmarks_outside"),
            )
        )
    return sorted(rules, key=lambda rule: GROUPS.index(rule.group))


def contract_of(params: Params) -> list[Rule]:
    """All rules of a profile that may be checked: those that only warn too, whatever is installed or was before."""
    pairs = params.fetch_faces.source == "pairs"
    return contract(
        params.check_faces,
        params.prepare_faces.near_duplicate_of(params.fetch_faces.source),
        split_by_image=pairs and params.prepare_faces.split_pairs_by == "image",
        guides_given=pairs,
        labels=params.check_faces.identity != "off",
        landmarks=params.fetch_faces.source in ("drawn", "celeba"),
        earlier=True,
    )


def as_markdown(rules: Sequence[Rule]) -> str:
    """The contract for people, from the same rules that are checked."""
    lines = []
    for group in dict.fromkeys(rule.group for rule in rules):
        lines += [f"### {group}", "", "| rule | what must hold | why |", "|---|---|---|"]
        lines += [f"| `{rule.name}` | {rule.says} | {rule.why} |" for rule in rules if rule.group == group] + [""]
    return "\n".join(lines)


def validate(tables: Mapping[str, pd.DataFrame], rules: Sequence[Rule]) -> list[Outcome]:
    """Check the rules whose tables are given; the others come out as "not checked".

    Raises:
        RuntimeError: Great Expectations could not evaluate an expectation (a mistake of this program).
    """
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # the stage shows its own progress
    asset = context.data_sources.add_pandas("faces").add_dataframe_asset("table")
    definition = asset.add_batch_definition_whole_dataframe("table")
    outcomes: dict[str, Outcome] = {}
    for name, table in tables.items():
        held = {rule.name: rule for rule in rules if rule.table == name}
        if not held:
            continue
        numbered = _compared(table.reset_index(drop=True).assign(position=range(len(table))), held.values())
        # Great Expectations copies its table for every rule: only what the rules read goes there
        read = [column for column in numbered if any(column in rule.reads for rule in held.values())]
        batch = definition.get_batch({"dataframe": numbered[list(dict.fromkeys(["position", *read]))]})
        suite = gx.ExpectationSuite(
            name,
            expectations=[
                rule.expectation.copy(update={"description": rule.says, "meta": {"rule": rule.name}})
                for rule in held.values()
            ],
        )
        report = batch.validate(
            suite, result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["position"]}
        )
        for result in report.results:
            rule = held[result.expectation_config.meta["rule"]]
            if "element_count" not in result.result:
                raise RuntimeError(f"expectation {rule.name} could not be evaluated: {result.exception_info}")
            offenders = [int(entry["position"]) for entry in result.result["unexpected_index_list"] or ()]
            examples = numbered.loc[offenders[:EXAMPLES], list(rule.shown)]
            outcomes[rule.name] = Outcome(
                rule,
                "held" if result.success else "warned" if rule.warns else "failed",
                result.result["element_count"] - result.result["missing_count"],
                tuple(offenders),
                tuple({str(key): _plain(value) for key, value in row.items()} for row in examples.to_dict("records")),
            )
    return [outcomes.get(rule.name) or Outcome(rule, "not checked", 0, (), ()) for rule in rules]


def _plain(value: object) -> Value:
    """A cell as JSON knows it; a missing one becomes None."""
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float):
        # a column with a missing value holds its whole numbers as floats
        return None if math.isnan(plain) else int(plain) if plain.is_integer() else float(f"{plain:.6g}")
    return plain if isinstance(plain, str | int | bool) else None


def _equal(first: str, second: str) -> gxe.Expectation:
    return gxe.ExpectColumnPairValuesToBeEqual(column_A=first, column_B=second, ignore_row_if="either_value_is_missing")


def _different(first: str, second: str) -> gxe.Expectation:
    # Great Expectations' own expectation for it goes row by row in Python (docs/scale.md)
    return gxe.ExpectColumnValuesToBeInSet(column=f"{first}{_DIFFERS}{second}", value_set=[True])


def _compared(table: pd.DataFrame, rules: Iterable[Rule]) -> pd.DataFrame:
    """The table with the columns that `_different` reads; missing where one of the two values is."""
    for name in {column for rule in rules for column in rule.reads if _DIFFERS in column}:
        first, second = (table[side] for side in name.split(_DIFFERS))
        differs = (first != second).astype("boolean")
        table[name] = differs.mask(first.isna() | second.isna(), pd.NA)
    return table


def _at_least(first: str, second: str) -> gxe.Expectation:
    return gxe.ExpectColumnPairValuesAToBeGreaterThanB(
        column_A=first, column_B=second, or_equal=True, ignore_row_if="either_value_is_missing"
    )


def _in_set(column: str, *values: Value, mostly: float = 1.0) -> gxe.Expectation:
    return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=list(values), mostly=mostly)


def _between(column: str, lowest: float | None, highest: float | None) -> gxe.Expectation:
    return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=lowest, max_value=highest)
