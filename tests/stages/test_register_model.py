import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from gwainet.dataset import Faces
from gwainet.errors import CheckpointError, ContractError, DataError, TrackingError
from gwainet.evaluation.measure import metric_code_digest
from gwainet.evaluation.report import BenchmarkReport
from gwainet.evaluation.systems import MODELS
from gwainet.files import file_digest, write_json
from gwainet.nets.model import Metadata, build_generator, save_weights
from gwainet.params import Params, check_params
from gwainet.recorder import NullRecorder
from gwainet.stages import STAGES, benchmark
from gwainet.stages.register_model import run
from gwainet.tracking import Task, registry, stage_run
from tests.baselines.untrained import write_untrained
from tests.faces import write_faces
from tests.tracking.conftest import client, migrated, root  # noqa: F401  fixtures

STAGE = STAGES["register_model"]


def make_params(variant: str = "gwainet") -> Params:
    return check_params(
        {
            "profile": "tiny",
            "networks": {"width": 8, "blocks_per_group": 1, "warp_blocks": 1},
            "benchmark": {"bootstrap_samples": 20, "grid_faces": 1, "max_faces": 2},
            "register_model": {"name": "faces", "variant": variant},
            "runtime": {"device": "cpu", "threads": 1, "workers": 1},
        }
    )


