"""CelebA's layout: photos in one folder or zip, an identity file and a partition file; the drawn people have it too."""

import posixpath
from collections.abc import Collection, Container, Iterable
from pathlib import Path

from gwainet.errors import SourceError
from gwainet.sources.landmarks import read_landmarks
from gwainet.sources.names import is_photo
from gwainet.sources.photo import SPLITS, Listing, Photo, check_disjoint, examples
from gwainet.sources.store import Store

_PARTITIONS = dict(zip("012", SPLITS, strict=True))
_REMEDY = "the file is damaged or not complete, get it again"
_HEADER_LINES = 2  # none, names of columns, or a count and names, as CelebA's other lists have them


def list_photos(
    store: Store, identities: tuple[Path, str], partition: tuple[Path, str], landmarks: tuple[Path, str] | None = None
) -> Listing:
    """Join the photos with their identities and splits (Sec. 4.1).

    Args:
        store: of the photos, in any folder inside it.
        identities: path (for messages) and text of the identity file.
        partition: path and text of the partition file.
        landmarks: path and text of the list of landmarks, where there is one.

    Raises:
        SourceError: a row is malformed, they do not list the same photos, or an identity lies in two splits.
    """
    person = _table(*identities, "the number of its identity")
    part = _table(*partition, "its partition (0 train, 1 validation, 2 test)", _PARTITIONS)
    files = _by_name(store)
    refused = store.refused()  # such as a link in the zip: listed, but no file that could be read
    unusable = {posixpath.basename(photo.file): photo.file for photo in refused}
    _same(person, unusable | files, f"{store.path} lacks", f"that {identities[0]} lists")
    _same(files, person, f"{identities[0]} has no row for", f"in {store.path}")
    _same(person, part, f"{partition[0]} has no row for", f"of {identities[0]}")
    _same(part, person, f"{identities[0]} has no row for", f"of {partition[0]}")
    photos = tuple(
        Photo(identity, files[name], _PARTITIONS[part[name]]) for name, identity in person.items() if name in files
    )
    check_disjoint(photos, partition[0], "the two lists are not CelebA's own or not complete, get both again")
    places = None
    if landmarks is not None:
        listed = read_landmarks(*landmarks)
        _same(person, listed.rows, f"{landmarks[0]} has no row for", f"of {identities[0]}")
        _same(listed.rows, person, f"{identities[0]} has no row for", f"of {landmarks[0]}")
        places = listed.renamed(files)
    return Listing(photos, tuple(refused), len(photos) + len(refused), landmarks=places)


def _table(path: Path, text: str, meaning: str, allowed: Iterable[str] | None = None) -> dict[str, str]:
    """Name of photo -> value, from lines `000001.jpg 2880` (or with a comma), with or without a header."""
    values = None if allowed is None else set(allowed)
    rows: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.replace(",", " ").split()
        if not fields or (not rows and number <= _HEADER_LINES and not is_photo(fields[0])):
            continue
        if len(fields) != 2 or not is_photo(fields[0]) or (values is not None and fields[1] not in values):
            raise SourceError(
                f"{path}, line {number}: expected a photo's name and {meaning}, found {line!r}: {_REMEDY}"
            )
        if fields[0] in rows:
            raise SourceError(f"{path}, line {number}: {fields[0]} has a row already: {_REMEDY}")
        rows[fields[0]] = fields[1]
    if not rows:
        raise SourceError(f"{path} has no rows: each line must hold a photo's name and {meaning}: {_REMEDY}")
    return rows


def _by_name(store: Store) -> dict[str, str]:
    """Name of photo -> path inside the store."""
    files: dict[str, str] = {}
    for file in filter(is_photo, store.files()):
        name = posixpath.basename(file)
        if name in files:
            raise SourceError(f"{store.path} holds {name} twice, as {files[name]} and {file}: remove one")
        files[name] = file
    if not files:
        raise SourceError(f"{store.path} holds no photo")
    return files


def _same(listed: Collection[str], present: Container[str], problem: str, where: str) -> None:
    absent = [name for name in listed if name not in present]
    if absent:
        raise SourceError(
            f"{problem} {len(absent):,} of the {len(listed):,} photos {where} ({examples(absent)}): {_REMEDY}"
        )
