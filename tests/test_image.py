"""What the `Dockerfile` and `.dockerignore` come to, without an engine; tests/pipeline/test_image_system.py has one."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest
from docker.utils.build import exclude_paths
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[1]
PACKAGES = ("gwainet", "components", "pipeline")
OPTIONAL = {"onnxruntime", "onnxscript", "tensorflow"}  # of `export` and `import-checkpoint`, by hand
PRIVATE = (
    ".env",
    ".git/config",
    "cluster.yaml",
    "params.yaml",
    "mlflow.db",
    "data/source/lfw/Ann/photo.jpg",
    "models/lfw/weights.safetensors",
    "gwainet/__pycache__/params.cpython-311.pyc",
)


class Instruction(NamedTuple):
    word: str
    rest: str


def stages() -> dict[str, list[Instruction]]:
    """The Dockerfile: name of a stage -> its instructions; the last one is called ``."""
    text = re.sub(r"^#.*\n", "", (PROJECT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", "")
    found: dict[str, list[Instruction]] = {}
    name = "before"
    for line in filter(None, text.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            name = rest.partition(" AS ")[2]
        found.setdefault(name, []).append(Instruction(word, rest.strip()))
    return found


def closure(requirements: Iterable[str]) -> set[str]:
    """Names of all that pip installs for them here."""
    extras: dict[str, set[str]] = {}
    waiting = [Requirement(requirement) for requirement in requirements]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in extras and wanted.extras <= extras[name]:
            continue
        extras.setdefault(name, {""}).update(wanted.extras)
        for requirement in map(Requirement, distribution(name).requires or []):
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in extras[name]):
                waiting.append(requirement)
    return set(extras)


def names(constraints: Path) -> set[str]:
    return {line.partition("==")[0] for line in constraints.read_text().splitlines()}


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stage `requirements` after its own command: `project.txt` and `torch.txt`."""
    folder = tmp_path_factory.mktemp("requirements")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, folder)
    (command,) = [rest for word, rest in stages()["requirements"] if word == "RUN"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", "-ec", command], cwd=folder, env={**os.environ, "PATH": path}, check=True)
    return folder


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an engine is sent of a checkout in which somebody works."""
    checkout, context = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("context")
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, checkout)
    for package in PACKAGES:
        shutil.copytree(PROJECT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in PRIVATE:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("private")
    ignored = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    for name in exclude_paths(str(checkout), ignored):
        if (checkout / name).is_file():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(checkout / name, context / name)
    return context


def test_every_package_that_the_code_imports_is_installed(lists: Path):
    imported = set()
    for package in PACKAGES:
        for file in (PROJECT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    imported.add((node.module or "").partition(".")[0])
    imported -= {*sys.stdlib_module_names, *PACKAGES, *OPTIONAL}
    assert "torch" in imported
    assert "dlib" in imported
    brought = closure((lists / "project.txt").read_text().splitlines())
    homes = {**packages_distributions(), "dlib": ["dlib-bin"]}  # whose metadata names another module
    assert {name for name in imported if brought.isdisjoint(map(canonicalize_name, homes[name]))} == set()


def test_everything_that_is_installed_has_its_version_pinned(lists: Path):
    brought = closure((lists / "project.txt").read_text().splitlines())
    pinned_by_torch = {name for name in brought if name.startswith(("nvidia-", "cuda-", "triton"))}
    assert brought - pinned_by_torch - names(lists / "constraints.txt") == set()


def test_torchs_layer_has_all_that_torch_needs_and_nothing_else(lists: Path):
    pinned = names(lists / "constraints.txt")
    of_cuda = {name for name in pinned if name.startswith(("cuda-", "nvidia-"))} - {"nvidia-ml-py"}
    assert names(lists / "torch.txt") == (closure(["torch"]) & pinned) | of_cuda


def test_only_what_decides_the_installation_makes_the_large_layers_anew(lists: Path, tmp_path: Path):
    """The layers depend on these lists alone: a new version of the project, or a setting of a tool, leaves them."""
    text = (PROJECT / "pyproject.toml").read_text()
    version = tomllib.loads(text)["project"]["version"]
    changed = text.replace(f'version = "{version}"', 'version = "99"').replace("line-length = 120", "line-length = 99")
    assert changed != text
    (tmp_path / "pyproject.toml").write_text(changed)
    shutil.copy(lists / "constraints.txt", tmp_path)
    (command,) = [rest for word, rest in stages()["requirements"] if word == "RUN"]
    subprocess.run(["sh", "-ec", command], cwd=tmp_path, check=True)
    for name in ("project.txt", "torch.txt"):
        assert (tmp_path / name).read_bytes() == (lists / name).read_bytes()
    copied = [rest for word, rest in stages()["dependencies"] if word == "COPY"]
    assert all(rest.startswith("--from=requirements ") for rest in copied)


def test_nothing_of_a_user_is_sent_to_the_engine_and_all_that_is_copied_is(context: Path):
    assert [name for name in PRIVATE if (context / name).exists()] == []
    for instructions in stages().values():
        for word, rest in instructions:
            if word == "COPY" and not rest.startswith("--from="):
                assert [name for name in rest.split()[:-1] if not (context / name).exists()] == [], rest


def test_the_package_that_is_built_of_it_holds_every_file(context: Path, tmp_path: Path):
    code = tmp_path / "code"
    shutil.copytree(context, code)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=code, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = tmp_path.glob("*.whl")
    built = set(zipfile.ZipFile(wheel).namelist())
    files = {path.relative_to(context).as_posix() for name in PACKAGES for path in (context / name).rglob("*.*")}
    assert "gwainet/stages/train_psnr.py" in files
    assert files - built == set()


def test_the_last_stage_runs_as_a_number_that_is_not_root_and_knows_no_mirror():
    last = stages()[""]
    (user,) = [rest for word, rest in last if word == "USER"]
    assert user.split(":")[0].isdecimal()
    assert int(user.split(":")[0]) > 0
    assert last[-1].word != "RUN"
    assert not [rest for word, rest in last if "PIP" in rest or "INDEX" in rest], "who pulls the image can read these"
