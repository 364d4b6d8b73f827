"""`promote` and `rollback` as a user runs them, with a real registry; figures are planted where none are measured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

import gwainet
from gwainet.__main__ import app
from gwainet.dataset import Faces
from gwainet.evaluation.measure import metric_code_digest
from gwainet.files import write_json
from gwainet.metrics import psnr
from gwainet.nets.model import load_generator
from gwainet.params import Params
from gwainet.stages import STAGES
from gwainet.tracking import Task, runs
from gwainet.tracking.registry import register
from tests.faces import write_faces
from tests.tracking.conftest import client, migrated, root  # noqa: F401  fixtures
from tests.tracking.models import candidate

PEOPLE, IMAGES = 32, 2
PACKAGE = Path(gwainet.__file__).parent
PARAMS: dict[str, Any] = {
    "register_model": {"name": "faces"},
    "benchmark": {"batch_size": 4},
    "promotion": {"bootstrap_samples": 200, "latency_rounds": 3, "largest_latency_ratio": 100.0},
    "runtime": {"device": "cpu", "threads": 1, "workers": 1},
}


@pytest.fixture
def call(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:  # noqa: F811
    """The command line in the project's root."""
    torch.set_num_threads(1)
    monkeypatch.setenv("COLUMNS", "160")
    with (root / "params.yaml").open("w") as file:
        YAML(typ="safe").dump({"profile": "tiny", "base": PARAMS, "profiles": {"tiny": {}}}, file)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def figures(shift: float = 0.0, right_guide: float = 1.0, skip: int = 0) -> pd.DataFrame:
    """Rows as of `benchmark.csv`: a guided model 1 dB above bicubic, and `shift` more."""
    count = PEOPLE * IMAGES
    bicubic = np.random.default_rng(0).normal(25.0, 1.0, count)
    of = {"bicubic": bicubic, "gwainet": bicubic + 1 + shift, "gwainet-r": bicubic + 1 + shift - right_guide}
    parts = [
        pd.DataFrame(
            {
                "split": "test",
                "row": np.arange(count),
                "identity": np.repeat(
                    [f"{i:04d}" for i in range(PEOPLE)], IMAGES
                ),  # text, though it looks like numbers
                "source_file": [f"{i}.png" for i in range(count)],
                "guide_row": -1 if system == "bicubic" else np.arange(count) ^ 1,
                "system": system,
                "psnr": values,
                "ssim": values / 40,
                "lr_psnr": values + 10,
            }
        ).iloc[skip:]
        for system, values in of.items()
    ]
    return pd.concat(parts, ignore_index=True)


def register_version(place: Path, seed: int, table: pd.DataFrame | None, **tags: str) -> str:
    """A version of untrained weights, the challenger, with planted figures."""
    folder = place / f"model-{seed}"
    folder.mkdir()
    known = {"variant": "gwainet", "data_digest": "abc", "metric_code_digest": "def", **tags}
    task = Task("register_model", None, Params(profile="tiny"), ("register_model",), place, {}, place / "out")
    with runs.stage_run(task) as recorder:
        registered = register(candidate(folder, seed=seed, tags=known), recorder)
        if table is not None:
            table.to_csv(folder / "benchmark.csv", index=False)
            recorder.artifact(folder / "benchmark.csv", "benchmark")
    return registered.version


def standing(client: MlflowClient) -> dict[str, str]:  # noqa: F811
    return {alias: str(number) for alias, number in client.get_registered_model("faces").aliases.items()}


def plain(result: Result) -> str:
    return " ".join(result.output.split())


