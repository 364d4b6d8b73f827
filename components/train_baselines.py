"""Component `train_baselines`: see `gwainet/stages/train_baselines.py`."""

from typing import Optional

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components.base import component


@component
def train_baselines(
    params: str,
    root: str,
    variant: str,
    faces: Input[Dataset],
    passed: Input[Artifact],
    out: Output[Model],
    metrics: Output[Metrics],
    page: Output[HTML],
    start: Optional[Input[Model]] = None,
    inet: Optional[Input[Model]] = None,
) -> None:
    """Train another paper's system; `start` is for SRGAN, Inet for those with a critic."""
    from components.adapter import run

    run(
        "train_baselines",
        params,
        root,
        out,
        metrics,
        page,
        variant,
        faces=faces,
        passed=passed,
        start=start,
        inet=inet,
    )
