import json

import great_expectations.expectations as gxe
import pandas as pd
import pytest

from gwainet.params import CheckFaces
from gwainet.quality import Rule, contract, validate


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
    rules = contract(CheckFaces(images={"train": 162734}))
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
    words = " ".join(rule.says for rule in contract(settings))
    for number in ("162,734 train", "at least 7.5 of 255", "between 0.2 and", "12.5 %", "31 people", "47 to test"):
        assert number in words


def test_published_counts_are_asked_for_only_where_params_give_them():
    with_counts = {rule.name for rule in contract(CheckFaces(images={"test": 1}))}
    without = {rule.name for rule in contract(CheckFaces())}
    assert with_counts - without == {"images_as_published"}
