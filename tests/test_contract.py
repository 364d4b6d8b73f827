"""Registry, `dvc.yaml`, `params.yaml`, command line and tests tell of the same stages.

DVC itself is not imported: `dvc.yaml` is read as YAML and its templates are filled in here.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from gwainet.__main__ import SUMMARIES, app
from gwainet.params import NOT_SHAPING, Params, load_params
from gwainet.stages import STAGES, Stage

PROJECT = Path(__file__).parents[1]
PROFILE = "demo"
DVC: dict[str, Any] = YAML(typ="safe").load(PROJECT / "dvc.yaml")
PARAMS: dict[str, Any] = YAML(typ="safe").load(PROJECT / "params.yaml")

# Inputs that some variants leave alone, so that DVC must not rerun those when the input changes: no identity loss, no
# Inet. (The warper that `train_psnr@banet` does not need is no input of it in the registry either.)
UNREAD = {("train_adversarial", "gwanet"): {"inet"}, ("train_adversarial", "banet"): {"inet"}}
UNREAD |= {
    ("train_baselines", system): {"inet"}
    for system in STAGES["train_baselines"].variants
    if system not in ("srgan", "gfrnet", "gfrnet_landmarks")
}

# Source that a variant reaches through a table of all variants and does not run: editing one system's network must not
# train the others again.
NETWORKS = {"srcnn", "vdsr", "edsr", "srresnet", "waveletsrnet", "cascade", "tdae", "gfrnet"}
OWN = {"srgan": "srresnet", "tdae_style": "tdae", "gfrnet_landmarks": "gfrnet"}
UNUSED = {
    ("train_baselines", system): {f"gwainet/baselines/{other}.py" for other in NETWORKS - {OWN.get(system, system)}}
    for system in STAGES["train_baselines"].variants
}

# Source whose change makes a stage run again. The rest (training, tracking, files, progress) is the frame around it.
WATCHED = (
    "gwainet.images",
    "gwainet.enlarge",
    "gwainet.compiled",
    "gwainet.bicubic",
    "gwainet.nets",
    "gwainet.baselines",
    "gwainet.macs",
    "gwainet.losses",
    "gwainet.lpips",
    "gwainet.batch_metrics",
    "gwainet.metrics",
    "gwainet.psnr",
    "gwainet.identity",
    "gwainet.people",
    "gwainet.evaluation",
    "gwainet.sources",
    "gwainet.contract_tables",
    "gwainet.distributions",
    "gwainet.duplicates",
    "gwainet.exhibits",
    "gwainet.labels",
    "gwainet.measured",
    "gwainet.quality",
    "gwainet.report",
)

# docs/formats.md
FILES = {
    "check_faces": {"passed.json", "validation.json", "distributions.json", "report.html"},
    "train_psnr": {"gains.csv"},
    "train_adversarial": {"critic.safetensors", "gains.csv"},
    "train_baselines": {"gains.csv", "seeds"},
    "benchmark": {"benchmark.json", "benchmark.csv", "benchmark.html", "costs.csv"},
    "register_model": {"registered.json"},
}
TRAINED = {"weights.safetensors", "metrics.json", "curves.csv", "validation.csv", "samples.png", "training.json"}


@dataclass(frozen=True)
class Entry:
    """One stage or one variant of `dvc.yaml`, templates filled in for a profile."""

    stage: Stage
    variant: str | None
    cmd: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]
    metrics: tuple[str, ...]
    plots: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.stage.name + (f"@{self.variant}" if self.variant else "")

    @property
    def written(self) -> tuple[str, ...]:
        return self.outs + self.metrics + self.plots

    @property
    def data(self) -> tuple[str, ...]:
        return tuple(dep for dep in self.deps if dep.startswith(("data/", "models/", "reports/")))

    @property
    def source(self) -> tuple[str, ...]:
        return tuple(dep for dep in self.deps if dep not in self.data)


def variants_of(name: str) -> Iterator[tuple[str | None, dict[str, str], dict[str, Any]]]:
    """Key, replacements and description of every variant of an entry."""
    entry = DVC["stages"][name]
    if "foreach" in entry:
        for key, item in entry["foreach"].items():
            items = {f"item.{inner}": value for inner, value in item.items()} if isinstance(item, dict) else {}
            yield key, {"key": key, "item": str(item), **items}, entry["do"]
    elif "matrix" in entry:
        raise AssertionError(f"{name}: this test reads `foreach`, not `matrix`")
    else:
        yield None, {}, entry


def filled(text: str, replacements: dict[str, str]) -> str:
    for _ in range(3):  # an item may hold ${profile}
        for name, value in {"profile": PROFILE, **replacements}.items():
            text = text.replace(f"${{{name}}}", value)
    assert "${" not in text, text
    return text


def entries() -> list[Entry]:
    found = []
    for name in DVC["stages"]:
        for key, replacements, description in variants_of(name):

            def paths(
                kind: str,
                replacements: dict[str, str] = replacements,
                description: dict[str, Any] = description,
            ) -> tuple[str, ...]:
                items = [item if isinstance(item, str) else next(iter(item)) for item in description.get(kind, [])]
                return tuple(filled(item, replacements) for item in items)

            kinds = {kind: paths(kind) for kind in ("deps", "params", "outs", "metrics", "plots")}
            found.append(Entry(STAGES[name], key, filled(description["cmd"], replacements), **kinds))
    return found


ENTRIES = entries() if set(DVC["stages"]) <= set(STAGES) else []
each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
each_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))


def inside(path: str, directory: str) -> bool:
    return Path(path) == Path(directory) or Path(directory) in Path(path).parents


# ---------------------------------------------------------------- stages


def test_dvc_has_the_stages_of_the_registry_in_their_order():
    assert list(DVC["stages"]) == list(STAGES)


@each_stage
def test_dvc_runs_every_variant_once(stage):
    assert tuple(e.variant for e in ENTRIES if e.stage is stage) == (stage.variants or (None,))


@each_entry
def test_the_command_is_the_command_lines_own(entry):
    assert entry.cmd == f"python -m gwainet {entry.stage.name}" + (f" --variant {entry.variant}" * bool(entry.variant))


def test_the_command_line_has_a_command_and_a_summary_for_every_stage_and_no_other_stages():
    commands = [command.name for command in app.registered_commands]
    assert len(commands) == len(set(commands))
    no_stage = {"params", "plan", "where", "ui", "lineage", "send-unsent", "mirror-source", "import-checkpoint"}
    no_stage |= {"search-rates", "super-resolve", "export", "promote", "rollback", "show-faces", "contract"}
    assert set(commands) == set(STAGES) | no_stage
    assert list(SUMMARIES) == list(STAGES)


@each_stage
def test_every_stage_has_a_module_whose_run_takes_what_the_registry_says(stage):
    tree = ast.parse((PROJECT / "gwainet" / "stages" / f"{stage.name}.py").read_text(encoding="utf-8"))
    (run,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run")
    assert [argument.arg for argument in run.args.args] == ["params"]
    taken = {argument.arg for argument in run.args.kwonlyargs}
    has_default = dict(zip((a.arg for a in run.args.kwonlyargs), run.args.kw_defaults, strict=True))
    given_always = set.intersection(*(set(stage.paths(PROFILE, v)) for v in stage.variants or (None,)))
    given = {*stage.inputs, "out", "recorder"} | ({"variant"} if stage.variants else set())
    assert taken - {"work"} == given
    assert ("work" in taken) == stage.keeps_work
    for name in set(stage.inputs) - given_always:
        assert has_default[name] is not None, f"{name} is not given to every variant"
    assert run.args.vararg is None
    assert run.args.kwarg is None


@each_stage
def test_every_stage_has_a_test_file(stage):
    assert (PROJECT / "tests" / "stages" / f"test_{stage.name}.py").is_file()


# ---------------------------------------------------------------- params


@each_entry
def test_exactly_the_sections_of_the_registry_and_the_profile_are_watched(entry):
    sections = [f"{place}.{section}" for section in entry.stage.sections for place in ("base", f"profiles.{PROFILE}")]
    assert sorted(entry.params) == sorted(["profile", *sections])


@each_stage
def test_the_sections_of_a_stage_exist_and_its_own_is_among_them(stage):
    assert stage.name in stage.sections
    assert set(stage.sections) <= set(Params.model_fields) - {"profile", *NOT_SHAPING}


def test_every_profile_loads():
    for profile in PARAMS["profiles"]:
        assert load_params(PROJECT / "params.yaml", profile).profile == profile


def test_base_and_every_profile_hold_every_section_that_dvc_watches():
    # DVC stops at a watched name that is not in the file
    watched = {section for stage in STAGES.values() for section in stage.sections}
    for place, values in {"base": PARAMS["base"], **PARAMS["profiles"]}.items():
        assert watched <= set(values), place


def test_the_base_holds_every_default_that_shapes_a_result():
    """DVC sees a changed default only where params.yaml holds it."""
    defaults = Params(profile=PROFILE).model_dump(mode="json")
    for section in {s for stage in STAGES.values() for s in stage.sections} | {"promotion", "search_rates"}:
        assert PARAMS["base"][section] == defaults[section], section


def test_how_to_run_is_no_reason_to_run_again():
    assert not any(section in param for entry in ENTRIES for param in entry.params for section in NOT_SHAPING)
    assert not any("runtime" in values for values in PARAMS["profiles"].values())


# ---------------------------------------------------------------- inputs


def read(entry: Entry) -> dict[str, str]:
    """Argument -> path of what the entry reads, by the registry."""
    paths = {name: path.as_posix() for name, path in entry.stage.paths(PROFILE, entry.variant).items() if name != "out"}
    return {
        name: path
        for name, path in paths.items()
        if name not in UNREAD.get((entry.stage.name, entry.variant or ""), ())
    }


@each_entry
def test_every_input_of_the_registry_is_a_dependency(entry):
    for name, path in read(entry).items():
        # a directory above several variants' outputs: each of them counts
        outs = {e.stage.paths(PROFILE, e.variant)["out"].as_posix() for e in ENTRIES if e.stage.variants}
        for part in sorted(out for out in outs if inside(out, path)) or [path]:
            assert any(inside(dep, part) for dep in entry.data), f"{name}: {part}"


@each_entry
def test_every_dependency_on_data_is_an_input_of_the_registry(entry):
    for dep in entry.data:
        assert any(inside(dep, path) for path in read(entry).values()), dep


@each_entry
def test_every_dependency_on_data_is_what_another_stage_writes_or_a_user_brings(entry):
    for dep in entry.data:
        brought = inside(dep, f"data/source/{PROFILE}")
        assert brought or any(inside(dep, out) for e in ENTRIES if e is not entry for out in e.written), dep


def test_stages_come_after_what_they_read():
    done: list[str] = []
    for entry in ENTRIES:
        for dep in entry.data:
            assert dep.startswith("data/source/") or any(inside(dep, out) for out in done), (entry.name, dep)
        done += entry.written


@each_entry
def test_everything_after_the_check_depends_on_its_verdict(entry):
    verdict = f"reports/{PROFILE}/check_faces/passed.json"
    assert (verdict in entry.deps) == (list(STAGES).index(entry.stage.name) > list(STAGES).index("check_faces"))


# ---------------------------------------------------------------- outputs


@each_entry
def test_what_is_written_lies_in_the_registrys_directory(entry):
    out = entry.stage.paths(PROFILE, entry.variant)["out"].as_posix()
    assert entry.written
    for path in entry.written:
        assert inside(path, out), path


def test_no_two_stages_write_one_path():
    written = [(entry.name, path) for entry in ENTRIES for path in entry.written]
    for name, path in written:
        for other, above in written:
            assert (name, path) == (other, above) or not inside(path, above), (name, path, other, above)


@each_entry
def test_every_file_of_the_formats_is_declared_and_in_its_place(entry):
    names = {Path(path).name for path in entry.written}
    assert FILES.get(entry.stage.name, set()) | (TRAINED if entry.stage.trains else set()) <= names
    metrics, plots = ({Path(path).name for path in kind} for kind in (entry.metrics, entry.plots))
    if entry.stage.trains:
        assert metrics == {"metrics.json"}
        assert plots >= {"curves.csv", "validation.csv"}
    if entry.stage.name == "benchmark":
        assert metrics
        assert plots
    assert all(Path(path).suffix == ".json" for path in entry.metrics)
    assert all(Path(path).suffix in (".csv", ".png") for path in entry.plots)


@each_entry
def test_every_declared_file_is_named_by_the_stages_code(entry):
    strings = {
        node.value
        for module, names in reached(entry.stage.name).items()
        for name in names
        for node in ast.walk(definitions(module)[name])
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for path in entry.written:
        if Path(path).suffix:
            assert any(Path(path).name in text.split("/") for text in strings), path


@each_entry
def test_a_plots_columns_stand_in_the_stages_entry(entry):
    _, _, description = next(v for v in variants_of(entry.stage.name) if v[0] == entry.variant)
    for plot in description.get("plots", []):
        if isinstance(plot, dict):
            ((path, settings),) = plot.items()
            assert Path(path).suffix == ".csv"
            assert {"x", "y", "title"} <= set(settings)
            if Path(path).name in ("curves.csv", "validation.csv"):
                assert settings["x"] == "step"


# ---------------------------------------------------------------- source


@cache
def module_path(module: str) -> Path | None:
    base = PROJECT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def definitions(module: str) -> dict[str, ast.stmt]:
    """Name -> top-level statement that makes it; imports too. `` stands for the statements that make no name."""
    path = module_path(module)
    assert path is not None, module
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name.split(".")[0]] = node
        else:
            for name in ast.walk(node):
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                    found.setdefault(name.id, node)
    return found


def reached(stage: str) -> dict[str, set[str]]:
    """Module -> names that a stage's `run` can reach."""
    return reached_from(f"gwainet.stages.{stage}", "run")


