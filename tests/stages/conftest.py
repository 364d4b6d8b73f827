"""Fixtures that tests of several stages share."""

from pathlib import Path

import pytest
import torch

from tests.training_params import Project, make_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Prepared and checked faces, nothing trained."""
    torch.set_num_threads(1)
    return make_project(tmp_path)
