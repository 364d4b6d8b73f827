import ast
import re
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from gwainet.errors import TrackingError
from gwainet.files import file_digest, tree_digest, write_json
from gwainet.params import Params
from gwainet.recorder import NullRecorder
from gwainet.tracking import Task, registry, runs
from gwainet.tracking.registry import Registered, register, requirements, served_digest, signature
from tests.tracking.models import candidate

PARAMS = Params(profile="demo")


def register_in_a_stage(root: Path, **changes: object) -> Registered:
    with runs.stage_run(Task("register_model", None, PARAMS, ("register_model",), root, {}, root / "out")) as recorder:
        return register(candidate(root, **changes), recorder)  # type: ignore[arg-type]


def challenger(client: MlflowClient) -> str:
    return str(client.get_model_version_by_alias("faces", "challenger").version)


def test_a_model_becomes_a_version_with_all_that_is_known_of_it(root: Path, client: MlflowClient):
    registered = register_in_a_stage(root)
    assert (registered.version, registered.uri, registered.reused) == ("1", "models:/faces/1", False)
    version = client.get_model_version_by_alias("faces", "challenger")
    assert version.version in (1, "1")
    assert (version.run_id, version.description) == (registered.run_id, "**A model**")
    made = candidate(root)
    assert {name: version.tags[name] for name in version.tags} == {
        "gwainet.variant": "gwainet",
        "gwainet.data_digest": "abc",
        "gwainet.commit": "unknown",
        "gwainet.dirty": "false",
        "gwainet.weights_digest": file_digest(made.weights),
        "gwainet.report_digest": tree_digest(made.report),
        "gwainet.served_digest": served_digest(),
        "test.psnr": "24.2500",
    }
    run = client.get_run(registered.run_id)
    assert run.info.status == "FINISHED"
    assert [output.model_id for output in run.outputs.model_outputs] == [registered.model_id]
    (model,) = client.search_logged_models([run.info.experiment_id], "metrics.`validation.psnr` > 24")
    assert (model.model_id, model.status) == (registered.model_id, "READY")


def test_a_model_is_registered_from_any_folder_and_nothing_is_written_there(
    root: Path, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    register_in_a_stage(root)
    assert challenger(client) == "1"
    assert not list((tmp_path / "elsewhere").iterdir())


def test_registering_leaves_the_stages_run_open(root: Path, client: MlflowClient):
    with runs.stage_run(Task("register_model", None, PARAMS, (), root, {}, root / "out")) as recorder:
        register(candidate(root), recorder)
        assert client.get_run(recorder.run_id).info.status == "RUNNING"
        recorder.metrics({"later": 1.0})
    assert client.get_run(recorder.run_id).data.metrics["later"] == 1.0


def test_the_same_weights_with_the_same_report_are_one_version(root: Path, client: MlflowClient):
    first, again = register_in_a_stage(root), register_in_a_stage(root)
    assert again.reused
    assert (again.version, again.run_id, again.model_id) == (first.version, first.run_id, first.model_id)
    assert len(client.search_model_versions("name = 'faces'")) == 1


def test_other_weights_or_another_report_are_a_new_version_and_the_challenger(root: Path, client: MlflowClient):
    assert register_in_a_stage(root).version == "1"
    assert register_in_a_stage(root, seed=1).version == "2"
    assert challenger(client) == "2"
    write_json(root / "report" / "benchmark.json", {"format": 1, "changed": True})
    assert register_in_a_stage(root).version == "3"
    assert challenger(client) == "3"


def test_the_same_weights_served_by_other_code_are_a_new_version(
    root: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
):
    assert register_in_a_stage(root).version == "1"
    mended = root / "served.py"
    mended.write_text(registry.PREDICT.read_text() + "# mended\n")
    monkeypatch.setattr(registry, "PREDICT", mended)
    assert register_in_a_stage(root).version == "2"
    assert challenger(client) == "2"


def test_weights_registered_before_challenge_again_unless_they_are_the_champion(root: Path, client: MlflowClient):
    for seed in (0, 1, 0):
        version = register_in_a_stage(root, seed=seed).version
        assert challenger(client) == version
    client.set_registered_model_alias("faces", "champion", "2")
    assert register_in_a_stage(root, seed=1).version == "2"
    assert challenger(client) == "1"


def test_without_a_tracked_run_nothing_can_be_registered(tmp_path: Path):
    with pytest.raises(TrackingError, match="python -m gwainet register_model"):
        register(candidate(tmp_path), NullRecorder())


def test_a_name_that_the_registry_refuses_is_said(root: Path, client: MlflowClient):
    with pytest.raises(TrackingError, match="did not register a/b"):
        register_in_a_stage(root, name="a/b")
    assert client.search_registered_models() == []


def test_the_model_asks_for_a_guide_only_where_it_needs_one():
    assert signature(guided=True).inputs.input_names() == ["lr", "guide"]
    assert signature(guided=False).inputs.input_names() == ["lr"]


def test_requirements_are_pinned_without_local_suffixes():
    for requirement in requirements():
        assert re.fullmatch(r"[a-z.]+==[0-9.a-z]+", requirement)


def test_the_served_code_is_what_the_model_needs_and_all_it_imports_is_required(root: Path, client: MlflowClient):
    registered = register_in_a_stage(root)
    folder = Path(client.get_logged_model(registered.model_id).artifact_location.removeprefix("file://"))
    files = {path.relative_to(folder / "code").as_posix() for path in (folder / "code").rglob("*") if path.is_file()}
    assert {"gwainet/__init__.py", "gwainet/nets/model.py", "gwainet/tensors.py"} <= files
    assert {file.split("/")[1] for file in files} == set(registry.SERVED)
    assert not [file for file in files if "__pycache__" in file]
    imported = set()
    for path in (*(folder / "code").rglob("*.py"), folder / "served.py"):
        tree = ast.parse(path.read_text())
        for node in [*ast.walk(tree)]:
            if isinstance(node, ast.Try) and "ImportError" in {ast.unparse(h.type) for h in node.handlers if h.type}:
                node.body = []  # what the code can do without
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    outside = {name for name in imported if name not in sys.stdlib_module_names and name != "gwainet"}
    required = {line.partition("==")[0] for line in (folder / "requirements.txt").read_text().splitlines()}
    assert {{"PIL": "pillow", "ruamel": "ruamel.yaml"}.get(name, name) for name in outside} <= required
