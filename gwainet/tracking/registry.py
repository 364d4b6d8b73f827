"""The model registry: a trained generator as an MLflow model that loads anywhere, and its versions."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path

import mlflow.pyfunc
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

import gwainet
from gwainet.errors import TrackingError
from gwainet.files import file_digest, tree_digest
from gwainet.images import Uint8
from gwainet.params import SCALE
from gwainet.recorder import Recorder
from gwainet.tracking.execution import shown
from gwainet.tracking.outbox import brief, now_ms
from gwainet.tracking.runs import RunRecorder

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"

# Files of the benchmark that go with the run that registers a model: the gate reads the table.
TABLE = "benchmark.csv"
REPORT = ("benchmark.html", "benchmark.json", TABLE, "grid.png")

EXAMPLE_SIDE = 4  # pixels of the low-resolution example: as JSON it is read by people

# What the served package imports. Versions are pinned to those that the benchmark ran with.
REQUIREMENTS = ("mlflow", "torch", "numpy", "pillow", "safetensors", "pydantic", "ruamel.yaml")

# What the served generator imports of this package: nothing else travels with a model.
SERVED = ("__init__.py", "py.typed", "errors.py", "files.py", "images.py", "nets", "params.py", "tensors.py")
PACKAGE = Path(gwainet.__file__).parent
PREDICT = Path(__file__).with_name("served.py")


@dataclass(frozen=True)
class Candidate:
    """What is to be registered.

    Attributes:
        name: of the registered model.
        weights: the generator's safetensors file.
        guided: whether it takes a guide.
        report: the benchmark's directory; `benchmark.json` goes with the model.
        metrics: headline figures, such as `test.psnr`.
        shown: names of those that are tags of the version, too: its page lists every tag, so only a few.
        tags: facts to search versions by, such as `variant`; they get the prefix `gwainet.`.
        description: in Markdown, shown on the version's page.
    """

    name: str
    weights: Path
    guided: bool
    report: Path
    metrics: Mapping[str, float]
    shown: Sequence[str]
    tags: Mapping[str, str]
    description: str


@dataclass(frozen=True)
class Registered:
    """A version in the registry.

    Attributes:
        version: its number.
        uri: `models:/<name>/<version>`.
        run_id: of the run that made it.
        model_id: of MLflow's logged model.
        weights_digest: SHA-256 of the weights file.
        report_digest: SHA-256 over the report's files.
        reused: whether it had been registered before.
    """

    version: str
    uri: str
    run_id: str
    model_id: str
    weights_digest: str
    report_digest: str
    reused: bool


def register(candidate: Candidate, recorder: Recorder) -> Registered:
    """Log a model to the recorder's run and register it as a new version, the `challenger`.

    The same weights with the same report, served by the same code, are not registered twice: their version is returned.

    Raises:
        TrackingError: the recorder has no MLflow run, or the server refuses.
    """
    if not isinstance(recorder, RunRecorder):
        raise TrackingError(
            "a model can only be registered from a stage that MLflow tracks: run `python -m gwainet register_model`, "
            "or give it the recorder of `gwainet.tracking.stage_run`"
        )
    client = recorder.client
    try:
        with default_store(client.tracking_uri):
            return _register(candidate, recorder)
    except Exception as error:
        raise TrackingError(
            f"MLflow at {shown(client.tracking_uri)} did not register {candidate.name}: {brief(error)}. Nothing was "
            "promoted; run register_model again when it is back"
        ) from error


@contextmanager
def default_store(uri: str) -> Iterator[None]:
    """Make a store MLflow's own: a registry in SQLite looks there for the model, not in its client's store."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before


def _register(candidate: Candidate, recorder: RunRecorder) -> Registered:
    client = recorder.client
    weights_digest, report_digest = file_digest(candidate.weights), tree_digest(candidate.report)
    digests = {
        "gwainet.weights_digest": weights_digest,
        "gwainet.report_digest": report_digest,
        "gwainet.served_digest": served_digest(),
    }
    known = _known(client, candidate.name, digests)
    if known is not None:
        if str(known.version) != _version_of(client, candidate.name, CHAMPION):
            client.set_registered_model_alias(candidate.name, CHALLENGER, known.version)
        return _registered(known, weights_digest, report_digest, reused=True)
    tags = {  # in the order of the page
        **{name: f"{candidate.metrics[name]:.4f}" for name in candidate.shown},
        **{f"gwainet.{name}": value for name, value in candidate.tags.items()},
        "gwainet.commit": recorder.code.commit,
        "gwainet.dirty": str(bool(recorder.code.changes)).lower(),
        **digests,
    }
    model_id = _log(candidate, recorder, tags)
    try:
        client.create_registered_model(candidate.name, description="Exemplar-guided 8x face super-resolution (GWAInet)")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(
        candidate.name,
        f"models:/{model_id}",
        run_id=recorder.run_id,
        model_id=model_id,
        tags=tags,  # with the version, so that none is ever without the digests that make it findable
        description=candidate.description,
    )
    client.set_registered_model_alias(candidate.name, CHALLENGER, made.version)
    return _registered(made, weights_digest, report_digest, reused=False)


