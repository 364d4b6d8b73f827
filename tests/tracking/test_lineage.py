"""The walk from a model back to what it was made of, and what it says of what is missing."""

import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rich.console import Console
from typer.testing import CliRunner

from gwainet.__main__ import app
from gwainet.errors import TrackingError
from gwainet.files import file_digest, tree_digest
from gwainet.tracking.lineage import Lineage, lineage, tree
from gwainet.tracking.registry import Registered
from tests.tracking.stages import children, stage


def printed(walk: Lineage) -> str:
    console = Console(width=400, highlight=False)
    with console.capture() as capture:
        console.print(tree(walk))
    return capture.get()


@pytest.fixture
def registered(root: Path, chain: tuple[Path, Registered]) -> Registered:
    """A copy of the chain in the test's own root."""
    shutil.copytree(chain[0], root, dirs_exist_ok=True)
    return chain[1]


def run_of(client: MlflowClient, name: str) -> str:
    return next(str(run.info.run_id) for run in children(client) if run.info.run_name == name)


STAGES = ["fetch_faces", "prepare_faces", "check_faces", "train_adversarial@gwainet", "benchmark", "register_model"]


def test_every_way_to_name_a_model_leads_to_the_same_complete_walk(root: Path, registered: Registered):
    uris = ["models:/faces/1", "models:/faces@challenger", f"models:/{registered.model_id}", registered.model_id]
    uris += [f"runs:/{registered.run_id}", f"runs:/{registered.run_id}/faces", registered.run_id]
    for uri in uris:
        walk = lineage(root, uri)
        assert sorted(step.stage for step in walk.steps.values()) == sorted(STAGES), uri
        assert walk.gaps == []
        assert walk.start == registered.run_id
        assert "complete: nothing is missing" in printed(walk)


def test_the_walk_holds_photos_code_params_and_digests(root: Path, registered: Registered):
    walk = lineage(root, registered.uri)
    steps = {step.stage: step for step in walk.steps.values()}
    photos = steps["fetch_faces"].source
    assert photos is not None
    assert (photos["source"], photos["licence"]) == ("folder", "research only")
    assert photos["files"][0]["sha256"] == file_digest(root / "raw" / "photos.zip")
    trained = steps["train_adversarial@gwainet"]
    assert trained.params == {"train_adversarial.lambda_id": {"value": "0.25", "default": "0.05"}}
    assert trained.outputs["weights.safetensors"] == walk.model["gwainet.weights_digest"]
    assert steps["register_model"].inputs["adversarial_gwainet"].run_id == trained.run_id
    assert steps["benchmark"].outputs["."] == tree_digest(root / "report") == walk.model["gwainet.report_digest"]
    assert steps["check_faces"].inputs["faces"].run_id == steps["prepare_faces"].run_id
    assert trained.inputs["passed"].run_id == steps["check_faces"].run_id
    assert (trained.commit, trained.changes) == ("unknown", "")  # no repository here
    text = printed(walk)
    for said in ("research only", "train_adversarial.lambda_id 0.25 (0.05)", "wrote the model's weights", "challenger"):
        assert said in text
    assert text.count(f"prepare_faces, run {steps['prepare_faces'].run_id} (see above)") == 2


def test_code_with_changes_is_said_to_have_some(root: Path, client: MlflowClient, registered: Registered):
    train = run_of(client, "train_adversarial@gwainet")
    for tag, value in (("gwainet.commit", "a" * 40), ("gwainet.dirty", "true"), ("gwainet.changes", "0123456789ab")):
        client.set_tag(train, tag, value)
    assert f"code {'a' * 40} with changes 0123456789ab" in printed(lineage(root, registered.uri))
    client.delete_tag(train, "gwainet.changes")
    assert "with changes unknown" in printed(lineage(root, registered.uri))


def test_a_deleted_run_is_a_gap_and_what_is_left_of_it_is_shown(
    root: Path, client: MlflowClient, registered: Registered
):
    prepare = run_of(client, "prepare_faces")
    client.delete_run(prepare)
    walk = lineage(root, registered.uri)
    assert len(walk.gaps) == 3  # three stages read its faces
    assert f"the run {prepare} wrote it, which was deleted" in walk.gaps[0]
    assert "fetch_faces" in {step.stage for step in walk.steps.values()}
    text = printed(walk)
    assert "which was deleted" in text
    assert "complete" not in text


