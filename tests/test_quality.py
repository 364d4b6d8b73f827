import json
from dataclasses import replace
from pathlib import Path

import great_expectations.expectations as gxe
import pandas as pd
import pytest

from gwainet.params import CheckFaces, load_params
from gwainet.quality import Rule, as_markdown, contract, contract_of, validate


def rule(name: str, expectation: gxe.Expectation, table: str = "images") -> Rule:
    return Rule(name, "Files", "It holds.", "It matters.", table, expectation, ("position", "file", "value"))


AT_LEAST_TWO = rule("at_least_two", gxe.ExpectColumnValuesToBeBetween(column="value", min_value=2))
SHORT = rule("short", gxe.ExpectColumnValueLengthsToBeBetween(column="file", max_value=1))


def images(*values: float | None) -> pd.DataFrame:
    return pd.DataFrame({"file": list("abcdefgh")[: len(values)], "value": list(values)}, index=[9] * len(values))


def test_offenders_are_named_by_position_with_their_values():
    [outcome] = validate({"images": images(2, 1, 5, 0)}, [AT_LEAST_TWO])
    assert outcome.state == "failed"
    assert outcome.checked == 4
    assert outcome.offenders == (1, 3)
    assert outcome.examples == ({"position": 1, "file": "b", "value": 1}, {"position": 3, "file": "d", "value": 0})


def test_a_rule_that_holds_has_no_offender():
    outcomes = validate({"images": images(2, 3)}, [AT_LEAST_TWO, SHORT])
    assert [(outcome.state, outcome.offenders, outcome.examples) for outcome in outcomes] == [("held", (), ())] * 2


def test_missing_values_are_not_judged():
    [outcome] = validate({"images": images(None, 1, 5)}, [AT_LEAST_TWO])
    assert (outcome.checked, outcome.offenders) == (2, (1,))


def test_at_most_five_examples_are_kept_and_all_offenders_counted():
    [outcome] = validate({"images": images(*[0] * 8)}, [AT_LEAST_TWO])
    assert len(outcome.offenders) == 8
    assert len(outcome.examples) == 5


def test_a_rule_without_its_table_is_not_checked():
    elsewhere = rule("elsewhere", gxe.ExpectColumnValuesToBeUnique(column="value"), "means")
    assert [outcome.state for outcome in validate({"images": images(2)}, [AT_LEAST_TWO, elsewhere])] == [
        "held",
        "not checked",
    ]


def test_an_expectation_that_cannot_be_evaluated_is_an_error_and_no_failure():
    wrong = rule("wrong", gxe.ExpectColumnValuesToBeUnique(column="absent"))
    with pytest.raises(RuntimeError, match="wrong could not be evaluated"):
        validate({"images": images(2)}, [wrong])


def test_an_outcome_is_plain_json_with_the_words_and_the_expectation():
    [outcome] = validate({"images": images(1, None, 3)}, [AT_LEAST_TWO])
    entry = json.loads(json.dumps(outcome.as_json(), allow_nan=False))
    assert entry["name"] == "at_least_two"
    assert (entry["says"], entry["why"]) == ("It holds.", "It matters.")
    assert entry["expectation"] == "expect_column_values_to_be_between"
    assert (entry["arguments"]["column"], entry["arguments"]["min_value"]) == ("value", 2)
    assert (entry["result"], entry["checked"], entry["offending"]) == ("failed", 2, 1)


def test_every_rule_has_a_name_of_its_own_and_speaks_in_sentences():
    rules = contract(CheckFaces(images={"train": 162734}), 0.85)
    names = [rule.name for rule in rules]
    assert len(set(names)) == len(names)
    assert all(rule.says.endswith(".") and rule.why.endswith(".") for rule in rules)


def test_the_words_hold_the_numbers_of_the_params():
    settings = CheckFaces(
        images={"train": 162734},
        black_below=7.5,
        mean_lowest=0.2,
        max_rejected=0.125,
        min_validation_identities=31,
        min_test_identities=47,
    )
    words = " ".join(rule.says for rule in contract(settings, 0.85))
    for number in ("162,734 train", "at least 7.5 of 255", "between 0.2 and", "12.5 %", "31 people", "47 to test"):
        assert number in words


