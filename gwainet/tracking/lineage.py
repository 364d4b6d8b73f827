"""From a model back to the photos, the code and the params it was made of: a walk along digests.

Every stage's run has the digests of what it read and of what it wrote as tags. What is missing (a run that was deleted,
an input that no run wrote) is told where it is missing.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.utils.models import get_model_name_and_version
from rich.text import Text
from rich.tree import Tree

from gwainet.errors import TrackingError
from gwainet.params import Params
from gwainet.tracking.execution import ABSENT, INPUT, OUTPUT, is_default_store, shown, tracking_uri
from gwainet.tracking.outbox import brief
from gwainet.tracking.runs import flat_params, locked

BROUGHT = "source"  # the input that no stage makes: what the user brought
# what a model says it was made of -> in words
PINNED = {
    "gwainet.weights_digest": "weights",
    "gwainet.report_digest": "report",
    "gwainet.data_digest": "faces",
}
RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Input:
    """What a run read.

    Attributes:
        digest: of its content.
        run_id: of the run that wrote it; None if there is none, or none any more.
        note: what is to be said of it, such as why there is no run.
        gap: whether the walk ends here though it should not.
    """

    digest: str
    run_id: str | None = None
    note: str = ""
    gap: bool = False


@dataclass(frozen=True)
class Step:
    """A stage's run.

    Attributes:
        stage: its name, with the variant.
        run_id: of the run.
        status: how it ended.
        started: UTC, ISO 8601.
        profile: of the params.
        commit: of the code.
        changes: digest of what was not committed; `unknown` where only that there was something is known; else empty.
        params_digest: over all params of the execution.
        params: those of the stage that are not the paper's, name -> value and default.
        inputs: name -> what it read.
        outputs: file -> digest, `.` being all of it.
        source: of `fetch_faces`: name, licence, files with their digests.
    """

    stage: str
    run_id: str
    status: str
    started: str
    profile: str
    commit: str
    changes: str
    params_digest: str
    params: dict[str, dict[str, str | None]]
    inputs: dict[str, Input]
    outputs: dict[str, str]
    source: dict[str, Any] | None


@dataclass
class Lineage:
    """A walk.

    Attributes:
        uri: where it began.
        model: facts about the model; empty if it began at a run.
        start: id of the first run.
        steps: run's id -> the run, in the order in which they were found.
        gaps: what is missing, in words.
    """

    uri: str
    model: dict[str, str]
    start: str
    steps: dict[str, Step] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def lineage(root: Path, uri: str) -> Lineage:
    """Walk back from a model: `models:/<name>/<version>`, `models:/<name>@<alias>`, `runs:/<run>`, `m-<id>`, a run.

    Raises:
        TrackingError: there is no such model or run, or the server cannot be used.
    """
    store = tracking_uri(root)
    if is_default_store() and not (root / "mlflow.db").exists():
        raise TrackingError("there are no runs yet: `make repro` makes them")
    try:
        with locked(store):
            client = MlflowClient(store)
        model, start = _find(client, uri)
        return _walk(client, Lineage(uri, model, start))
    except MlflowException as error:
        raise TrackingError(
            f"{uri} was not found at {shown(store)}: {brief(error)}. Give models:/NAME/VERSION, models:/NAME@ALIAS, "
            "runs:/RUN, or the id of a model (m-...) or of a run"
        ) from error


def _find(client: MlflowClient, uri: str) -> tuple[dict[str, str], str]:
    """Facts about the model, and the run that made it."""
    name = uri.removeprefix("models:/")
    if name.startswith("m-"):
        logged = client.get_logged_model(name)
        return {"model_id": logged.model_id, **_own(logged.tags)}, str(logged.source_run_id)
    if uri.startswith("models:/"):
        name, number = get_model_name_and_version(client, uri)
        version = client.get_model_version(name, str(number))
        aliases = [alias for alias, of in client.get_registered_model(name).aliases.items() if str(of) == str(number)]
        model_id = str(version.source).removeprefix("models:/")
        facts = {"name": name, "version": str(number), "aliases": ", ".join(sorted(aliases)), "model_id": model_id}
        return {**facts, **_own(version.tags)}, str(version.run_id)
    run_id = uri.removeprefix("runs:/").partition("/")[0]
    if not RUN_ID.fullmatch(run_id):
        raise MlflowException.invalid_parameter_value("that names neither a model nor a run")
    return {}, run_id


def _own(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in sorted(tags.items()) if key.startswith("gwainet.")}


class _Runs:
    """All runs of an experiment, deleted ones too, and which of them wrote what."""

    def __init__(self, client: MlflowClient, experiment: str) -> None:
        self._client = client
        self._known: dict[str, Run] = {}
        self.writers: dict[str, list[Run]] = defaultdict(list)
        token = ""
        while token is not None:
            page = client.search_runs([experiment], run_view_type=ViewType.ALL, max_results=1000, page_token=token)
            for run in page:
                self._known[run.info.run_id] = run
                for digest in {*_outputs(run).values()}:
                    self.writers[digest].append(run)
            token = page.token

    def get(self, run_id: str) -> Run | None:
        """A run, perhaps of another experiment; None if it is gone for good."""
        if run_id not in self._known:
            try:
                self._known[run_id] = self._client.get_run(run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return None
        return self._known[run_id]


def _deleted(run: Run) -> bool:
    return bool(run.info.lifecycle_stage == "deleted")


def _walk(client: MlflowClient, walk: Lineage) -> Lineage:
    first = client.get_run(walk.start)
    runs = _Runs(client, first.info.experiment_id)
    if _deleted(first):
        walk.gaps.append(
            f"the run {walk.start}, which made the model, was deleted: what MLflow still has of it is shown"
        )
    waiting = [first]
    while waiting:
        run = waiting.pop(0)
        if run.info.run_id in walk.steps:  # it wrote several inputs, or it read what it wrote
            continue
        step = walk.steps[run.info.run_id] = _step(run, runs)
        for name, read in step.inputs.items():
            if read.gap:
                walk.gaps.append(f"{name} of {step.stage} ({read.digest[:12]}): {read.note}")
            if read.run_id is not None and (maker := runs.get(read.run_id)) is not None:
                waiting.append(maker)
    written = {digest for step in walk.steps.values() for digest in step.outputs.values()}
    for tag, what in PINNED.items():
        digest = walk.model.get(tag)
        if digest is not None and digest not in written:
            walk.gaps.append(f"no run of this walk wrote the model's {what} ({digest[:12]})")
    return walk


def _step(run: Run, runs: _Runs) -> Step:
    tags = run.data.tags
    stage, variant = tags.get("gwainet.stage", run.info.run_name or "unknown"), tags.get("gwainet.variant")
    dirty = tags.get("gwainet.dirty") == "true"
    source = None
    with suppress(KeyError, ValueError):
        source = json.loads(tags["gwainet.source"])
    return Step(
        stage=f"{stage}@{variant}" if variant else stage,
        run_id=run.info.run_id,
        status=run.info.status,
        started=datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(timespec="seconds"),
        profile=tags.get("gwainet.profile", "unknown"),
        commit=tags.get("gwainet.commit", "unknown"),
        changes=tags.get("gwainet.changes", "unknown") if dirty else "",
        params_digest=tags.get("gwainet.params_digest", "unknown"),
        params=_changed(run.data.params),
        inputs=dict(_inputs(run, runs)),
        outputs=_outputs(run),
        source=source,
    )


def _outputs(run: Run) -> dict[str, str]:
    tags = run.data.tags
    whole = {".": tags["gwainet.output_digest"]} if "gwainet.output_digest" in tags else {}
    files = {key.removeprefix(OUTPUT): value for key, value in sorted(tags.items()) if key.startswith(OUTPUT)}
    return {**whole, **files}


def _changed(params: Mapping[str, str]) -> dict[str, dict[str, str | None]]:
    """Those that are not the paper's; what the params do not know (the device) is not one of them."""
    defaults = flat_params(Params(profile="any").flat())
    return {
        name: {"value": value, "default": defaults[name]}
        for name, value in sorted(params.items())
        if name in defaults and name != "profile" and value != defaults[name]
    }


