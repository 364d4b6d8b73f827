"""Forms in processes of their own, in turns."""

import pytest

from benchmarks.cases import CASES
from benchmarks.timing import FEWEST, Form, Turns, _agree, interleave, rates, table


def form(name: str, start: float) -> Form:
    return Form(name, "tests.benchmarks.counting", [str(start)])


def test_every_form_has_as_many_turns_and_the_first_is_not_counted():
    turns = interleave([form("one", 5), form("other", 5)], seconds=0)
    for each in turns.values():
        assert len(each.cpu) == len(each.wall) == FEWEST
        assert each.value == 5
        assert each.memory >= 0


def test_forms_that_compute_something_else_are_refused():
    with pytest.raises(RuntimeError, match="do not compute the same"):
        interleave([form("one", 5), form("other", 6)], seconds=0)


def test_a_form_that_dies_is_named_and_the_others_are_ended():
    forms = [form("one", 5), form("dying", -1), form("waiting", 5)]
    with pytest.raises(RuntimeError, match="dying ended with 1"):
        interleave(forms, seconds=0)
    assert all(each.process.poll() is not None for each in forms)


def test_digests_that_two_forms_share_must_be_equal():
    assert _agree([{"a": "1", "b": "2"}, {"b": "2"}, {"c": "3"}])
    assert not _agree([{"a": "1", "b": "2"}, {"c": "3"}, {"b": "4"}])


def test_rates_are_those_of_one_thing_and_ratios_of_the_same_round():
    slow, fast = Turns([2.0, 20.0, 4.0], [1.0] * 3, 10.0, 0.0), Turns([1.0, 10.0, 2.0], [1.0] * 3, 10.0, 0.0)
    shown = rates("t", {"slow": slow, "fast": fast}, {"slow": 1000, "fast": 4000}, "photo")
    columns = {str(column.header): list(column.cells) for column in shown.columns}
    assert columns["CPU us a photo"] == ["4000.0", "500.0"]
    assert columns["photos/s a core"] == ["250", "2,000"]
    assert columns["times as fast"] == ["1.00", "8.00"]
    assert columns["wall us"] == ["1000.0", "250.0"]


def test_ratios_are_of_the_same_round():
    slow, fast = Turns([2.0, 20.0, 4.0], [1.0] * 3, 10.0, 0.0), Turns([1.0, 10.0, 2.0], [1.0] * 3, 10.0, 0.0)
    columns = {str(column.header): list(column.cells) for column in table("t", {"slow": slow, "fast": fast}, 2).columns}
    assert columns["times as fast"] == ["1.00", "2.00"]
    assert columns["quartiles"] == ["1.00 to 1.00", "2.00 to 2.00"]
    assert columns["peak MB an image"] == ["5", "5"]


def test_every_case_belongs_to_a_group_and_compares_two_forms_or_more():
    for case in CASES.values():
        assert case.group in {"training", "inference", "preparation", "pairs", "metrics"}
        assert len(case.forms) >= 2
