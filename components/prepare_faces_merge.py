"""Component `prepare_faces_merge`: the stage `prepare_faces`, of parts that others prepared."""

from typing import List  # noqa: UP035  kfp reads this form alone

from kfp.dsl import HTML, Dataset, Input, Metrics, Output

from components.base import component


@component
def prepare_faces_merge(
    params: str,
    root: str,
    raw: Input[Dataset],
    parts: Input[List[Dataset]],  # noqa: UP006
    out: Output[Dataset],
    metrics: Output[Metrics],
    page: Output[HTML],
) -> None:
    """Put the parts together: the same files as those of `prepare_faces`."""
    from components.parts import run_merge

    run_merge(params, root, raw, parts, out, metrics, page)
