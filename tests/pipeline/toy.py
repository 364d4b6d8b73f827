"""A pipeline of two stages, really compiled, with all that `diff` and `status` read."""

import json
from collections.abc import Mapping
from pathlib import Path

from kfp import compiler, dsl, kubernetes


@dsl.component(base_image="registry/gwainet-python:0.1.0", install_kfp_package=False)
def fetch_faces(params: str) -> str:
    return params


@dsl.component(base_image="registry/gwainet-python:0.1.0", install_kfp_package=False)
def train_psnr(params: str, faces: str, note: str) -> str:
    return params + faces + note


def compile_toy(path: Path, params: Mapping[str, object], image: str = "", gpus: int = 1, timeout: int = 3600) -> Path:
    """Compile it; named against the alphabet: train-psnr waits for fetch-faces."""
    text = json.dumps(params)

    @dsl.pipeline(name="gwainet")
    def pipeline(note: str = "1e-4"):
        raw = fetch_faces(params=text)
        trained = train_psnr(params=text, faces=raw.output, note=note)
        trained.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(gpus).set_memory_limit("64Gi")
        trained.set_display_name("train_psnr@guided")
        trained.set_retry(num_retries=2, backoff_duration="60s")
        trained.set_caching_options(False)
        kubernetes.set_timeout(trained, seconds=timeout)
        kubernetes.use_secret_as_env(trained, "gwainet-mlflow", {"MLFLOW_TRACKING_URI": "MLFLOW_TRACKING_URI"})
        if image:
            raw.set_container_image(image)

    compiler.Compiler().compile(pipeline, str(path))
    return path