def reached_from(start: str, function: str) -> dict[str, set[str]]:
    """Module -> names that a function can reach, name by name through the project's own imports.

    Finer than whole modules: `build_inet` of `gwainet.nets.model` leads to Inet and not to Cnet.
    """
    found: dict[str, set[str]] = {}
    waiting = [(start, function)]

    def add(module: str, name: str | None) -> None:
        if not module.startswith("gwainet") or module_path(module) is None:
            return
        if name is None:
            waiting.extend((module, each) for each in definitions(module))
        elif name in definitions(module):
            waiting.append((module, name))
        elif module_path(f"{module}.{name}") is not None:
            waiting.extend((f"{module}.{name}", each) for each in definitions(f"{module}.{name}"))

    while waiting:
        module, name = waiting.pop()
        if name in found.setdefault(module, set()):
            continue
        found[module].add(name)
        node = definitions(module)[name]
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            source = next(a.name for a in node.names if (a.asname or a.name) == name)
            add(node.module or "", source)
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name, None)
            continue
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and inner.id in definitions(module):
                waiting.append((module, inner.id))
            elif isinstance(inner, ast.ImportFrom):  # inside a function
                for alias in inner.names:
                    add(inner.module or "", alias.name)
            elif isinstance(inner, ast.Import):
                for alias in inner.names:
                    add(alias.name, None)
    return found


