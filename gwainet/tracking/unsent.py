"""Sends what MLflow could not take while a stage ran: the files in `.gwainet/unsent/` that an `Outbox` left behind."""

import json
import shutil
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from PIL import Image

from gwainet.errors import TrackingError
from gwainet.files import write_json
from gwainet.progress import progress, say
from gwainet.tracking.execution import shown
from gwainet.tracking.outbox import BLOCK, brief, is_refusal
from gwainet.tracking.runs import close_run, connect, data_used, log_artifact


def send_unsent(root: Path) -> None:
    """Send it, run by run; what is sent is forgotten, what the server refuses stays in the file.

    Raises:
        TrackingError: the server cannot be used, or goes away meanwhile: what is unsent by then is kept.
    """
    left = {path: _read(path) for path in sorted((root / ".gwainet" / "unsent").glob("*.json"))}
    left = {path: content for path, content in left.items() if content["unsent"]}
    if not left:
        say("MLflow has taken everything: nothing is unsent")
        return
    client = connect(root)[0]
    server = shown(client.tracking_uri)
    for path, content in left.items():
        if content["server"] != server:
            say(f"{path} belongs to {content['server']}, not to {server}: set MLFLOW_TRACKING_URI and run this again")
            continue
        _send_file(client, path, content)


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not content.keys() >= {"run_id", "name", "server", "unsent", "refused"}:
            raise ValueError("something is missing")
    except (OSError, ValueError, AttributeError) as error:
        raise TrackingError(
            f"{path} is not what a stage leaves unsent ({error}): remove it, the rest is fine"
        ) from error
    return content


def _send_file(client: MlflowClient, path: Path, content: dict[str, Any]) -> None:
    unsent, refused = list(content["unsent"]), list(content["refused"])
    with progress(f"sending {content['name']}", len(unsent), "things") as ticker:
        while unsent:
            try:
                _send(client, content["run_id"], unsent[0])
            except Exception as error:
                if not is_refusal(error):
                    write_json(path, {**content, "unsent": unsent, "refused": refused})
                    raise TrackingError(
                        f"MLflow at {content['server']} could not take all of {content['name']} ({brief(error)}): run "
                        "this again when it is back"
                    ) from error
                say(f"MLflow at {content['server']} refuses {', '.join(unsent[0])}: {brief(error)}")
                refused.append(unsent[0])
            del unsent[0]
            ticker.advance()
    if refused:
        write_json(path, {**content, "unsent": [], "refused": refused})
        say(f"what was refused is in {path}")
        return
    path.unlink()
    shutil.rmtree(path.with_suffix(""), ignore_errors=True)
    say(f"{content['name']}: all is sent")


def _send(client: MlflowClient, run_id: str, thing: dict[str, Any]) -> None:
    """Send one thing, of the kinds that `RunRecorder` makes."""
    match thing:
        case {"metrics": rows}:
            metrics = [Metric(m["key"], float(m["value"]), m["timestamp"], m["step"]) for m in rows]
            for start in range(0, len(metrics), BLOCK):
                client.log_batch(run_id, metrics=metrics[start : start + BLOCK])
        case {"params": values}:
            client.log_batch(run_id, params=[Param(key, value) for key, value in values.items()])
        case {"tags": values}:
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in values.items()])
        case {"picture": key, "step": step, "file": file}:
            with Image.open(file) as picture:
                client.log_image(run_id, picture, key=key, step=step)
        case {"artifact": path, "folder": folder}:
            log_artifact(client, run_id, Path(path), folder)
        case {"dataset": data, "context": context}:
            client.log_inputs(run_id, datasets=[data_used(data, context)])
        case {"status": status, "end_time": end_time}:
            close_run(client, run_id, status, end_time)
        case _:
            raise TrackingError(f"nobody knows how to send {', '.join(thing)}")
