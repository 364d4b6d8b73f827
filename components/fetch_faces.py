"""Component `fetch_faces`: see `gwainet/stages/fetch_faces.py`."""

from kfp.dsl import HTML, Dataset, Metrics, Output

from components.base import component


@component
def fetch_faces(
    params: str,
    root: str,
    source_version: str,
    out: Output[Dataset],
    metrics: Output[Metrics],
    page: Output[HTML],
) -> None:
    """Check what the user brought, or draw the demo's people; `source_version` names the photos for the cache."""
    from components.adapter import run

    run("fetch_faces", params, root, out, metrics, page)
