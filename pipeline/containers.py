"""Stages in containers of the project's image, by kfp's Docker runner: what pods run, on this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
from docker.errors import DockerException, ImageNotFound
from docker.types import Mount
from kfp import local

from gwainet.errors import PipelineError

LABEL = "gwainet.pipeline-key"
VARIABLES = ("GWAINET_", "MLFLOW_", "AWS_")  # variables of the caller, as a cluster's secrets would set them


@contextmanager
def docker_runner(image: str, root: Path, runs: Path, key: str) -> Iterator[local.DockerRunner]:
    """A runner whose containers see `root`, at the same path, and belong to the caller; none is left behind.

    They have the machine's own network, so that a server on `localhost` is reached, and no GPU.

    Args:
        image: that is on this machine.
        root: the project's, absolute.
        runs: where kfp keeps runs: made here, for an engine would make it root's.
        key: of the pipeline's execution: marks its containers.

    Raises:
        PipelineError: no engine answers, the image is not there, or a container could not be started.
    """
    try:
        engine = docker.from_env()
        engine.images.get(image)
    except ImageNotFound:
        raise PipelineError(f"there is no image {image} here: `make image IMAGE={image}`, or pull it") from None
    except DockerException as error:
        raise PipelineError(f"no Docker engine answers ({error}): start one, or set DOCKER_HOST") from error
    runs.mkdir(parents=True, exist_ok=True)
    runner = local.DockerRunner(
        user=f"{os.getuid()}:{os.getgid()}",
        mounts=[Mount(target=str(root), source=str(root), type="bind")],
        environment={name: value for name, value in os.environ.items() if name.startswith(VARIABLES)},
        network_mode="host",
        labels={LABEL: key},
    )
    try:
        yield runner
    except DockerException as error:
        raise PipelineError(f"Docker could not start a stage: {error}") from error
    finally:
        for container in engine.containers.list(filters={"label": f"{LABEL}={key}"}):  # after Ctrl-C
            container.kill()
        engine.close()