def test_another_run_that_wrote_the_same_bytes_stands_in_for_a_deleted_one(
    root: Path, client: MlflowClient, registered: Registered
):
    checked = run_of(client, "check_faces")
    with stage(root, "check_faces", None, inputs={"faces": root / "faces"}, out=root / "checked") as again:
        pass
    client.delete_run(checked)
    walk = lineage(root, registered.uri)
    assert walk.gaps == []
    read = walk.steps[registered.run_id].inputs["passed"]
    assert (read.run_id, read.note) == (
        again.run_id,
        f"the run {checked} wrote it, which was deleted; this one wrote the same, later",
    )


def test_a_run_that_wrote_the_same_only_later_is_said_to_have(root: Path, client: MlflowClient, registered: Registered):
    checked = run_of(client, "check_faces")
    client.delete_tag(checked, "gwainet.output.passed.json")
    with stage(root, "check_faces", None, inputs={"faces": root / "faces"}, out=root / "checked") as again:
        pass
    read = lineage(root, registered.uri).steps[registered.run_id].inputs["passed"]
    assert read.run_id == again.run_id
    assert read.note == f"the run {checked} wrote it, which says so no longer; this one wrote the same, later"


def test_a_run_that_is_gone_for_good_is_a_gap(root: Path, client: MlflowClient, registered: Registered):
    train = run_of(client, "train_adversarial@gwainet")
    client.set_tag(registered.run_id, "gwainet.input.adversarial_gwainet.run", "0" * 32)
    client.set_tag(registered.run_id, "gwainet.input.adversarial_gwainet", "1" * 64)
    walk = lineage(root, registered.uri)
    assert any(f"the run {'0' * 32} wrote it, which is gone" in gap for gap in walk.gaps)
    assert train in walk.steps  # the benchmark read its weights too


def test_an_input_that_no_run_wrote_is_a_gap(root: Path, client: MlflowClient):
    (root / "foreign").mkdir()
    (root / "foreign" / "weights").write_text("from elsewhere")
    with stage(root, inputs={"wnet": root / "foreign"}) as recorder:
        pass
    walk = lineage(root, recorder.run_id)
    assert walk.gaps == [f"wnet of train_psnr@guided ({tree_digest(root / 'foreign')[:12]}): no run wrote it"]
    assert "no run wrote it" in printed(walk)


def test_weights_that_no_run_of_the_walk_wrote_are_a_gap(root: Path, client: MlflowClient, registered: Registered):
    client.delete_tag(run_of(client, "train_adversarial@gwainet"), "gwainet.output.weights.safetensors")
    assert any("no run of this walk wrote the model's weights" in gap for gap in lineage(root, registered.uri).gaps)


def test_a_run_that_read_what_it_wrote_and_two_that_read_each_other_end_the_walk(root: Path, client: MlflowClient):
    (root / "out").mkdir()
    (root / "out" / "weights").write_text("w")
    with stage(root) as itself:
        pass
    digest = tree_digest(root / "out")
    client.set_tag(itself.run_id, "gwainet.input.wnet", digest)
    client.set_tag(itself.run_id, "gwainet.input.wnet.run", itself.run_id)
    assert list(lineage(root, itself.run_id).steps) == [itself.run_id]
    with stage(root, variant="banet", inputs={"psnr": root / "out"}) as other:
        pass
    client.set_tag(itself.run_id, "gwainet.input.wnet.run", other.run_id)
    walk = lineage(root, itself.run_id)
    assert set(walk.steps) == {itself.run_id, other.run_id}
    assert "(see above)" in printed(walk)


@pytest.mark.parametrize(
    "uri", ["models:/faces/7", "models:/none/1", "models:/faces@champion", "m-none", "0" * 32, "x"]
)
def test_what_is_not_there_is_said_with_what_can_be_given(root: Path, registered: Registered, uri: str):
    with pytest.raises(TrackingError, match=r"was not found at .*models:/NAME/VERSION"):
        lineage(root, uri)


def test_without_any_run_nothing_is_made(root: Path):
    (root / "mlflow.db").unlink()
    with pytest.raises(TrackingError, match="there are no runs yet"):
        lineage(root, "models:/faces/1")
    assert not (root / "mlflow.db").exists()


def test_the_command_prints_the_tree_or_json(root: Path, registered: Registered):
    told = CliRunner().invoke(app, ["lineage", "models:/faces/1"])
    assert told.exit_code == 0
    assert max(map(len, told.stdout.splitlines())) > 120, "lines are whole where nobody looks at a terminal"
    assert f"made by register_model, run {registered.run_id}" in told.stdout
    document = json.loads(CliRunner().invoke(app, ["lineage", "models:/faces/1", "--json"]).stdout)
    assert document["gaps"] == []
    assert document["model"]["name"] == "faces"
    assert len(document["steps"]) == len(STAGES)
    missing = CliRunner().invoke(app, ["lineage", "models:/faces/7"])
    assert missing.exit_code == 1
