"""A training that is killed at random moments and continued ends as an undisturbed one does, bit by bit."""

import pytest

from tests.kills import PHASES, kill, prepare


@pytest.fixture(scope="module", name="project")
def _project(tmp_path_factory):
    root = tmp_path_factory.mktemp("kills")
    return root, prepare(root)


@pytest.mark.system
@pytest.mark.parametrize(("stage", "variant"), PHASES)
def test_killed_trainings_end_with_the_same_bytes_and_curves(project, stage, variant):
    root, seconds = project
    tally = kill(root, stage, variant, seconds[stage], kills=3, seed=1)
    assert tally.different == []
    assert tally.kills == 3
