"""Which execution of the pipeline a process belongs to, and which code and data it works on. Imports no MLflow."""

import getpass
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from gwainet.files import file_digest, tree_digest
from gwainet.params import Params

# What shapes a result, of all that git watches: not dvc.lock, which `dvc repro` rewrites between two stages.
CODE = ("gwainet", "components", "pipeline", "params.yaml", "dvc.yaml", "constraints.txt", "pyproject.toml")

HASHED_BYTES = 1 << 30  # more is seconds of reading before every stage: names and sizes must do


ABSENT = "absent"  # the digest of what does not exist

INPUT, OUTPUT = "gwainet.input.", "gwainet.output."  # tags: an input's name, or an output's file -> digest


@dataclass(frozen=True)
class Task:
    """A stage about to run, as its tracked run is told of it.

    Attributes:
        stage: its name.
        variant: of a stage that is trained several times.
        params: of the profile.
        sections: the params sections that shape the stage's result.
        root: the project's root, where the default store lies (`mlflow.db`, `mlruns/`).
        inputs: name -> path of what the stage reads, each made by one run; their digests become tags.
        out: what the stage writes; its digest becomes a tag.
    """

    stage: str
    variant: str | None
    params: Params
    sections: Sequence[str]
    root: Path
    inputs: Mapping[str, Path]
    out: Path

    @property
    def name(self) -> str:
        """Of the run: the stage with its variant."""
        return f"{self.stage}@{self.variant}" if self.variant else self.stage


def is_default_store() -> bool:
    """Whether no tracking server was chosen."""
    return not os.environ.get("MLFLOW_TRACKING_URI")


def tracking_uri(root: Path) -> str:
    """The server of MLFLOW_TRACKING_URI, else a SQLite file in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root / 'mlflow.db').resolve()}"


def experiment_name() -> str:
    """MLFLOW_EXPERIMENT_NAME, else `gwainet`."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or "gwainet"


def user() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())


def shown(uri: str) -> str:
    """A URI fit to be printed: without a password, which a database's may also have as an option."""
    password = urlsplit(uri).password
    uri = re.sub(r"([?&]password=)[^&#]*", r"\1***", uri)
    return uri.replace(f":{password}@", ":***@") if password else uri


@dataclass(frozen=True)
class CodeVersion:
    """The code that runs.

    Attributes:
        commit: git's, 40 digits; `unknown` outside a repository or without git.
        changes: 12 digits over what is not committed in `CODE`; empty if nothing.
    """

    commit: str
    changes: str

    def __str__(self) -> str:
        return self.commit[:12] + (f"+{self.changes}" if self.changes else "")


def code_version(directory: Path) -> CodeVersion:
    """The git commit checked out in a directory, and a digest of what was changed since.

    A container image holds no repository: its build names the commit in GWAINET_COMMIT (`Dockerfile`).
    """
    commit = _git(directory, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return CodeVersion(os.environ.get("GWAINET_COMMIT") or "unknown", "")
    top = Path((_git(directory, "rev-parse", "--show-toplevel") or b".").decode().strip())
    digest = hashlib.sha256(difference := _git(top, "diff", "--binary", "HEAD", "--", *CODE) or b"")
    listed = _git(top, "ls-files", "--others", "--exclude-standard", "-z", "--", *CODE) or b""
    untracked = [name for name in listed.decode().split("\0") if name]
    for name in sorted(untracked):
        digest.update(f"{name}\0{tree_digest(top / name)}\n".encode())
    changed = bool(difference.strip() or untracked)
    return CodeVersion(commit.decode().strip(), digest.hexdigest()[:12] if changed else "")


def _git(directory: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=directory, capture_output=True, check=False)  # noqa: S603, S607
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def params_digest(params: Params) -> str:
    """The digest of the execution's params.

    A component gets the sections that its stage reads alone, so that Kubeflow's cache need not be thrown away for the
    others; GWAINET_PARAMS_DIGEST then says what the digest over all of them is.
    """
    return os.environ.get("GWAINET_PARAMS_DIGEST") or params.digest()


def pipeline_key(params: Params, code: CodeVersion) -> str:
    """What all stages of one execution share, though they are separate processes.

    GWAINET_PIPELINE_KEY (set by `make repro` and by Kubeflow), else DVC's experiment, else the code and the params.
    """
    if key := os.environ.get("GWAINET_PIPELINE_KEY"):
        return key
    if experiment := os.environ.get("DVC_EXP_NAME"):
        return f"dvc-exp/{experiment}/{params_digest(params)}"
    return f"dvc/{params.profile}/{code}/{params_digest(params)}"


def kubeflow_key(run_id: str) -> str:
    """The key of an execution on Kubeflow: its submitter and its pods know the run's id."""
    return f"kfp/{run_id}"


def output_digests(out: Path) -> dict[str, str]:
    """Tags with the digest of what a stage wrote, and with that of each file in it: a later stage may read but one."""
    tags = {"gwainet.output_digest": data_digest(out)}
    files = [file for file in sorted(out.iterdir()) if file.is_file()] if out.is_dir() else []
    if sum(file.stat().st_size for file in files) <= HASHED_BYTES:
        tags |= {f"{OUTPUT}{file.name}": file_digest(file) for file in files}
    return tags


def this_process() -> str:
    """What tells this process from every other one of this machine, earlier ones among them."""
    try:
        space = Path("/proc/self/ns/pid").readlink().name
    except OSError:  # no Linux
        space = ""
    return f"{os.getpid()} {psutil.Process().create_time():.0f} {space}"


def is_gone(process: str) -> bool:
    """Whether a process of this machine, in the words of `this_process`, has ended; not if it cannot be known."""
    pid, started, space = [*process.split(" "), "", "", ""][:3]
    if not pid or space != this_process().split(" ")[2]:  # another container's process has its own numbers
        return False
    try:
        # the clock that a start is read from may be set
        return bool(abs(psutil.Process(int(pid)).create_time() - float(started)) > 5)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def data_digest(path: Path) -> str:
    """A digest of what a stage reads or wrote, without reading gigabytes.

    Prepared faces bring their own. Above `HASHED_BYTES` names and sizes are digested (`sizes-...`): those are the
    user's photos, whose bytes `source.json` pins.
    """
    if not path.exists():
        return ABSENT
    faces = path / "faces.json"
    if faces.is_file():
        with suppress(ValueError, KeyError):  # a damaged file is the stage's to report: here its bytes are a digest too
            return str(json.loads(faces.read_text(encoding="utf-8"))["digest"])
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    sizes = [(file.relative_to(path).as_posix(), file.stat().st_size) for file in files]
    if sum(size for _, size in sizes) <= HASHED_BYTES:
        return tree_digest(path)
    return "sizes-" + hashlib.sha256(json.dumps(sizes).encode()).hexdigest()
