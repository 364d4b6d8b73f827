"""What an earlier run recorded: a stage may compare its result with that of the last good run of its kind."""

from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities import Run

from gwainet.progress import say
from gwainet.tracking.execution import INPUT
from gwainet.tracking.outbox import brief

RUNS = 50  # looked at, newest first: the last ones are often of the same data


def earlier_text(client: MlflowClient, run_id: str, name: str) -> str | None:
    """Text of the artifact `name` of the last finished run of this run's stage and profile on other inputs.

    A failure of the store is said and stops nothing: there is then nothing to compare with.

    Args:
        client: of the server.
        run_id: of the run that asks.
        name: of a file at the top of the artifacts.
    """
    try:
        run = client.get_run(run_id)
        mine = run.data.tags
        if "gwainet.stage" not in mine:  # a run of somebody else's, which this stage was given (MLFLOW_RUN_ID)
            return None
        alike = " and ".join(f"tags.`{tag}` = '{mine[tag]}'" for tag in ("gwainet.stage", "gwainet.profile"))
        found = client.search_runs(
            [run.info.experiment_id],
            f"attributes.status = 'FINISHED' and tags.`gwainet.kind` = 'stage' and {alike}",
            max_results=RUNS,
            order_by=["attributes.start_time DESC"],
        )
        for other in found:
            if other.info.run_id == run_id or _inputs(other) == _inputs(run):
                continue
            if any(file.path == name for file in client.list_artifacts(other.info.run_id)):
                with TemporaryDirectory() as folder:
                    return Path(client.download_artifacts(other.info.run_id, name, folder)).read_text(encoding="utf-8")
    except Exception as error:  # noqa: BLE001  any error of any store: the stage goes on without
        say(f"MLflow cannot be asked for an earlier {name} ({brief(error)}): nothing is compared with it")
    return None


def _inputs(run: Run) -> dict[str, str]:
    """Digests of what a run read."""
    return {tag: value for tag, value in run.data.tags.items() if tag.startswith(INPUT) and not tag.endswith(".run")}
