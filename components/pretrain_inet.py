"""Component `pretrain_inet`: see `gwainet/stages/pretrain_inet.py`."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components.base import component


@component
def pretrain_inet(
    params: str,
    root: str,
    faces: Input[Dataset],
    passed: Input[Artifact],
    out: Output[Model],
    metrics: Output[Metrics],
    page: Output[HTML],
    trainjob: str = "",
) -> None:
    """Pretrain the identity encoder."""
    from components.adapter import run

    run("pretrain_inet", params, root, out, metrics, page, trainjob=trainjob, faces=faces, passed=passed)
