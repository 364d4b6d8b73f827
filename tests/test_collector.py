"""The collector is held back in a block, and is as it was after it."""

import gc
from collections.abc import Iterator

import pytest

from gwainet.collector import frozen, uncollected


class StopError(Exception):
    pass


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    before = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if before else gc.disable)()


@pytest.mark.parametrize("was", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_it_is_off_in_the_block_and_as_it_was_after_it(was: bool, fails: bool) -> None:
    (gc.enable if was else gc.disable)()
    try:
        with uncollected():
            assert not gc.isenabled()
            if fails:
                raise StopError
    except StopError:
        assert fails
    assert gc.isenabled() == was


@pytest.mark.parametrize("fails", [True, False])
def test_what_was_there_is_frozen_in_the_block_and_thawed_after_it(fails: bool) -> None:
    try:
        with frozen():
            assert gc.get_freeze_count() > 1000
            assert gc.isenabled()
            if fails:
                raise StopError
    except StopError:
        assert fails
    assert gc.get_freeze_count() == 0
