"""Component `check_faces`: see `gwainet/stages/check_faces.py`."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output

from components.base import component


@component
def check_faces(
    params: str,
    root: str,
    faces: Input[Dataset],
    out: Output[Artifact],
    metrics: Output[Metrics],
    page: Output[HTML],
) -> None:
    """Hold the data contract; everything later depends on it."""
    from components.adapter import run

    run("check_faces", params, root, out, metrics, page, faces=faces)
