"""`prepare_faces` in parts, on artifacts. A part is no stage: the merge alone is a run in MLflow, that of the stage.

Needs no kfp.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from components.adapter import Artifact, Metrics, absolute, log_metrics, settings_of, show
from gwainet.stages import STAGES

STAGE = STAGES["prepare_faces"]


def run_part(params: str, root: str, part: int, parts: int, raw: Artifact, out: Artifact, metrics: Metrics) -> None:
    """Prepare one part.

    Args:
        params: as for the stage.
        root: as for the stage.
        part: which one, from 0.
        parts: how many there are.
        raw: what `fetch_faces` wrote.
        out: becomes the part.
        metrics: gets its counts.

    Raises:
        GwainetError: any error a user can meet.
    """
    from gwainet.stages.prepare_faces_parts import write_part  # heavy

    settings = settings_of(params)
    source = STAGE.paths(settings.profile, None, Path(root))["source"]
    counts = write_part(settings, part, parts, source=source, raw=absolute(raw), out=absolute(out))
    log_metrics(metrics, counts)


def run_merge(
    params: str, root: str, raw: Artifact, parts: Sequence[Artifact], out: Artifact, metrics: Metrics, page: Artifact
) -> None:
    """Put parts together, as the stage's own run.

    Args:
        params: as for the stage.
        root: as for the stage.
        raw: what `fetch_faces` wrote.
        parts: of `run_part`.
        out: becomes the prepared faces.
        metrics: gets the stage's numbers.
        page: becomes a page with its pictures and tables.

    Raises:
        GwainetError: any error a user can meet.
    """
    from gwainet.stages.prepare_faces_parts import merge  # heavy

    settings = settings_of(params)
    paths = {"raw": absolute(raw), "out": absolute(out)}
    function = partial(merge, parts=[absolute(part) for part in parts])
    where = STAGE.tracked(function, settings, None, paths, Path(root))
    show(STAGE.name, f"{STAGE.name}, profile {settings.profile}", where, metrics, page, absolute(out))
    out.metadata["mlflow"] = where
