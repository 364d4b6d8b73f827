"""Stage `fetch_faces`: draw people, or check what the user brought and pin it by digest.

Only `raw/` is written, and `data/source/<profile>/` where it mirrors a bucket (`fetch_faces.location`); a user's files
are read where they lie, never copied, changed or deleted.
"""

import json
from pathlib import Path

from gwainet.files import staged_directory, write_json
from gwainet.params import Params
from gwainet.progress import say
from gwainet.recorder import Recorder
from gwainet.sources import licence, locate
from gwainet.sources.bucket import LOCATION_FILE, bring


def run(params: Params, *, source: Path, out: Path, recorder: Recorder) -> None:
    """Write `raw/source.json`, and for the source `drawn` the photos beside it (docs/formats.md).

    Args:
        params: section `fetch_faces` shapes the result, `runtime.workers` the time.
        source: `data/source/<profile>/`, what the user brought, or what is mirrored from a bucket.
        out: `data/<profile>/raw/`.
        recorder: gets the counts of photos and identities.

    Raises:
        StorageError: the bucket refuses, does not answer or holds another version.
        SourceError: a file is missing or damaged, or the files do not fit together.
    """
    settings = params.fetch_faces
    inside_raw = settings.source == "drawn"
    with staged_directory(out) as partial:
        if inside_raw:
            from gwainet.people import write_people  # brings the renderer, which no other source needs

            write_people(settings.drawn, partial, workers=params.runtime.workers)
        if settings.location is not None:
            write_json(partial / LOCATION_FILE, bring(settings, source))
        files = locate(settings, partial if inside_raw else source)
        listing = files.listing()
        facts = {
            "source": settings.source,
            "files": files.describe(),
            "photos": listing.found,
            "identities": listing.identities,
            "licence": licence(settings.source, settings.images),
            "inside_raw": inside_raw,
        }
        write_json(partial / "source.json", facts)
    recorder.metrics({"photos": listing.found, "identities": listing.identities})
    # on the run itself, where `python -m gwainet lineage` finds it without the file
    recorder.tags({"gwainet.source": json.dumps({**facts, "location": settings.location})})
    recorder.artifact(out / "source.json", "outputs")
    say(f"fetch_faces: {listing.found:,} photos of {listing.identities:,} people ({settings.source})")
    if settings.source == "celeba" and "landmarks" not in files.paths:
        say(
            f"No landmarks: {source / settings.landmarks} is not there, which train_baselines@gfrnet_landmarks needs "
            "to be trained, and nothing else. If you want that, bring it now: later it changes the data, and all is "
            "trained again"
        )
    if not inside_raw:
        say(f"Licence: {licence(settings.source, settings.images)}")
