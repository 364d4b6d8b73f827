import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from gwainet.__main__ import run_stage
from gwainet.stages import STAGES
from gwainet.tracking import outbox
from gwainet.tracking.gate import Registry
from tests.servers.tracking import ui
from tests.tracking.conftest import VARIABLES, migrated  # noqa: F401  a fixture
from tests.training_params import PIPELINE

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.pages.browser import Album

REPOSITORY = Path(__file__).parents[2]
NAME = "faces"

# 18 photos to train on, 4 or 5 steps an epoch
OFTEN = {"epochs": 2.0, "batch_size": 4, "validate_every": 3, "validation_faces": 2}
PROFILE: dict[str, Any] = PIPELINE | {
    "train_psnr": OFTEN,
    "benchmark": {"bootstrap_samples": 20, "grid_faces": 1},
    "register_model": {"name": NAME},
}


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    pytest.importorskip("playwright", reason="Playwright is not installed")
    from tests.pages.browser import find_chromium, open_browser

    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    with open_browser(executable) as opened:
        yield opened


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator["Album"]:
    """Where screenshots are kept: `GWAINET_SCREENSHOTS`, or the tests' own folder."""
    from tests.pages.browser import Album

    folder = os.environ.get("GWAINET_SCREENSHOTS")
    album = Album(Path(folder).resolve() if folder else tmp_path_factory.mktemp("screenshots"))
    yield album
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f"\nscreenshots: {album.folder}")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Path:  # noqa: F811
    """All stages on drawn people, then three versions: previous, champion and challenger."""
    root = tmp_path_factory.mktemp("project")
    shutil.copy(migrated, root / "mlflow.db")
    (root / "data" / "source" / "tiny").mkdir(parents=True)
    params = root / "params.yaml"
    with params.open("w") as file:
        YAML(typ="safe").dump({"profile": "tiny", "base": {}, "profiles": {"tiny": PROFILE}}, file)
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        patch.chdir(root)
        patch.setattr(outbox, "PAUSES_AT_END", (0.0,))
        for number in (1, 2, 3):
            patch.setenv("GWAINET_PIPELINE_KEY", f"pages/{number}")
            patch.setenv("DVC_EXP_NAME", f"seed-{number}")
            # another seed of the intervals: another report, and so another version of the same weights
            for name in list(STAGES) if number == 1 else ["benchmark", "register_model"]:
                for variant in STAGES[name].variants or (None,):
                    run_stage(STAGES[name], variant, params, None, [f"benchmark.seed={number}"], root)
            if number < 3:
                registry = Registry(root, NAME, 60.0)
                registry.promote(registry.find("@challenger"), registry.champion(), '{"passed": true}', f"try {number}")
    return root


@contextmanager
def mlflow_pages(root: Path) -> Iterator[str]:
    """`python -m gwainet ui` on a free port: its address."""
    with TemporaryDirectory() as folder, ui(root, Path(folder) / "ui.log") as (_, port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def address(project: Path) -> Iterator[str]:
    with mlflow_pages(project) as address:
        yield address
