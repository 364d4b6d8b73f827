"""An image of `make image`, in real containers. GWAINET_TEST_IMAGE names it; nothing is built or pulled here."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException
from mlflow import MlflowClient
from ruamel.yaml import YAML

import gwainet
from pipeline.containers import LABEL
from tests.pipeline.test_local_system import files
from tests.servers.tracking import sqlite_server
from tests.test_dvc_system import _environment
from tests.training_params import PIPELINE

pytestmark = [pytest.mark.system, pytest.mark.timeout(3600)]

PROJECT = Path(__file__).parents[2]
ANYBODY = "54321:0"  # as OpenShift runs a pod: a user that no image knows, in group 0

IMPORTS = """
import importlib, pkgutil, sys
import components, gwainet, pipeline
for package in (components, gwainet, pipeline):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
import boto3
from gwainet.identity import face_network
face_network()
print(*sorted(name for name in sys.modules if name.startswith("components.")))
"""

VERSIONS = """
import json
from importlib.metadata import distributions
print(json.dumps({d.name.lower().replace("_", "-").replace(".", "-"): d.version for d in distributions()}))
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        pytest.skip(f"needs a Docker engine: {error}")
    yield client
    client.close()


@pytest.fixture(scope="module")
def image(engine: Any) -> str:
    name = os.environ.get("GWAINET_TEST_IMAGE")
    if not name:
        pytest.skip("needs an image: make image VARIANT=cpu IMAGE=gwainet-python:test; GWAINET_TEST_IMAGE=<its name>")
    engine.images.get(name)
    return name


def inside(engine: Any, image: str, *command: str, **settings: Any) -> str:
    """What a container without a network prints."""
    return str(engine.containers.run(image, list(command), remove=True, network_mode="none", **settings).decode())


def project(folder: Path, **sections: Any) -> Path:
    """A root with a profile `tiny` of drawn people."""
    (folder / "data" / "source" / "tiny").mkdir(parents=True)
    document = {"profile": "tiny", "base": {}, "profiles": {"tiny": {**PIPELINE, **sections}}}
    YAML(typ="safe").dump(document, folder / "params.yaml")
    return folder


