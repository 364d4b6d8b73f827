"""A compiled pipeline, read back: its stages in order, its values under readable names, and how two of them differ."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml  # not ruamel: kfp writes by YAML 1.1's rules, where 1e-4 is text and needs no quotes
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from gwainet.errors import ClusterError, ParamsError
from gwainet.params import Params, check_params

_LONG = 200  # characters: a component's source; its digest is enough to see that it changed


@dataclass(frozen=True)
class Package:
    """A compiled pipeline in the one spelling that protobuf gives it, wherever it came from.

    Attributes:
        spec: `PipelineSpec` as JSON.
        platform: `PlatformSpec` as JSON: what Kubernetes alone understands.
    """

    spec: dict[str, Any]
    platform: dict[str, Any]

    @property
    def digest(self) -> str:
        """12 hexadecimal digits over all of it."""
        text = json.dumps([self.spec, self.platform], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def stages(self) -> dict[str, str]:
        """Tasks that run a container, each after those it waits for: the task's name -> the name that people read."""
        return dict(self._stages(self.spec["root"]["dag"]["tasks"]))

    def _stages(self, tasks: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        order = TopologicalSorter({name: task.get("dependentTasks", []) for name, task in sorted(tasks.items())})
        for name in order.static_order():
            component = self.spec["components"][tasks[name]["componentRef"]["name"]]
            if "dag" in component:  # a condition, a loop or a pipeline in the pipeline
                yield from self._stages(component["dag"]["tasks"])
            else:
                yield name, tasks[name].get("taskInfo", {}).get("name", name)

    def values(self) -> dict[str, object]:
        """Every value under a readable name: `params.train_psnr.learning_rate`, `train-psnr.container.image`.

        A parameter that is JSON is taken apart. The params have one name in all tasks; where tasks got different values
        under it, the task's name stands before it, as before everything else.
        """
        values: dict[str, object] = {}
        leaves = dict(_leaves({"pipeline": self.spec, "kubernetes": self.platform}, ()))
        for path, value in leaves.items():
            # kfp writes a resource twice, for older servers: 68.7 as memoryLimit and "64Gi" as resourceMemoryLimit
            if (*path[:-1], f"resource{path[-1][:1].upper()}{path[-1][1:]}") not in leaves:
                values[_name(path)] = value
        for path, text in _json_parameters(self.spec):
            del values[_name(path)]
            for inner, value in _leaves(json.loads(text), ()):
                name, of_task = ".".join(("params", *inner)), ".".join((_name(path), *inner))
                if "params" not in path or values.setdefault(name, value) != value:
                    values[of_task] = value
        return values

    def params(self) -> Params | None:
        """The params that its tasks get, put together; None if this version of the project does not know them."""
        sections: dict[str, object] = {}
        for path, text in _json_parameters(self.spec):
            if "params" in path:  # a TrainJob is JSON too
                sections |= json.loads(text)
        try:
            return check_params(sections)
        except ParamsError:
            return None

    def gives(self, variable: str) -> bool:
        """Whether a task's pod gets the environment variable from a secret."""
        leaves = _leaves(self.platform, ())
        return any(path[-1] == "envVar" and value == variable for path, value in leaves)


def read_package(path: Path) -> Package:
    """Read a compiled pipeline (YAML: the spec, then the platform's).

    Raises:
        ClusterError: the file is not a compiled pipeline.
    """
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ClusterError(f"{path} cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ClusterError(f"{path} is not valid YAML: {error}") from None
    return _package(documents[0] if documents else None, documents[1] if len(documents) > 1 else {}, str(path))


def package_of(document: object, origin: str) -> Package:
    """The pipeline that the server gave back: the spec alone, or `pipeline_spec` beside `platform_spec`.

    Raises:
        ClusterError: it is not a compiled pipeline.
    """
    if isinstance(document, dict) and "pipeline_spec" in document:
        return _package(document["pipeline_spec"], document.get("platform_spec") or {}, origin)
    return _package(document, {}, origin)


def _package(spec: object, platform: object, origin: str) -> Package:
    try:
        parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec(), ignore_unknown_fields=True)
        beside = json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec(), ignore_unknown_fields=True)
    except (json_format.ParseError, AttributeError, TypeError) as error:
        raise ClusterError(f"{origin} is not a compiled pipeline: {error}") from None
    if not parsed.root.dag.tasks:
        raise ClusterError(
            f"{origin} is not a compiled pipeline: it has no tasks. `python -m pipeline compile` makes one"
        )
    return Package(json_format.MessageToDict(parsed), json_format.MessageToDict(beside))


