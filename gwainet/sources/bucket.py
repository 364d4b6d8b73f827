"""Photos that lie in a bucket: brought to `data/source/<profile>/`, where readers find them as if put there by hand.

The bucket's version (a digest of names, sizes and ETags) says whether its photos changed, before any is fetched: it is
what `fetch_faces.location_version` pins, and what Kubeflow's cache knows the photos by.
"""

import json
from pathlib import Path
from typing import Any

from gwainet.errors import DataError, StorageError
from gwainet.params import FetchFaces
from gwainet.sources import names_of
from gwainet.storage import Listing, look, mirror, mirrored_before

LOCATION_FILE = "location.json"  # in raw/, beside source.json, which must not depend on where equal photos came from


def look_for(settings: FetchFaces, source: Path) -> Listing:
    """What `fetch_faces.location` holds of the files that the params name; `source` is where they are to lie.

    Raises:
        StorageError: the bucket refuses, does not answer or lacks a file, or is not at `location_version`.
    """
    assert settings.location is not None
    names = names_of(settings, source)
    # the pairs' list may lie inside the photos' zip, and landmarks need not be there
    beside = [name for role, name in names.items() if role in ("pairs", "landmarks")]
    listing = look(settings.location, [name for name in names.values() if name not in beside], beside)
    _check_version(listing, settings.location_version, "fetch_faces.location_version asks for")
    return listing


def bring(settings: FetchFaces, source: Path) -> dict[str, Any]:
    """Bring `source` up to date with `fetch_faces.location`.

    Returns:
        What `bring_again` needs (docs/formats.md).

    Raises:
        StorageError: the bucket refuses, does not answer or is not at `location_version`; a file of the user's own is
            in the way; the disk is full.
    """
    listing = look_for(settings, source)
    mirror(listing, source)
    return {"location": listing.bucket.url, "version": listing.version, "names": list(listing.names)}


def bring_again(raw: Path, source: Path) -> None:
    """Bring what `fetch_faces` saw to this machine, if it came from a bucket and another machine fetched it.

    Raises:
        DataError: `raw` is damaged.
        StorageError: as for `bring`; or the bucket has changed since.
    """
    file = raw / LOCATION_FILE
    if not file.exists():
        return
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        location, version, names = state["location"], state["version"], list(state["names"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} cannot be read ({error}): run fetch_faces again") from error
    if not mirrored_before(source, location, version):
        listing = look(location, names)
        _check_version(listing, version, "fetch_faces saw")
        mirror(listing, source)


def _check_version(listing: Listing, expected: str | None, who: str) -> None:
    if expected is not None and listing.version != expected:
        raise StorageError(
            f"{listing.bucket.url} holds version {listing.version} of the photos, and {who} {expected}: they have "
            "changed. Put the old ones back, or take the new ones: correct or leave out fetch_faces.location_version "
            "and start again at fetch_faces"
        )
