"""The graph as Kubeflow reads it: IR YAML, the same bytes for the same params and settings."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from kfp import compiler

from gwainet.errors import ParamsError
from gwainet.files import staged_file
from gwainet.params import Params
from pipeline.cluster import ClusterSettings
from pipeline.graph import build
from pipeline.photos import with_photos


def compile_pipeline(params: Params, cluster: ClusterSettings, out: Path) -> None:
    """Write the pipeline of a profile with a cluster's settings.

    Raises:
        ParamsError: `out` does not end in `.yaml`, which kfp's own tools want.
        StorageError: the photos lie in a bucket that refuses, does not answer or lacks them.
    """
    if out.suffix != ".yaml":
        raise ParamsError(f"--out {out}: the file's name must end in .yaml, which Kubeflow expects")
    params = with_photos(params, cluster)
    with TemporaryDirectory() as scratch, staged_file(out) as partial:
        compiled = Path(scratch) / "pipeline.yaml"
        compiler.Compiler().compile(build(params, cluster), str(compiled))
        shutil.copyfile(compiled, partial)
