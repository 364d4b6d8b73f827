"""From Kubeflow's artifacts to a stage's paths and back: the only code between a component and its stage.

A stage reads an artifact where kfp put it, and writes into the artifact `out`. Needs no kfp.
"""

import html
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
from PIL import Image

from gwainet.errors import ParamsError, TrackingError
from gwainet.files import staged_file
from gwainet.params import Params, check_params, flatten
from gwainet.report import stage_page
from gwainet.stages import STAGES, Stage
from gwainet.tracking.execution import kubeflow_key

# stage -> its file of facts, and the names shown of it (none: all). Trainings write metrics.json.
FACTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "fetch_faces": ("source.json", ("source", "photos", "identities", "licence")),
    "prepare_faces": ("faces.json", ("images", "identities", "found", "rejected", "dropped", "digest")),
    "check_faces": ("validation.json", ("passed", "counts", "digest")),
    "register_model": ("registered.json", ("name", "version", "uri", "variant")),
}
PAGES = {"check_faces": "report.html", "benchmark": "benchmark.html"}  # a stage that writes a page of its own


RUNTIME = "GWAINET_RUNTIME"  # the params section `runtime`, as JSON: not an argument, on which Kubeflow's cache depends


class Artifact(Protocol):
    """A kfp artifact: a file or a directory at `path`."""

    path: str
    metadata: dict[str, Any]


class Metrics(Artifact, Protocol):
    """kfp's metrics."""

    def log_metric(self, metric: str, value: float) -> None:
        """Show a number on Kubeflow's page."""


def run(
    name: str,
    params: str,
    root: str,
    out: Artifact,
    metrics: Metrics,
    page: Artifact,
    variant: str | None = None,
    trainjob: str = "",
    **inputs: Artifact | None,
) -> None:
    """Run a stage on artifacts.

    Args:
        name: of the stage.
        params: JSON of `profile` and the params sections that the stage reads.
        root: holds `data/source/<profile>/` and `.gwainet/`, the checkpoints: the project's root, or where volumes are
            mounted in a pod.
        out: becomes the directory that the stage writes.
        metrics: gets the stage's numbers.
        page: becomes a page with its pictures and tables.
        variant: of a stage that has some.
        trainjob: the job that trains on several nodes (`pipeline.trainjob`); empty: this process does.
        inputs: argument of the stage -> artifact, or `<argument>_<variant>` where the stage reads several variants'
            outputs; None for one that the variant does not read.

    Raises:
        GwainetError: any error a user can meet.
    """
    settings, stage = settings_of(params), STAGES[name]
    with TemporaryDirectory() as scratch:
        paths = gather(stage, settings.profile, variant, Path(scratch), inputs)
        if "source" in paths:
            paths["source"] = stage.paths(settings.profile, variant, Path(root))["source"]
        paths["out"] = absolute(out)
        if trainjob:
            from components import launcher  # heavy

            where = launcher.execute(stage, trainjob, settings, variant, paths, Path(root))
        else:
            where = stage.execute(settings, variant, paths, Path(root))
    title = f"{name}@{variant}" if variant else name
    show(name, f"{title}, profile {settings.profile}", where, metrics, page, absolute(out))
    out.metadata["mlflow"] = where


def settings_of(params: str) -> Params:
    """The params of a task; in a pod, also the execution that it belongs to.

    Raises:
        TrackingError: a pod was not told of MLflow.
        ParamsError: the params are not what this version of the code knows.
    """
    if execution := os.environ.get("KFP_RUN_ID"):  # in a pod; `run-local` sets the key itself
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            raise TrackingError(
                "MLFLOW_TRACKING_URI is not set in this pod, so its run and the registered model would be lost with "
                "it: name a secret that holds it under `mlflow` in cluster.yaml, or enable Kubeflow's MLflow plugin"
            )
        os.environ["GWAINET_PIPELINE_KEY"] = kubeflow_key(execution)
    values = _json(params)
    if runtime := os.environ.get(RUNTIME):
        values["runtime"] = _json(runtime)
    return check_params(values, "the pipeline's params")


def gather(
    stage: Stage, profile: str, variant: str | None, scratch: Path, inputs: Mapping[str, Artifact | None]
) -> dict[str, Path]:
    """Argument of the stage -> where it finds what the artifacts hold.

    An artifact is the directory that a stage wrote. Where a stage looks into one directory for several variants, theirs
    are copied there: they are models, and links would not do (MLflow takes none).
    """
    paths = stage.paths(profile, variant, scratch)
    for name, artifact in inputs.items():
        if artifact is None:
            continue
        argument, _, part = name.partition("_")
        if part:
            shutil.copytree(absolute(artifact), paths[argument] / part)
        else:
            file = paths[argument].name if paths[argument].suffix else ""
            paths[argument] = absolute(artifact) / file
    return paths


def show(name: str, title: str, where: str, metrics: Metrics, page: Artifact, out: Path) -> None:
    """Fill in what Kubeflow's page shows of a stage that wrote `out`."""
    file, names = FACTS.get(name, ("metrics.json", ()))
    values = json.loads((out / file).read_text(encoding="utf-8"))
    facts = flatten({key: values[key] for key in names or values})
    numbers = {
        key: float(value)
        for key, value in facts.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    log_metrics(metrics, numbers)
    with staged_file(Path(page.path)) as partial:
        if name in PAGES:
            made = (out / PAGES[name]).read_text(encoding="utf-8")
            head, body, rest = made.partition("<body>")  # the stage's own page knows no run: it is the same for all
            partial.write_text(f"{head}{body}<p>{_link(where)}</p>{rest}", encoding="utf-8")
        else:
            samples = out / "samples.png"
            picture = np.array(Image.open(samples).convert("RGB")) if samples.exists() else None
            partial.write_text(stage_page(title, where, facts, picture), encoding="utf-8")


def log_metrics(metrics: Metrics, numbers: Mapping[str, float]) -> None:
    """Show numbers on Kubeflow's page."""
    for key, number in numbers.items():
        metrics.log_metric(key, number)
    # kfp keeps metrics as metadata alone; its cache and its pages want a file too
    with staged_file(Path(metrics.path)) as partial:
        partial.write_text(json.dumps(numbers, sort_keys=True), encoding="utf-8")


def _link(where: str) -> str:
    """An address as a link, a sentence as it is."""
    text = html.escape(where)
    return f'MLflow: <a href="{text}">{text}</a>' if where.startswith("http") else text


def absolute(artifact: Artifact) -> Path:
    """Where an artifact lies."""
    return Path(artifact.path).resolve()


def _json(params: str) -> dict[str, object]:
    try:
        values = json.loads(params)
    except json.JSONDecodeError as error:
        raise ParamsError(f"the pipeline's params are not JSON ({error}): compile it again") from None
    if not isinstance(values, dict):
        raise ParamsError("the pipeline's params must be a JSON object: compile it again")
    return values