def test_from_the_first_champion_to_a_better_one_and_back(
    root: Path,  # noqa: F811
    client: MlflowClient,  # noqa: F811
    call: Callable[..., Result],
):
    register_version(root, 0, figures())
    shown = call("promote")
    assert shown.exit_code == 0, shown.output
    assert "may become champion: nothing was changed; add --yes" in plain(shown)
    assert standing(client) == {"challenger": "1"}
    assert call("promote", "--yes", "--reason", "the first").exit_code == 0
    assert standing(client) == {"champion": "1"}
    register_version(root, 1, figures(0.2))
    done = call("promote", "--yes", "--reason", "sharper", "--json")
    assert done.exit_code == 0
    assert standing(client) == {"champion": "2", "previous": "1"}
    answer = json.loads(done.stdout)
    verdict = answer["verdict"]
    assert (answer["promoted"], verdict["passed"]) == (True, True)
    assert (verdict["challenger"], verdict["champion"]) == ("models:/faces/2", "models:/faces/1")
    assert (verdict["images"], verdict["identities"]) == (PEOPLE * IMAGES, PEOPLE)
    (gain,) = [check for check in verdict["checks"] if check["name"] == "psnr"]
    assert gain["difference"]["mean"] == pytest.approx(0.2, abs=1e-6)
    version = client.get_model_version("faces", "2")
    assert version.tags["gwainet.promoted_because"] == "sharper"
    assert json.loads(version.tags["gwainet.verdict"]) == verdict
    kept = client.download_artifacts(version.run_id, "promotion/over-1/verdict.json", str(root))
    assert json.loads(Path(kept).read_text()) == verdict
    back = call("rollback", "--reason", "too sharp", "--json")
    assert back.exit_code == 0
    assert json.loads(back.stdout) == {"champion": "models:/faces/1", "previous": "models:/faces/2"}
    assert standing(client) == {"champion": "1", "previous": "2"}


def test_a_worse_model_is_refused_with_a_table_of_reasons_and_nothing_changes(
    root: Path,  # noqa: F811
    client: MlflowClient,  # noqa: F811
    call: Callable[..., Result],
):
    register_version(root, 0, figures())
    assert call("promote", "--yes").exit_code == 0
    register_version(root, 1, figures(-0.2, right_guide=-0.1))
    refused = call("promote", "--yes")
    assert refused.exit_code == 3
    text = plain(refused)
    assert "models:/faces/2 against models:/faces/1: 64 test faces of 32 people" in text
    for reason in (
        "- psnr: it is worse: -0.2 [-0.2, -0.2]",
        "- ssim: it is worse",
        "- use of its guide: -0.1 [-0.1, -0.1]",
    ):
        assert reason in text
    assert standing(client) == {"champion": "1", "challenger": "2"}
    assert "gwainet.verdict" not in client.get_model_version("faces", "2").tags
    assert json.loads(call("promote", "--json").stdout)["verdict"]["passed"] is False
    # who is champion can be changed only by who passes; a threshold can be
    asked = (
        "largest_loss.psnr=1",
        "largest_loss.ssim=1",
        "primary=ssim",
        "largest_loss.guide_gain=9",
        "least_gain=0.0",
    )
    sets = [part for value in asked for part in ("--set", f"promotion.{value}")]
    assert call("promote", *sets).exit_code == 3


def test_what_cannot_be_judged_exits_with_1(
    root: Path,  # noqa: F811
    client: MlflowClient,  # noqa: F811
    call: Callable[..., Result],
):
    for command in ("promote", "rollback"):
        result = call(command)
        assert result.exit_code == 1
        assert "there is no registered model faces" in plain(result)
    register_version(root, 0, figures())
    assert "there is nothing to roll back" in plain(call("rollback"))
    assert call("promote", "--yes").exit_code == 0
    result = call("promote")
    assert result.exit_code == 1
    assert "no version with the alias challenger (the champion is models:/faces/1)" in plain(result)
    assert "is the champion: nothing to do" in plain(call("promote", "1"))
    place = client.get_model_version("faces", "1").source
    weights = next(root.glob(f"mlruns/**/{place.removeprefix('models:/')}/artifacts/artifacts/weights.safetensors"))
    weights.write_bytes((root / "model-0" / "0-True" / "weights.safetensors").read_bytes()[:-1])
    register_version(root, 1, figures(0.1))
    result = call("promote")
    assert result.exit_code == 1
    assert "the weights of models:/faces/1 are not those that were registered" in plain(result)


def test_a_promotion_that_was_cut_off_before_its_last_alias_is_finished(
    root: Path,  # noqa: F811
    client: MlflowClient,  # noqa: F811
    call: Callable[..., Result],
):
    register_version(root, 0, figures())
    client.set_registered_model_alias("faces", "champion", "1")
    assert "add --yes to finish it" in plain(call("promote"))
    assert standing(client) == {"champion": "1", "challenger": "1"}
    done = call("promote", "--yes")
    assert (done.exit_code, standing(client)) == (0, {"champion": "1"})