def _inputs(run: Run, runs: _Runs) -> Iterator[tuple[str, Input]]:
    tags = run.data.tags
    for key in sorted(tags):
        name = key.removeprefix(INPUT)
        if key == name or name.endswith(".run"):
            continue
        digest = tags[key]
        if digest == ABSENT:
            yield name, Input(digest, note="was not there")
        elif name == BROUGHT:
            yield name, Input(digest, note="what the user brought")
        else:
            yield name, _maker(run, digest, tags.get(f"{key}.run"), runs)


def _maker(reader: Run, digest: str, recorded: str | None, runs: _Runs) -> Input:
    """The run that wrote what `reader` read: the one that it found then, else another that wrote the same."""
    found = None if recorded is None else runs.get(recorded)
    if found is not None and digest in _outputs(found).values() and not _deleted(found):
        return Input(digest, recorded)
    lost = "" if recorded is None else f"the run {recorded} wrote it, "
    if found is not None:
        lost += "which was deleted" if _deleted(found) else "which says so no longer"
    elif recorded is not None:
        lost += "which is gone"
    others = [run for run in runs.writers[digest] if not _deleted(run) and run.info.run_id != reader.info.run_id]
    if others:
        # at best the last that had begun before; a repetition later wrote the same bytes
        best = max(others, key=lambda run: (run.info.start_time <= reader.info.start_time, run.info.start_time))
        when = "" if best.info.start_time <= reader.info.start_time else ", later"
        return Input(digest, best.info.run_id, "; ".join(filter(None, (lost, f"this one wrote the same{when}"))))
    if found is not None:
        return Input(digest, found.info.run_id, lost, gap=True)
    return Input(digest, None, lost or "no run wrote it", gap=True)