def watched_files(stage: str) -> set[str]:
    """Files of the watched packages that a stage's `run` reaches; an `__init__` only where it does work itself."""
    files = set()
    for module, names in reached(stage).items():
        if module.startswith(WATCHED):
            works = any(not isinstance(definitions(module)[name], ast.Import | ast.ImportFrom) for name in names)
            path = module_path(module)
            assert path is not None
            if works:
                files.add(path.relative_to(PROJECT).as_posix())
    return files


def test_the_search_through_imports_goes_name_by_name():
    assert "run" in reached("pretrain_wnet")["gwainet.stages.pretrain_wnet"]
    warper, encoder = reached("pretrain_wnet"), reached("pretrain_inet")
    assert "Wnet" in warper["gwainet.nets.wnet"]
    assert "Inet" in encoder["gwainet.nets.inet"]
    assert "Cnet" not in encoder.get("gwainet.nets.cnet", set())
    assert not any(module.startswith("gwainet.nets") for module in reached("fetch_faces"))


BARE = """
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
for name in {modules}:
    importlib.import_module(name)
"""


def test_trainings_and_their_tests_need_nothing_of_the_platform():
    """So that they run on a GPU machine that has torch and a few small packages."""
    absent = {"mlflow", "dvc", "great_expectations", "ruamel", "jinja2", "cv2", "hypothesis", "psutil"}
    stages = [stage.name for stage in STAGES.values() if stage.trains]
    modules = [*(f"gwainet.stages.{name}" for name in stages), *(f"tests.stages.test_{name}" for name in stages)]
    code = BARE.format(absent=absent, modules=[*modules, "tests.stages.conftest"])
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@each_entry
def test_every_dependency_on_source_exists_and_the_stages_own_file_is_one(entry):
    assert f"gwainet/stages/{entry.stage.name}.py" in entry.source
    for dep in entry.source:
        assert (PROJECT / dep).exists(), dep
    assert len(entry.deps) == len(set(entry.deps))