def differences(theirs: Package, ours: Package) -> list[str]:
    """Lines of a unified diff over `values`, sorted by name; none if the two are the same.

    What changed in the same way for every task that has it is one change, of the task `*`.
    """
    before, after = theirs.values(), ours.values()
    tasks = theirs.stages().keys() | ours.stages().keys()
    owners: dict[str, set[str]] = {}
    changes: dict[str, dict[str, list[str]]] = {}
    for name in sorted(before.keys() | after.keys()):
        task, _, rest = name.partition(".")
        task, rest = (task, rest) if task in tasks else ("", name)
        owners.setdefault(rest, set()).add(task)
        if name not in before or name not in after or before[name] != after[name]:
            old = [f"-{rest}: {_shown(before[name])}"] if name in before else []
            new = [f"+{rest}: {_shown(after[name])}"] if name in after else []
            changes.setdefault(rest, {})[task] = old + new
    found: list[tuple[str, list[str]]] = []
    for rest, of_task in changes.items():
        first = next(iter(of_task.values()))
        if len(of_task) > 1 and of_task.keys() == owners[rest] and all(lines == first for lines in of_task.values()):
            of_task = {"*": first}
        found += [(task and f"{task}.", lines) for task, lines in of_task.items()]
    found.sort(key=lambda change: change[0] + change[1][0][1:])
    return [line[0] + task + line[1:] for task, lines in found for line in lines]


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return (
        text
        if len(text) <= _LONG
        else f"{len(text)} characters, sha256 {hashlib.sha256(text.encode()).hexdigest()[:12]}"
    )


def _leaves(value: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    """What has nothing below it, with its path; a list is one value, as in the params, unless mappings are in it."""
    if isinstance(value, Mapping) and value:
        for key, below in sorted(value.items()):
            yield from _leaves(below, (*path, str(key)))
    elif isinstance(value, Sequence) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, str(index)))
    else:
        yield path, value


def _json_parameters(spec: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Texts of parameters that hold a JSON object, with their paths."""
    for where, value in _leaves(spec, ("pipeline",)):
        if where[-1] in ("constant", "defaultValue") and isinstance(value, str) and value.startswith("{"):
            try:
                is_object = isinstance(json.loads(value), dict)
            except ValueError:
                continue
            if is_object:
                yield where, value


def _name(path: tuple[str, ...]) -> str:
    """A path without what is the same everywhere: the task's name comes first."""
    match path:
        case ("pipeline", "deploymentSpec", "executors", executor, *rest):
            return ".".join((executor.removeprefix("exec-"), *rest))
        case ("kubernetes", "platforms", "kubernetes", "deploymentSpec", "executors", executor, *rest):
            return ".".join((executor.removeprefix("exec-"), "kubernetes", *rest))
        case ("pipeline", "root", "dag", "tasks", task, "inputs", "parameters", parameter, "runtimeValue", "constant"):
            return f"{task}.{parameter}"
        case ("pipeline", "root", "dag", "tasks", task, *rest):
            return ".".join((task, *rest))
        case ("pipeline", "root", "inputDefinitions", "parameters", parameter, *rest):
            return ".".join(("parameter", parameter, *rest))
        case ("pipeline", *rest):
            return ".".join(rest)
        case _:
            return ".".join(path)