def tree(walk: Lineage) -> Tree:
    """The walk for the eye; a run that several inputs lead to is told once."""
    model = walk.model
    title = Text(walk.uri, style="bold")
    if model.get("aliases"):
        title.append(f" ({model['aliases']})", style="green")
    made = Tree(title)
    if model:
        facts = [f"version {model['version']}"] if "version" in model else []
        facts += [f"{what} {model[tag][:12]}" for tag, what in PINNED.items() if tag in model]
        made.add(Text(", ".join([*facts, f"model {model['model_id']}"]), style="dim"))
    _branch(made, walk, walk.start, "made by ", set(), model.get("gwainet.weights_digest"))
    gaps = made.add(Text("complete: nothing is missing", style="green") if not walk.gaps else Text("gaps", style="red"))
    for gap in walk.gaps:
        gaps.add(Text(gap, style="red"))
    return made


def _branch(above: Tree, walk: Lineage, run_id: str, title: str, told: set[str], weights: str | None) -> None:
    step = walk.steps[run_id]
    line = Text(title, style="cyan").append(step.stage, style="bold not dim")
    line.append(f", run {run_id}", style="default")
    if run_id in told:
        above.add(line.append(" (see above)", style="dim"))
        return
    told.add(run_id)
    if weights is not None and weights in step.outputs.values():
        line.append(" (wrote the model's weights)", style="green")
    node = above.add(line)
    changes = f" with changes {step.changes}" if step.changes else ""
    node.add(Text(f"{step.status}, {step.started}; code {step.commit}{changes}"))
    node.add(Text(f"profile {step.profile}, params {step.params_digest}{_in_words(step.params)}"))
    if step.source is not None:
        _describe(node, step.source)
    for name, read in step.inputs.items():
        label = f"{name} {read.digest[:12]}"
        note = f" [{read.note}]" if read.note else ""
        if read.run_id is None:
            node.add(Text(f"{label}: {read.note}", style="red" if read.gap else "default"))
        else:
            _branch(node, walk, read.run_id, f"{label}{note}: ", told, weights)


def _in_words(params: Mapping[str, Mapping[str, str | None]]) -> str:
    if not params:
        return "; all as in the paper"
    return "; not the paper's: " + ", ".join(f"{name} {p['value']} ({p['default']})" for name, p in params.items())


def _describe(node: Tree, source: Mapping[str, Any]) -> None:
    facts = f"{source.get('photos')} photos of {source.get('identities')} people"
    if source.get("location"):
        facts += f" from {source['location']}"
    photos = node.add(Text(f"photos: {source.get('source')}, {facts}; licence: {source.get('licence')}"))
    files: Sequence[Mapping[str, Any]] = source.get("files", ())
    for file in files:
        photos.add(
            Text(f"{file.get('role')}: {file.get('path')}, {file.get('bytes')} bytes, sha256 {file.get('sha256')}")
        )
