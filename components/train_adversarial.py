"""Component `train_adversarial`: see `gwainet/stages/train_adversarial.py`."""

from typing import Optional

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components.base import component


@component
def train_adversarial(
    params: str,
    root: str,
    variant: str,
    faces: Input[Dataset],
    passed: Input[Artifact],
    psnr: Input[Model],
    out: Output[Model],
    metrics: Output[Metrics],
    page: Output[HTML],
    inet: Optional[Input[Model]] = None,
    trainjob: str = "",
) -> None:
    """Train with the critic; Inet is for `gwainet` alone."""
    from components.adapter import run

    run(
        "train_adversarial",
        params,
        root,
        out,
        metrics,
        page,
        variant,
        trainjob=trainjob,
        faces=faces,
        passed=passed,
        psnr=psnr,
        inet=inet,
    )