def _log(candidate: Candidate, recorder: RunRecorder, tags: Mapping[str, str]) -> str:
    """Log the model; its id. Not by MLflow's fluent calls: they would end the run, which is the recorder's affair."""
    client = recorder.client
    logged = client.create_logged_model(
        recorder.experiment_id,
        name=candidate.name,
        source_run_id=recorder.run_id,
        tags=dict(tags),
        model_type="generator",
    )
    model_id: str = logged.model_id
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            save(candidate, folder, Model(logged.artifact_location, recorder.run_id, model_id=model_id))
            client.log_model_artifacts(model_id, str(folder))
    except BaseException:
        client.finalize_logged_model(model_id, "FAILED")
        raise
    client.finalize_logged_model(model_id, "READY")
    client.log_outputs(recorder.run_id, [LoggedModelOutput(model_id, step=0)])
    now = now_ms()
    metrics = [Metric(name, value, now, 0, model_id=model_id) for name, value in candidate.metrics.items()]
    client.log_batch(recorder.run_id, metrics=metrics)
    return model_id


def save(candidate: Candidate, folder: Path, model: Model) -> None:
    """Write the model's directory: code, weights as safetensors, signature, example, pinned requirements."""
    with tempfile.TemporaryDirectory() as temporary:
        package = Path(temporary) / "gwainet"
        for file in _served_files():
            copy = package / file.relative_to(PACKAGE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, copy)
        mlflow.pyfunc.save_model(
            folder,
            mlflow_model=model,
            python_model=str(PREDICT),
            artifacts={
                "weights": str(candidate.weights),
                "benchmark": str(candidate.report / "benchmark.json"),
            },
            code_paths=[str(package)],
            signature=signature(candidate.guided),
            input_example=example(candidate.guided),
            pip_requirements=requirements(),
        )
    for cache in folder.rglob("__pycache__"):
        shutil.rmtree(cache)


def _served_files() -> list[Path]:
    places = [PACKAGE / name for name in SERVED]
    return sorted(file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place]))


def served_digest() -> str:
    """SHA-256 over the code that travels with a model."""
    lines = [f"{file.relative_to(PACKAGE).as_posix()}\0{file_digest(file)}\n" for file in _served_files()]
    return hashlib.sha256("".join([*lines, file_digest(PREDICT)]).encode()).hexdigest()


def signature(guided: bool) -> ModelSignature:
    """Of the served model: any batch, any size.

    MLflow knows no optional tensor, so a model without a guide asks for `lr` alone; a `guide` sent to it is dropped.
    """
    names = ("lr", "guide") if guided else ("lr",)
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3), name) for name in names]),
        outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3), "sr")]),
    )


def example(guided: bool) -> dict[str, Uint8]:
    """A small input, made of noise: a face of the data set must not travel with every copy of the model."""
    random = np.random.default_rng(0)
    low = random.integers(0, 256, (1, EXAMPLE_SIDE, EXAMPLE_SIDE, 3), np.uint8)
    guide = random.integers(0, 256, (1, EXAMPLE_SIDE * SCALE, EXAMPLE_SIDE * SCALE, 3), np.uint8)
    return {"lr": low, "guide": guide} if guided else {"lr": low}


def requirements() -> list[str]:
    """Pinned to what is installed here, without a local suffix such as `+cpu`, which no index has."""
    return [f"{name}=={installed_version(name).partition('+')[0]}" for name in REQUIREMENTS]


def _known(client: MlflowClient, name: str, digests: Mapping[str, str]) -> ModelVersion | None:
    """The latest version with these digests."""
    wanted = [f"name = '{name}'", *(f"tags.`{tag}` = '{digest}'" for tag, digest in digests.items())]
    found = client.search_model_versions(" and ".join(wanted))
    return max(found, key=lambda version: int(version.version), default=None)


def _version_of(client: MlflowClient, name: str, alias: str) -> str | None:
    # search_model_versions leaves the aliases out
    number = client.get_registered_model(name).aliases.get(alias)
    return None if number is None else str(number)


def _registered(found: ModelVersion, weights_digest: str, report_digest: str, reused: bool) -> Registered:
    return Registered(
        version=str(found.version),
        uri=f"models:/{found.name}/{found.version}",
        run_id=found.run_id,
        model_id=found.source.removeprefix("models:/"),
        weights_digest=weights_digest,
        report_digest=report_digest,
        reused=reused,
    )
