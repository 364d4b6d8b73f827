"""Pairs of target and guide, listed in a CSV file (the paper's full-model data set, Sec. 4.1; D8 in docs/paper.md)."""

import csv
from collections.abc import Container
from io import StringIO
from pathlib import Path, PurePosixPath

from gwainet.errors import SourceError
from gwainet.sources.photo import SPLITS, Listing, Photo, Rejection, examples
from gwainet.sources.store import Store

_COLUMNS = ("identity", "target", "guide", "split")


def find_list(store: Store, name: str) -> str | None:
    """Path of the CSV file inside the images, the one nearest to the top."""
    found = [file for file in store.files() if PurePosixPath(file).name == name]
    return min(found, key=lambda file: (file.count("/"), file)) if found else None


def list_photos(store: Store, pairs: tuple[Path, str]) -> Listing:
    """Pairs as `pairs.csv` lists them.

    A pair without an identity is a person of its own, `pair-000123` for row 123, unless an earlier row shares one of
    its photos: then it is that row's person. Where all photos lie in one folder, paths may leave that folder out.

    Args:
        store: of the photos.
        pairs: path (for messages) and text of the CSV file: `identity`, `target`, `guide`, `split`.

    Raises:
        SourceError: a row is malformed, names a photo that is not there, or gives a photo to two people; or some rows
            have a split and some have none.
    """
    path, text = pairs
    files = store.files()
    tops = {file.split("/")[0] for file in files}
    folder = f"{tops.pop()}/" if len(tops) == 1 and all("/" in file for file in files) else ""
    photos: list[Photo] = []
    rejected = [*store.refused()]
    refused = {photo.file for photo in rejected}
    absent: list[str] = []
    owner: dict[str, tuple[str, int]] = {}
    targets: set[str] = set()
    alone: dict[str, Rejection] = {}  # of rows whose other photo is refused
    for row, (line, fields) in enumerate(_rows(path, text), 1):
        target, guide = (_find(fields[column], files, folder) for column in ("target", "guide"))
        lost = [fields[column] for column in ("target", "guide") if _find(fields[column], refused, folder)]
        absent += [
            f"{fields[name]} (line {line})"
            for name, file in (("target", target), ("guide", guide))
            if file is None and fields[name] not in lost
        ]
        if lost:
            if target is not None:
                alone.setdefault(target, Rejection(target, "no usable guide", f"{path.name}, line {line}: {lost[0]}"))
            if guide is not None:
                alone.setdefault(guide, Rejection(guide, "no usable target", f"{path.name}, line {line}: {lost[0]}"))
            continue
        if target is None or guide is None:
            continue
        known = next((owner[file][0] for file in (target, guide) if file in owner), f"pair-{row:06d}")
        identity = fields["identity"] or known
        for file in (target, guide):
            other, other_line = owner.setdefault(file, (identity, line))
            if other != identity:
                raise SourceError(
                    f"{path}, line {line}: {file} belongs to {identity} here and to {other} in line {other_line}: "
                    "give both rows the same identity, or remove one"
                )
        if target == guide:
            rejected.append(Rejection(target, "guide is the target", f"{path.name}, line {line}"))
        elif target in targets:
            rejected.append(Rejection(target, "target listed twice", f"{path.name}, line {line}"))
        else:
            targets.add(target)
            photos.append(Photo(identity, target, fields["split"] or None, guide))
    if absent:
        raise SourceError(f"{store.path} lacks {len(absent):,} photos that {path} lists: {examples(absent)}")
    if not photos:
        raise SourceError(f"{path} lists no usable pair")
    dropped = tuple(rejection for file, rejection in alone.items() if file not in owner)
    return Listing(tuple(photos), tuple(rejected), len((owner | alone).keys() | refused), dropped)


def _rows(path: Path, text: str) -> list[tuple[int, dict[str, str]]]:
    """Line number and fields of all rows."""
    reader = csv.DictReader(StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
        unknown = [name for name in header if name not in _COLUMNS]
        if unknown or not {"target", "guide"} <= set(header) or len(set(header)) != len(header):
            raise SourceError(
                f"{path}, line 1: expected the columns {','.join(_COLUMNS)} (identity and split may be left out), "
                f"found {','.join(header)!r}"
            )
        reader.fieldnames = header
        for fields in reader:
            line = reader.line_num
            if None in fields or None in fields.values():
                raise SourceError(f"{path}, line {line}: expected {len(header)} fields ({','.join(header)})")
            row = {column: (fields.get(column) or "").strip() for column in _COLUMNS}
            if not row["target"] or not row["guide"]:
                raise SourceError(f"{path}, line {line}: target and guide must name a photo each")
            if row["split"] not in ("", *SPLITS):
                raise SourceError(
                    f"{path}, line {line}: split is {row['split']!r}, expected {', '.join(SPLITS)} or nothing"
                )
            rows.append((line, row))
    except csv.Error as error:
        raise SourceError(f"{path}, line {reader.line_num + 1}: {error}") from None
    if not rows:
        raise SourceError(f"{path} has no rows")
    without = [line for line, row in rows if not row["split"]]
    if 0 < len(without) < len(rows):
        raise SourceError(
            f"{path}, line {without[0]}: no split, while other rows have one: give one to every row, or to none "
            "(prepare_faces then draws them)"
        )
    return rows


def _find(name: str, files: Container[str], folder: str) -> str | None:
    """The store's path of a photo named in the list."""
    path = PurePosixPath(name.replace("\\", "/")).as_posix()
    return next((candidate for candidate in (path, folder + path) if candidate in files), None)