@pytest.mark.parametrize(
    ("table", "tags", "why"),
    [
        (figures(0.2), {"data_digest": "other"}, "their figures are of different data"),
        (figures(0.2), {"metric_code_digest": "other"}, "their figures are of different code that measures"),
        (figures(0.2), {"metric_code_digest": ""}, "models:/faces/2 does not say of which code that measures"),
        (None, {}, "the run of models:/faces/2 has no benchmark/benchmark.csv"),
        (figures(0.2, skip=2), {}, "their benchmarks are of different faces"),
        (figures(0.2).assign(split="validation"), {}, "the benchmark of models:/faces/2 has no test faces"),
    ],
)
def test_figures_that_do_not_compare_are_measured_anew_or_nothing_is_decided(
    root: Path,  # noqa: F811
    client: MlflowClient,  # noqa: F811
    call: Callable[..., Result],
    table: pd.DataFrame | None,
    tags: dict[str, str],
    why: str,
):
    register_version(root, 0, figures())
    client.set_registered_model_alias("faces", "champion", "1")
    register_version(root, 1, table, **tags)
    result = call("promote", "--yes")
    assert result.exit_code == 1
    assert why in plain(result)
    assert "cannot be measured anew here" in plain(result)
    assert "dvc pull" in plain(result)
    assert standing(client) == {"champion": "1", "challenger": "2"}


def test_measured_anew_both_models_answer_for_the_same_test_faces_of_the_project(
    root: Path,  # noqa: F811
    client: MlflowClient,  # noqa: F811
    call: Callable[..., Result],
):
    paths = STAGES["register_model"].paths("tiny", root=root)
    write_faces(paths["faces"], identities={"train": 2, "validation": 2, "test": 3}, images=3)
    faces = Faces(paths["faces"])
    register_version(root, 0, figures())
    client.set_registered_model_alias("faces", "champion", "1")
    register_version(root, 1, figures(0.2), data_digest="other")
    assert "run check_faces first" in plain(call("promote"))
    write_json(paths["passed"], {"format": 1, "digest": faces.digest, "expectations": 1})
    result = call("promote", "--json", "--set", "promotion.least_people=3")
    assert result.exit_code == 3  # untrained: far below bicubic
    verdict = json.loads(result.stdout)["verdict"]
    assert verdict["measured"].startswith("anew on cpu: their figures are of different data")
    assert (verdict["data_digest"], verdict["metric_code_digest"]) == (faces.digest, metric_code_digest())
    assert (verdict["images"], verdict["identities"]) == (9, 3)
    checks = {check["name"]: check for check in verdict["checks"]}
    assert checks["PSNR over bicubic"]["passed"] is False
    rows = faces.targets("test")
    for role, seed in (("champion", 0), ("challenger", 1)):
        generator = load_generator(root / f"model-{seed}" / f"{seed}-True" / "weights.safetensors", torch.device("cpu"))
        low, guide = np.array(faces.lr[rows]), np.array(faces.hr[faces.guide_row[rows]])
        answers = generator.super_resolve(low, guide).sr
        wanted = np.mean([psnr(sr, np.array(faces.hr[row])) for sr, row in zip(answers, rows, strict=True)])
        assert checks["psnr"][role] == pytest.approx(wanted, abs=1e-3)


def test_the_code_that_measures_is_all_that_the_measuring_imports():
    """A file that shapes a figure and is left out of the digest would let figures of different code be compared."""
    from gwainet.evaluation.measure import MEASURING
    from tests.test_contract import module_path, reached_from

    frame = {"errors.py", "files.py", "params.py", "progress.py", "workers.py", "recorder.py"}
    used = set()
    for module, names in reached_from("gwainet.evaluation.measure", "measure").items():
        path = module_path(module)
        assert path is not None
        if names and path.name != "__init__.py":
            used.add(path.relative_to(PACKAGE).as_posix())
    covered = {name for name in used if name in MEASURING or name.split("/")[0] in MEASURING}
    assert used - covered - frame == set()
    assert {name for name in MEASURING if not any(one == name or one.startswith(f"{name}/") for one in used)} == set()