def test_published_counts_are_asked_for_only_where_params_give_them():
    with_counts = {rule.name for rule in contract(CheckFaces(images={"test": 1}), 0.85)}
    without = {rule.name for rule in contract(CheckFaces(), 0.85)}
    assert with_counts - without == {"images_as_published"}


PROJECT = Path(__file__).parents[1]


def test_a_rule_that_only_warns_is_told_apart_from_a_failure():
    warning = rule("at_least_two", gxe.ExpectColumnValuesToBeBetween(column="value", min_value=2))
    warning = replace(warning, warns=True)
    [outcome] = validate({"images": images(1, 3)}, [warning])
    assert (outcome.state, outcome.offenders) == ("warned", (0,))
    assert outcome.as_json()["warns"] is True


def test_a_rule_that_allows_for_some_holds_and_names_them():
    most = rule("most", gxe.ExpectColumnValuesToBeBetween(column="value", min_value=2, mostly=0.75))
    [outcome] = validate({"images": images(1, 3, 4, 5)}, [most])
    assert (outcome.state, outcome.offenders) == ("held", (0,))
    [outcome] = validate({"images": images(1, 1, 4, 5)}, [most])
    assert outcome.state == "failed"


def test_what_is_not_there_to_be_checked_is_no_rule():
    names = {rule.name for rule in contract(CheckFaces(), 0.85)}
    everything = {rule.name for rule in contract(CheckFaces(), 0.85, labels=True, landmarks=True, earlier=True)}
    given = {rule.name for rule in contract(CheckFaces(), 0.85, guides_given=True)}
    assert everything - names == {"labels_plausible", "landmarks_in_crop", "distributions_as_before"}
    assert names - given == {"guide_is_no_near_duplicate"}


def test_only_what_comes_from_elsewhere_warns():
    rules = contract(CheckFaces(), 0.85, labels=True, earlier=True)
    assert {rule.name for rule in rules if rule.warns} == {"labels_plausible", "distributions_as_before"}
    assert {rule.group for rule in rules if rule.warns} == {"Warnings"}


def test_the_document_holds_the_contract_as_it_is_checked():
    """Write it anew: `python -m gwainet contract --profile celeba --set check_faces.identity=on`."""
    params = load_params(PROJECT / "params.yaml", "celeba", ["check_faces.identity=on"])
    _, _, rules = (PROJECT / "docs" / "data-contract.md").read_text().partition("Those of the profile `celeba`")
    assert rules.partition("\n\n")[2] == as_markdown(contract_of(params))


def test_every_limit_of_the_params_stands_in_the_words_of_the_contract():
    first = load_params(PROJECT / "params.yaml", "celeba", ["check_faces.identity=on"])
    changes = ["split_near_duplicate=0.875", "split_hash_distance=33", "drift=0.375", "identity_distance=0.625"]
    changes += ["max_near_duplicate_guides=0.125", "published.photos=123456", "published.identities=6543"]
    second = load_params(
        PROJECT / "params.yaml",
        "celeba",
        [
            "check_faces.identity=on",
            "prepare_faces.near_duplicate=0.75",
            *(f"check_faces.{change}" for change in changes),
        ],
    )
    words = as_markdown(contract_of(second))
    for number in ("0.875", "33 of 256", "0.375", "0.625", "12.5 %", "123,456", "6,543", "0.75 or more"):
        assert number in words
        assert number not in as_markdown(contract_of(first))


def test_what_must_differ_is_judged_where_both_values_are_there():
    table = pd.DataFrame(
        {
            "identity": ["a", "b", None, "d", "e"],
            "other_guide_identity": ["b", "b", "c", None, "f"],
            **{name: range(5) for name in ("row", "split", "source_file", "other_guide_row")},
        }
    )
    different = [r for r in contract(CheckFaces(), 0.85) if r.name == "other_guide_shows_another"]
    [outcome] = validate({"images": table}, different)
    assert (outcome.state, outcome.checked, outcome.offenders) == ("failed", 3, (1,))
    [outcome] = validate({"images": table.drop(index=1)}, different)
    assert (outcome.state, outcome.checked) == ("held", 2)
