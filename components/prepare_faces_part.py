"""Component `prepare_faces_part`, one of several that share `prepare_faces`."""

from kfp.dsl import Dataset, Input, Metrics, Output

from components.base import component


@component
def prepare_faces_part(
    params: str,
    root: str,
    part: int,
    parts: int,
    raw: Input[Dataset],
    out: Output[Dataset],
    metrics: Output[Metrics],
) -> None:
    """Prepare the rows of part `part` (from 0) of `parts`."""
    from components.parts import run_part

    run_part(params, root, part, parts, raw, out, metrics)