def write_weights(path: Path, faces: Faces, guided: bool, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    networks = make_params().networks
    generator = build_generator(networks, faces.means, guided, seed)
    save_weights(path, generator, Metadata("generator", networks, faces.means, faces.height, faces.width, guided))


@pytest.fixture(scope="module")
def benchmarked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all stages before this one leave, with untrained networks."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("benchmarked")
    paths = STAGES["benchmark"].paths("tiny", root=place)
    write_faces(paths["faces"], identities={"train": 2, "validation": 2, "test": 2}, images=2)
    faces = Faces(paths["faces"])
    write_json(paths["passed"], {"format": 1, "digest": faces.digest, "expectations": 1})
    for seed, model in enumerate(MODELS.values()):
        write_weights(paths[model.folder] / model.variant / "weights.safetensors", faces, model.guided, seed)
    write_untrained(paths["baselines"], faces)
    benchmark.run(make_params(), **paths, recorder=NullRecorder())
    return place


@dataclass
class World:
    """A project with everything benchmarked, in a store of its own."""

    root: Path

    @property
    def paths(self) -> dict[str, Path]:
        return STAGE.paths("tiny", root=self.root)

    def weights(self, variant: str = "gwainet") -> Path:
        return self.paths["adversarial"] / variant / "weights.safetensors"

    def register(self, variant: str = "gwainet") -> dict[str, object]:
        params, paths = make_params(variant), self.paths
        task = Task(STAGE.name, None, params, STAGE.sections, self.root, {}, paths["out"])
        with stage_run(task) as recorder:
            run(params, **paths, recorder=recorder)
        return dict(json.loads((paths["out"] / "registered.json").read_text()))


@pytest.fixture
def world(root: Path, benchmarked: Path) -> World:  # noqa: F811
    shutil.copytree(benchmarked, root, dirs_exist_ok=True)
    return World(root)


@pytest.mark.parametrize("variant", ["gwainet", "banet"])
def test_the_chosen_variant_is_registered_with_its_benchmark(world: World, client: MlflowClient, variant: str):  # noqa: F811
    written = world.register(variant)
    faces = Faces(world.paths["faces"])
    version = client.get_model_version_by_alias("faces", "challenger")
    assert written == {
        "format": 1,
        "name": "faces",
        "version": str(version.version),
        "uri": f"models:/faces/{version.version}",
        "variant": variant,
        "run_id": version.run_id,
        "model_id": version.source.removeprefix("models:/"),
        "weights_digest": file_digest(world.weights(variant)),
        "report_digest": version.tags["gwainet.report_digest"],
        "data_digest": faces.digest,
        "params_digest": make_params(variant).digest(),
    }
    report = BenchmarkReport.model_validate_json((world.paths["report"] / "benchmark.json").read_text())
    (own,) = [system for system in report.systems if system.system == variant]
    assert version.tags["test.psnr"] == f"{own.splits['test']['psnr'].mean:.4f}"
    assert float(version.tags["test.psnr_over_bicubic"]) == pytest.approx(
        next(p for p in report.comparisons if (p.a, p.b) == (variant, "bicubic")).splits["test"]["psnr"].mean, abs=1e-4
    )
    assert not [name for name in version.tags if name.startswith("validation.")]
    assert (version.tags["gwainet.variant"], version.tags["gwainet.data_digest"]) == (variant, faces.digest)
    assert version.tags["gwainet.metric_code_digest"] == report.metric_code_digest == metric_code_digest()
    assert f"| {own.title} &ensp;| {own.splits['test']['psnr'].mean:.3f} [" in version.description
    first = (
        f"{own.splits['test']['psnr'].mean:.2f} dB, {float(version.tags['test.psnr_over_bicubic']):+.2f} over bicubic"
    )
    assert version.description.startswith(first)
    assert ("guide" in version.description.split("```")[1]) == (variant == "gwainet")
    assert "- psnr: dB" in version.description
    assert "slices" not in version.description
    logged = {file.path for file in client.list_artifacts(version.run_id, "benchmark")}
    assert logged == {f"benchmark/{name}" for name in registry.REPORT}
    assert client.get_run(version.run_id).data.tags["gwainet.model"] == written["uri"]


def test_of_several_seeds_the_first_one_is_registered(world: World, client: MlflowClient):  # noqa: F811
    faces, folder = Faces(world.paths["faces"]), world.weights().parent / "seeds"
    before = world.register()
    write_weights(folder / "1/weights.safetensors", faces, guided=True, seed=11)
    write_json(folder / "seeds.json", {"seeds": [0, 1]})
    benchmark.run(make_params(), **STAGES["benchmark"].paths("tiny", root=world.root), recorder=NullRecorder())
    report = BenchmarkReport.model_validate_json((world.paths["report"] / "benchmark.json").read_text())
    assert report.models["gwainet@1"].weights_digest == file_digest(folder / "1/weights.safetensors")
    after = world.register()
    assert before["weights_digest"] == after["weights_digest"] == report.models["gwainet"].weights_digest
    tags = [client.get_model_version("faces", str(one["version"])).tags for one in (before, after)]
    figures = [{name: value for name, value in tag.items() if name.startswith("test.")} for tag in tags]
    assert figures[0] == figures[1] != {}


def test_running_again_registers_nothing_new_and_says_so(
    world: World,
    client: MlflowClient,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
):
    first = world.register()
    capsys.readouterr()
    assert world.register() == first
    assert "no new version was made" in capsys.readouterr().err.replace("\n", " ")
    assert len(client.search_model_versions("name = 'faces'")) == 1


def test_without_tracking_nothing_is_registered_or_written(world: World):
    with pytest.raises(TrackingError, match="MLflow tracks"):
        run(make_params(), **world.paths, recorder=NullRecorder())
    assert not world.paths["out"].exists()


def _new_weights(world: World) -> None:
    write_weights(world.weights(), Faces(world.paths["faces"]), guided=True, seed=99)


def _unchecked(world: World) -> None:
    write_json(world.paths["passed"], {"format": 1, "digest": "of others", "expectations": 1})


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (_new_weights, DataError, "run benchmark again"),
        (lambda world: (world.paths["report"] / "benchmark.json").unlink(), DataError, "run benchmark again"),
        (lambda world: (world.paths["report"] / "benchmark.json").write_text("{}"), DataError, "run benchmark again"),
        (lambda world: world.weights().write_bytes(b"half"), CheckpointError, "safetensors"),
        (_unchecked, ContractError, "check_faces"),
    ],
)
def test_what_does_not_belong_together_is_refused_before_anything_is_registered(
    world: World,
    client: MlflowClient,  # noqa: F811
    spoil: Callable[[World], object],
    error: type[Exception],
    message: str,
):
    spoil(world)
    with pytest.raises(error, match=message):
        world.register()
    assert client.search_registered_models() == []
