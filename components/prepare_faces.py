"""Component `prepare_faces`: see `gwainet/stages/prepare_faces.py`."""

from kfp.dsl import HTML, Dataset, Input, Metrics, Output

from components.base import component


@component
def prepare_faces(
    params: str,
    root: str,
    raw: Input[Dataset],
    out: Output[Dataset],
    metrics: Output[Metrics],
    page: Output[HTML],
) -> None:
    """Crop, filter identities, split, make low-resolution images and the manifest."""
    from components.adapter import run

    run("prepare_faces", params, root, out, metrics, page, raw=raw)
