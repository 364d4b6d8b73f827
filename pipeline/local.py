"""The graph on this machine, with kfp's own local runners: a process or a container a stage, one after another."""

import os
import time
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from kfp import local

from components.adapter import RUNTIME
from gwainet.errors import PipelineError
from gwainet.params import Params
from gwainet.progress import say
from pipeline.cluster import ClusterSettings, Retries, Training
from pipeline.graph import build


def run_local(
    params: Params, cluster: ClusterSettings, root: Path, out: Path, retries: int = 0, image: str | None = None
) -> dict[str, Path]:
    """Run every stage; nothing is taken from a cache.

    Args:
        params: of the profile.
        cluster: its settings that need a cluster have no effect here.
        root: holds `data/source/<profile>/`, gets `.gwainet/` and MLflow's default store.
        out: gets a new folder for this run with all that the stages write.
        retries: how often a stage that ended badly is started again, at once.
        image: of the containers that the stages run in; None for processes with this Python.

    Returns:
        Stage, with `@variant` -> the directory that it wrote.

    Raises:
        PipelineError: a stage failed, and has said why; or no container can be started.
    """
    once = Retries(count=retries, backoff_seconds=0)
    stages = {name: getattr(cluster.stages, name) for name in type(cluster.stages).model_fields}
    here_alone = {"gpus": 0, "nodes": 1}  # of this machine
    settings = {
        name: stage.model_copy(update={"retries": once} | (here_alone if isinstance(stage, Training) else {}))
        for name, stage in stages.items()
    }
    here = cluster.model_copy(
        update={"stages": cluster.stages.model_copy(update=settings), "image": image or cluster.image}
    )
    pipeline = build(params, here)
    tasks = pipeline.pipeline_spec.root.dag.tasks
    where = f"in containers of {image}" if image else "in processes"
    say(
        f"run-local: profile {params.profile}, {len(tasks)} tasks, one after another, {where}; "
        "cluster settings have no effect"
    )

    key = time.strftime(f"kfp-local/%Y%m%dT%H%M%SZ-{os.getpid()}", time.gmtime())
    runs = out.resolve() / key.rpartition("/")[2]  # of this run alone: others may run at the same time
    os.environ["GWAINET_PIPELINE_KEY"] = key
    os.environ[RUNTIME] = params.runtime.model_dump_json()
    os.environ["GWAINET_PARAMS_DIGEST"] = params.digest()
    with warnings.catch_warnings(), _runner(image, root.resolve(), runs, key) as runner:
        # what only a cluster can do, on every task
        warnings.filterwarnings("ignore", message=".* have no effect in the current local runner")
        warnings.filterwarnings("ignore", message=".*non-Python base image")
        local.init(runner, pipeline_root=str(runs), raise_on_error=True)
        try:
            pipeline(root=str(root.resolve()))
        except (RuntimeError, ValueError) as error:  # ValueError: a stage that ended well, for kfp, wrote nothing
            raise PipelineError(
                f"{error} Its own message stands above. Run the command again when it is mended: a training continues "
                "from its last checkpoint"
            ) from error
    (run,) = (folder for folder in runs.iterdir() if folder.is_dir())
    # a loop is no stage: it holds the parts of one
    made = {spec.task_info.name: run / name / "out" for name, spec in tasks.items() if not name.startswith("for-loop")}
    # a container that ends and is gone before kfp asks how it ended counts as one that ended well
    if absent := [stage for stage, folder in made.items() if not folder.exists()]:
        raise PipelineError(f"{', '.join(absent)} ended and wrote nothing: run the command again")
    return made


def _runner(
    image: str | None, root: Path, runs: Path, key: str
) -> AbstractContextManager[local.SubprocessRunner | local.DockerRunner]:
    if image is None:
        return nullcontext(local.SubprocessRunner(use_venv=False))
    from pipeline.containers import docker_runner

    return docker_runner(image, root, runs, key)
