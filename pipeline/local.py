"""The graph on this machine, with kfp's own local runner: a process for each stage, one after another."""

import os
import time
import warnings
from pathlib import Path

from kfp import local

from gwainet.errors import PipelineError
from gwainet.params import Params
from gwainet.progress import say
from pipeline.cluster import ClusterSettings, Retries, Training
from pipeline.graph import build


def run_local(params: Params, cluster: ClusterSettings, root: Path, out: Path, retries: int = 0) -> dict[str, Path]:
    """Run every stage; nothing is taken from a cache.

    Args:
        params: of the profile.
        cluster: its settings that need a cluster have no effect here.
        root: holds `data/source/<profile>/`, gets `.gwainet/` and MLflow's default store.
        out: gets a new folder for this run with all that the stages write.
        retries: how often a stage that ended badly is started again, at once.

    Returns:
        Stage, with `@variant` -> the directory that it wrote.

    Raises:
        PipelineError: a stage failed; it has said why.
    """
    once = Retries(count=retries, backoff_seconds=0)
    stages = {name: getattr(cluster.stages, name) for name in type(cluster.stages).model_fields}
    here_alone = {"gpus": 0, "nodes": 1}  # of this machine
    settings = {
        name: stage.model_copy(update={"retries": once} | (here_alone if isinstance(stage, Training) else {}))
        for name, stage in stages.items()
    }
    here = cluster.model_copy(update={"stages": cluster.stages.model_copy(update=settings)})
    pipeline = build(params, here)
    tasks = pipeline.pipeline_spec.root.dag.tasks
    say(f"run-local: profile {params.profile}, {len(tasks)} tasks, one after another; cluster settings have no effect")

    runs = out.resolve()
    before = set(runs.iterdir()) if runs.is_dir() else set()
    os.environ["GWAINET_PIPELINE_KEY"] = time.strftime(f"kfp-local/%Y%m%dT%H%M%SZ-{os.getpid()}", time.gmtime())
    os.environ["GWAINET_PARAMS_DIGEST"] = params.digest()
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(runs), raise_on_error=True)
    with warnings.catch_warnings():
        # what only a cluster can do, on every task
        warnings.filterwarnings("ignore", message=".* have no effect in the current local runner")
        warnings.filterwarnings("ignore", message=".*non-Python base image")
        try:
            pipeline(root=str(root.resolve()))
        except RuntimeError as error:
            raise PipelineError(
                f"{error} Its own message stands above. Run the command again when it is mended: a training continues "
                "from its last checkpoint"
            ) from error
    (made,) = set(runs.iterdir()) - before
    return {spec.task_info.name: made / name / "out" for name, spec in tasks.items()}
