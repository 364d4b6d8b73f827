"""Component `pretrain_wnet`: see `gwainet/stages/pretrain_wnet.py`."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components.base import component


@component
def pretrain_wnet(
    params: str,
    root: str,
    faces: Input[Dataset],
    passed: Input[Artifact],
    out: Output[Model],
    metrics: Output[Metrics],
    page: Output[HTML],
    trainjob: str = "",
) -> None:
    """Pretrain the warper."""
    from components.adapter import run

    run("pretrain_wnet", params, root, out, metrics, page, trainjob=trainjob, faces=faces, passed=passed)