@each_stage
def test_the_source_that_a_stage_uses_is_declared(stage):
    for entry in (e for e in ENTRIES if e.stage is stage):
        used = watched_files(stage.name) - UNUSED.get((stage.name, entry.variant or ""), set())
        missing = {file for file in used if not any(inside(file, dep) for dep in entry.source)}
        assert missing == set()


@each_stage
def test_no_source_is_declared_that_a_stage_does_not_use(stage):
    for entry in (e for e in ENTRIES if e.stage is stage):
        used = watched_files(stage.name) - UNUSED.get((stage.name, entry.variant or ""), set())
        for dep in entry.source:
            if dep.removesuffix(".py").replace("/", ".").startswith(WATCHED):
                assert any(inside(file, dep) for file in used), dep


# ---------------------------------------------------------------- Kubeflow

# What every component takes beside the stage's inputs; `source` is found below `root`.
FRAME = {"params", "root", "out", "metrics", "page"}


def signature(stage: Stage) -> tuple[set[str], set[str]]:
    """Arguments of a component that must be given, and those that need not, read from its source."""
    tree = ast.parse((PROJECT / "components" / f"{stage.name}.py").read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    assert function.name == stage.name
    names = [argument.arg for argument in function.args.args]
    needed = len(names) - len(function.args.defaults)
    return set(names[:needed]), set(names[needed:])


def component_inputs(stage: Stage, variant: str | None) -> dict[str, set[str]]:
    """Input of a component -> the entries of `dvc.yaml` that write it, by the registry."""
    found: dict[str, set[str]] = {}
    paths = stage.paths(PROFILE, variant)
    for name in set(stage.inputs) & set(paths) - UNREAD.get((stage.name, variant or ""), set()):
        for maker in ENTRIES:
            out = maker.stage.paths(PROFILE, maker.variant)["out"].as_posix()
            if inside(paths[name].as_posix(), out):
                found[name] = {maker.name}
            elif inside(out, paths[name].as_posix()):  # a directory above several variants' outputs
                found[f"{name}_{maker.variant}"] = {maker.name}
    return found


def test_there_is_a_component_for_every_stage_and_for_nothing_else():
    files = {path.stem for path in (PROJECT / "components").glob("*.py")}
    in_parts = {"parts", "prepare_faces_part", "prepare_faces_merge"}
    assert files == set(STAGES) | in_parts | {"__init__", "base", "adapter", "launcher", "trainjobs"}


@pytest.mark.parametrize("name", ["part", "merge"])
def test_what_stands_for_a_stage_in_parts_hands_on_all_that_it_takes(name):
    tree = ast.parse((PROJECT / "components" / f"prepare_faces_{name}.py").read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    assert function.name == f"prepare_faces_{name}"
    assert len(function.body) == 3
    (call,) = (n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == f"run_{name}")
    taken = [argument.arg for argument in function.args.args]
    assert [getattr(argument, "id", None) for argument in call.args] == taken
    assert set(component_inputs(STAGES["prepare_faces"], None)) <= set(taken)


@each_stage
def test_a_component_takes_what_the_registry_says_and_hands_all_of_it_on(stage):
    needed, optional = signature(stage)
    per_variant = [set(component_inputs(stage, variant)) for variant in stage.variants or (None,)]
    always, sometimes = set.intersection(*per_variant), set.union(*per_variant)
    extra = ({"variant"} if stage.variants else set()) | ({"source_version"} if stage.name == "fetch_faces" else set())
    assert needed == FRAME | extra | always
    launched = {"trainjob"} if stage.shared else set()
    assert optional == (sometimes - always) | launched
    tree = ast.parse((PROJECT / "components" / f"{stage.name}.py").read_text(encoding="utf-8"))
    (call,) = (n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "run")
    assert isinstance(call.args[0], ast.Constant)
    assert call.args[0].value == stage.name
    names = ["params", "root", "out", "metrics", "page"] + ["variant"] * bool(stage.variants)
    assert [getattr(argument, "id", None) for argument in call.args[1:]] == names
    handed = {word.arg: getattr(word.value, "id", None) for word in call.keywords}
    assert handed == {name: name for name in sometimes | launched}


@each_stage
def test_a_component_is_thin(stage):
    tree = ast.parse((PROJECT / "components" / f"{stage.name}.py").read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    assert len(function.body) == 3, "a docstring, an import and a call: work belongs in the stage or the adapter"


def graph() -> dict[str, dict[str, str]]:
    """Task -> its artifact inputs -> the task that writes each, from the compiled pipeline of the demo."""
    from pipeline.cluster import load_cluster
    from pipeline.graph import build

    pipeline = build(load_params(PROJECT / "params.yaml", PROFILE), load_cluster(PROJECT / "cluster.yaml"))
    tasks = pipeline.pipeline_spec.root.dag.tasks
    shown = {name: task.task_info.name for name, task in tasks.items()}
    return {
        shown[name]: {
            argument: shown[source.task_output_artifact.producer_task]
            for argument, source in task.inputs.artifacts.items()
        }
        for name, task in tasks.items()
    }


@pytest.fixture(scope="module")
def compiled() -> dict[str, dict[str, str]]:
    return graph()


def test_the_graph_runs_every_entry_of_dvc_once(compiled):
    assert sorted(compiled) == sorted(entry.name for entry in ENTRIES)


@each_entry
def test_every_input_in_the_graph_comes_from_the_stage_that_the_registry_names(entry, compiled):
    expected = {name: maker for name, (maker,) in component_inputs(entry.stage, entry.variant).items()}
    assert compiled[entry.name] == expected


@each_entry
def test_the_graph_waits_for_the_stages_that_dvc_waits_for_and_no_others(entry, compiled):
    written = {path: e.name for e in ENTRIES for path in e.written}
    awaited = {maker for dep in entry.data for path, maker in written.items() if inside(dep, path)}
    assert set(compiled[entry.name].values()) == awaited


def test_what_can_run_side_by_side_does(compiled):
    def before(name: str) -> set[str]:
        return {name}.union(*(before(maker) for maker in compiled[name].values()))

    assert "pretrain_inet" not in before("pretrain_wnet") | before("train_psnr@guided") | before("train_psnr@banet")
    assert "pretrain_wnet" not in before("pretrain_inet") | before("train_psnr@banet")
    assert "pretrain_inet" not in before("train_adversarial@gwanet") | before("train_adversarial@banet")


def test_every_stage_has_a_section_of_cluster_settings():
    from pipeline.cluster import Stages

    assert list(Stages.model_fields) == list(STAGES)
