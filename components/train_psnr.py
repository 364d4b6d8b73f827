"""Component `train_psnr`: see `gwainet/stages/train_psnr.py`."""

from typing import Optional

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components.base import component


@component
def train_psnr(
    params: str,
    root: str,
    variant: str,
    faces: Input[Dataset],
    passed: Input[Artifact],
    out: Output[Model],
    metrics: Output[Metrics],
    page: Output[HTML],
    wnet: Optional[Input[Model]] = None,
    trainjob: str = "",
) -> None:
    """Train warper and generator for PSNR; `banet` takes no warper."""
    from components.adapter import run

    run(
        "train_psnr",
        params,
        root,
        out,
        metrics,
        page,
        variant,
        trainjob=trainjob,
        faces=faces,
        passed=passed,
        wnet=wnet,
    )
