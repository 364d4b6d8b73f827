"""What a person sees who opens MLflow after a run: by a browser, on a server as `make ui` starts it."""

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

pytest.importorskip("playwright", reason="Playwright is not installed")

from playwright.sync_api import Browser

from gwainet.stages import STAGES
from tests.pages.browser import Album
from tests.pages.conftest import NAME
from tests.pages.tour import Tour

pytestmark = pytest.mark.system


@pytest.fixture
def runs(address: str) -> dict[str, Run]:
    """Of the first execution, by name."""
    client = MlflowClient(address)
    parents = client.search_runs(["1"], "tags.`gwainet.pipeline_key` = 'pages/1'")
    children = client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{parents[0].info.run_id}'")
    return {run.info.run_name: run for run in [*parents, *children]}


def test_every_page_from_the_experiment_to_the_champion_can_be_read_and_shows_what_it_is_for(
    browser: Browser, address: str, album: Album, runs: dict[str, Run]
):
    stages = [f"{name}@{variant}" if variant else name for name, s in STAGES.items() for variant in s.variants or ("",)]
    assert runs.keys() == {"tiny seed-1", *stages}
    with Tour.begin(browser, address, album) as tour:
        tour.runs("tiny seed-1", stages)
        tour.parent(
            runs["tiny seed-1"],
            [
                "register_model",
                "train_baselines@gfrnet_landmarks",  # MLflow lists the last ten children; the others are a click away
                "train_psnr.guided.final.psnr",
                "register_model.test.psnr_over_bicubic",
                "tiny",
            ],
        )
        training = runs["train_psnr@guided"]
        steps = [
            metric.step for metric in MlflowClient(address).get_metric_history(training.info.run_id, "validation.psnr")
        ]
        assert len(steps) >= 4
        tour.curves(training, ["content", "validation.psnr"])
        tour.series("samples", steps)
        tour.benchmark(
            runs["benchmark"], ["Benchmark of the profile tiny", "No verdict whether GWAInet is better than"]
        )
        tour.model(
            NAME,
            {"previous": "1", "champion": "2", "challenger": "3"},
            ["Exemplar-guided 8x face super-resolution", "gwainet.variant", "test.psnr", "over bicubic"],
        )
        tour.version(
            NAME,
            "2",
            "champion",
            [
                "8x face super-resolution with another photo",
                "GWAInet-R",
                "gwainet.promoted_because",
                "try 2",
                "test.psnr_over_bicubic",
            ],
        )