def start(root: Path, log: Path, *arguments: str, **variables: str) -> "subprocess.Popen[bytes]":
    where = ["--params", str(root / "params.yaml"), "--root", str(root)]
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run-local", *where, *arguments],
            cwd=PROJECT,
            env={**_environment(), **variables},
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def run(root: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """Exit status of `run-local` and all that it printed."""
    code = start(root, root / "log", *arguments, **variables).wait()
    return code, (root / "log").read_text()


def folders(printed: str) -> dict[str, Path]:
    return {task: Path(folder) for task, folder in re.findall(r"^ +(\S+): (/\S+/out)$", printed, re.MULTILINE)}


def test_all_code_imports_for_any_user_without_a_network_and_without_writing(engine: Any, image: str):
    nowhere = {"user": ANYBODY, "read_only": True, "tmpfs": {"/tmp": "", "/gwainet": ""}}
    imported = inside(engine, image, "python", "-c", IMPORTS, **nowhere).split()
    expected = {f"components.{file.stem}" for file in (PROJECT / "components").glob("[!_]*.py")}
    assert set(imported) == expected
    for program in ("gwainet", "pipeline"):
        assert "Usage:" in inside(engine, image, "python", "-m", program, "--help", **nowhere)
    assert "usage: torchrun" in inside(engine, image, "torchrun", "--help", **nowhere)


def test_every_version_is_the_pinned_one(engine: Any, image: str):
    installed = json.loads(inside(engine, image, "python", "-c", VERSIONS))
    pins = dict(line.split("==") for line in (PROJECT / "constraints.txt").read_text().splitlines())
    versions = {name: version.partition("+")[0] for name, version in installed.items()}
    assert versions.pop("gwainet") == gwainet.__version__
    wrong = {name: version for name, version in versions.items() if version != pins.get(name)}
    of_cuda = {name for name in wrong if name not in pins and name.startswith(("nvidia-", "cuda-", "triton"))}
    assert set(wrong) == of_cuda, "torch pins these itself"


def test_nobody_is_root_has_a_name_to_look_up_or_may_change_the_code(engine: Any, image: str):
    assert int(engine.images.get(image).attrs["Config"]["User"].split(":")[0]) > 0
    named = "touch /gwainet/here && python -c 'import getpass; print(getpass.getuser())'"
    not_his = "find /opt '(' -writable -o ! -readable ')' ! -type l"
    for user in (None, ANYBODY):
        assert inside(engine, image, "sh", "-ec", named, user=user) == "gwainet\n"
        assert inside(engine, image, "sh", "-ec", not_his, user=user) == ""


def test_what_installs_packages_stays_behind(engine: Any, image: str):
    code = "from importlib.util import find_spec; print(find_spec('pip'), find_spec('dvc'))"
    assert inside(engine, image, "python", "-c", code) == "None None\n"
    unopened = "find / -xdev -name '*68_face_landmarks*' -o -path /opt/pip 2>/dev/null || true"
    assert inside(engine, image, "sh", "-c", unopened) == ""


def test_it_says_what_it_is_and_nothing_about_where_it_was_built(engine: Any, image: str):
    built = engine.images.get(image)
    config = built.attrs["Config"]
    assert config["Labels"]["org.opencontainers.image.version"] == gwainet.__version__
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    commit = config["Labels"]["org.opencontainers.image.revision"]
    assert re.fullmatch("[0-9a-f]{40}|unknown", commit)
    assert f"GWAINET_COMMIT={commit}" in config["Env"]
    told = [layer["CreatedBy"] for layer in built.history()] + config["Env"]
    assert not [line for line in told if "PIP_" in line or "://" in line]


def test_the_pipeline_in_containers_writes_the_files_that_it_writes_here(engine: Any, image: str, tmp_path: Path):
    roots = {name: project(tmp_path / name) for name in ("containers", "here")}
    started = {
        name: start(root, root / "log", *(["--image", image] if name == "containers" else []))
        for name, root in roots.items()
    }
    made = {}
    for name, process in started.items():
        code, printed = process.wait(), (roots[name] / "log").read_text()
        assert code == 0, printed
        made[name] = folders(printed)
    assert len(made["containers"]) == 19
    for task, folder in made["containers"].items():
        there, here = files(folder), files(made["here"][task])
        assert there.keys() == here.keys(), task
        different = [name for name, content in there.items() if content != here[name]]
        assert different == ([] if task != "register_model" else ["registered.json"]), task
        assert folder.stat().st_uid == os.getuid()
    assert not engine.containers.list(all=True, filters={"label": LABEL})


def test_a_stage_that_fails_in_a_container_says_so_here_and_on_mlflows_server(image: str, tmp_path: Path):
    root = project(tmp_path / "root", fetch_faces={"source": "folder"})
    MlflowClient(f"sqlite:///{tmp_path / 'server.db'}").search_experiments()  # makes its tables
    server = sqlite_server(tmp_path, tmp_path / "server.db")
    try:
        server.start()
        code, printed = run(root, "--image", image, MLFLOW_TRACKING_URI=server.uri)
        runs = MlflowClient(server.uri).search_runs(["1"])
    finally:
        server.stop()
    assert code == 1
    for text in ("SourceError", "PipelineError", "fetch-faces"):
        assert text in printed
    assert ("fetch_faces", "FAILED") in {(run.info.run_name, run.info.status) for run in runs}
    assert not list((root / ".gwainet" / "kubeflow").glob("*/fetch-faces/out"))


def test_ctrl_c_leaves_no_container(engine: Any, image: str, tmp_path: Path):
    people = {**PIPELINE["fetch_faces"]["drawn"], "people": 5000, "supersampling": 4}
    root = project(tmp_path, fetch_faces={"source": "drawn", "drawn": people})
    running = start(root, log := root / "log", "--image", image)
    deadline = time.monotonic() + 300
    while not engine.containers.list(filters={"label": LABEL}):
        assert running.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=60) != 0
    assert not engine.containers.list(filters={"label": LABEL})


def test_an_image_in_which_nothing_happens_does_not_count_as_a_run(engine: Any, image: str, tmp_path: Path):
    """As when a container is gone before its end is asked for: kfp then believes that it ended well."""
    (tmp_path / "sh").write_text("#!/usr/bin/env true\n")
    (tmp_path / "sh").chmod(0o755)
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nCOPY sh /other/sh\nENV PATH=/other:/usr/bin:/bin\n")
    built, _ = engine.images.build(path=str(tmp_path), tag="gwainet-python:nothing-happens", rm=True)
    try:
        code, printed = run(project(tmp_path / "root"), "--image", "gwainet-python:nothing-happens")
    finally:
        engine.images.remove(built.id, force=True)
    assert code == 1
    assert "PipelineError" in printed
    assert "fetch-faces" in printed
    assert "Traceback" not in printed


def test_an_image_that_is_not_there_is_named_before_anything_is_written(engine: Any, tmp_path: Path):
    code, printed = run(project(tmp_path), "--image", "gwainet-python:never-built")
    assert code == 1
    assert "there is no image gwainet-python:never-built here" in " ".join(printed.split())
    assert not (tmp_path / ".gwainet").exists()
