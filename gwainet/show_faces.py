"""A contact sheet of prepared faces, or of photos that were not used, for people: `python -m gwainet show-faces`."""

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageDraw, ImageFont, ImageOps

from gwainet.dataset import Faces
from gwainet.errors import DataError, SourceError
from gwainet.files import staged_file
from gwainet.images import DAMAGE
from gwainet.params import Params
from gwainet.progress import say
from gwainet.sources import Files, Store, open_store, reopen

SHEET_WIDTH = 1600  # pixels, about
GAP, TEXT, TITLE = 8, 13, 18  # pixels: between tiles; sizes of the letters
LINES = 3  # of text under a tile
PHOTO = (200, 200)  # width and height of a photo that was not used


@dataclass(frozen=True)
class Tile:
    """Pictures side by side, each of the first one's size at most, and lines of text below them."""

    pictures: tuple[Image.Image, ...]
    lines: tuple[str, ...]


def write_sheet(
    params: Params,
    root: Path,
    out: Path,
    *,
    identity: str | None = None,
    split: str | None = None,
    rejected: bool = False,
    most: int = 60,
) -> None:
    """Write a sheet of a person, of a split, of all splits, or of the photos that were not used.

    Args:
        params: of the profile.
        root: where `data/` lies.
        out: picture to write, in the format that its suffix names.
        identity: whose faces.
        split: train, validation or test; with neither, faces of all three.
        rejected: photos of `rejected.csv`, with the reason.
        most: tiles shown; of more, evenly spread ones, and the sheet says how many are left out.

    Raises:
        DataError: nothing was prepared, or nobody has that name; the nearest names are told.
        SourceError: the photos that were not used are gone or have changed.
    """
    data = root / "data" / params.profile
    if rejected:
        title, tiles, count = _unused(data, root / "data" / "source" / params.profile, most)
    else:
        title, tiles, count = _faces(Faces(data / "faces"), identity, split, most)
    left = f", {len(tiles):,} shown, {count - len(tiles):,} left out" if count > len(tiles) else ""
    each = "" if rejected else ". Each: face, low resolution, fixed guide"
    sheet = _sheet(f"{params.profile}: {title}{left}{each}", tiles)
    with staged_file(out) as partial:
        sheet.save(partial, Image.registered_extensions()[out.suffix.lower()])
    say(f"show-faces: {title}{left}: {out}")


def _faces(faces: Faces, identity: str | None, split: str | None, most: int) -> tuple[str, list[Tile], int]:
    """Title, tiles and number of all faces asked for."""
    manifest = faces.manifest
    chosen = np.ones(len(manifest), bool)
    if identity is not None:
        chosen &= (manifest["identity"] == identity).to_numpy(bool)
        if not chosen.any():
            raise DataError(_nobody(identity, manifest["identity"].unique().tolist()))
    if split is not None:
        chosen &= (manifest["split"] == split).to_numpy(bool)
        if not chosen.any():
            raise DataError(f"{identity or 'nobody'} has no image in the {split} split")
    rows = np.flatnonzero(chosen)
    what = " of ".join(part for part in (split and f"the {split} split", identity) if part) or "all splits"
    people = manifest["identity"][chosen].nunique()
    title = f"{what}, {len(rows):,} images" + (f" of {people:,} people" if identity is None else "")
    return title, [_face(faces, manifest, int(row)) for row in _spread(rows, most)], len(rows)


def _face(faces: Faces, manifest: pd.DataFrame, row: int) -> Tile:
    """The face, its low-resolution image enlarged without smoothing, and its fixed guide."""
    entry = manifest.iloc[row]
    face = Image.fromarray(np.asarray(faces.hr[row]))
    low = Image.fromarray(np.asarray(faces.lr[row])).resize(face.size, Image.Resampling.NEAREST)
    pictures, guide = [face, low], int(entry["guide_row"])
    line = "guide only: no target"
    if guide >= 0:
        pictures.append(Image.fromarray(np.asarray(faces.hr[guide])))
        line = f"guide: row {guide}"
    lines = (f"{entry['identity']} ({entry['split']})", f"row {row}, {line}", str(entry["source_file"]))
    return Tile(tuple(pictures), lines)


def _nobody(identity: str, names: Sequence[str]) -> str:
    folded = {name.casefold(): name for name in names}  # two that differ by case alone: one of them is enough
    near = difflib.get_close_matches(identity.casefold(), folded, n=5, cutoff=0.5)
    found = ", ".join(folded[name] for name in near) or f"none is near; there are {', '.join(sorted(names)[:5])}, ..."
    return f"nobody is called {identity!r} among the {len(names):,} people that were prepared: did you mean {found}?"


def _unused(data: Path, source: Path, most: int) -> tuple[str, list[Tile], int]:
    """Title, tiles and number of the photos that were not used."""
    try:
        table = pd.read_csv(data / "faces" / "rejected.csv", dtype=str, keep_default_na=False)
        info = json.loads((data / "raw" / "source.json").read_text(encoding="utf-8"))
        files = reopen(info, data / "raw" if info["inside_raw"] else source)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{data} does not say what was not used ({error}): run fetch_faces and prepare_faces"
        ) from error
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in table["reason"].value_counts().items())
    title = f"{len(table):,} photos that were not used" + (f" ({reasons})" if reasons else "")
    rows = table.iloc[_spread(np.arange(len(table)), most)]
    return title, list(_photos(files, rows)), len(table)


def _photos(files: Files, rows: pd.DataFrame) -> Iterator[Tile]:
    store = open_store(files.images)
    try:
        for file, reason, detail in rows[["source_file", "reason", "detail"]].itertuples(index=False):
            yield Tile((_photo(store, file),), (reason, detail, file))
    finally:
        store.close()


def _photo(store: Store, file: str) -> Image.Image:
    """The photo, as it is looked at; a grey tile that says so where it cannot be opened."""
    tile = Image.new("RGB", PHOTO, "#d8dbe0")
    try:
        with Image.open(BytesIO(store.read(file))) as image:
            image.draft("RGB", PHOTO)  # a JPEG is decoded no larger than needed
            picture = ImageOps.exif_transpose(image).convert("RGB")
    except (*DAMAGE, SourceError, Image.DecompressionBombError):
        ImageDraw.Draw(tile).text((PHOTO[0] / 2, PHOTO[1] / 2), "cannot be opened", "#444", _font(TEXT), anchor="mm")
        return tile
    picture.thumbnail(PHOTO, Image.Resampling.LANCZOS)
    tile.paste(picture, ((PHOTO[0] - picture.width) // 2, (PHOTO[1] - picture.height) // 2))
    return tile


def _spread(rows: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """All rows, or `most` of them, evenly spread."""
    if len(rows) <= most:
        return rows
    chosen: npt.NDArray[np.int64] = rows[np.linspace(0, len(rows) - 1, most).astype(int)]
    return chosen


def _sheet(title: str, tiles: Sequence[Tile]) -> Image.Image:
    font, heading = _font(TEXT), _font(TITLE)
    first = tiles[0].pictures[0].size if tiles else PHOTO
    across = max((len(tile.pictures) for tile in tiles), default=1)
    width, height = across * (first[0] + 2), first[1] + LINES * (TEXT + 3) + 2
    columns = max(1, min(len(tiles), (SHEET_WIDTH - GAP) // (width + GAP)))
    title_lines = _wrapped(title, max(columns * (width + GAP) - GAP, 3 * PHOTO[0]), heading)
    top = len(title_lines) * (TITLE + 4) + 2 * GAP
    rows = -(-len(tiles) // columns)
    wide = max(columns * (width + GAP) + GAP, 3 * PHOTO[0] + 2 * GAP)
    sheet = Image.new("RGB", (wide, top + rows * (height + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(title_lines):
        draw.text((GAP, GAP + number * (TITLE + 4)), line, "black", heading)
    for number, tile in enumerate(tiles):
        left, y = GAP + number % columns * (width + GAP), top + number // columns * (height + GAP)
        for place, picture in enumerate(tile.pictures):
            sheet.paste(picture, (left + place * (first[0] + 2), y))
        for place, line in enumerate(tile.lines[:LINES]):
            draw.text((left, y + first[1] + 3 + place * (TEXT + 3)), _cut(line, width, font), "black", font)
    return sheet


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _cut(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, shortened where it is too long: a sentence at its end, a path at its beginning, which says less."""
    if font.getlength(text) <= width:
        return text
    if " " in text:
        stop = next((i for i in range(len(text) - 1, 0, -1) if font.getlength(f"{text[:i]}...") <= width), 0)
        return f"{text[:stop]}..."
    start = next((i for i in range(1, len(text)) if font.getlength(f"...{text[i:]}") <= width), len(text))
    return f"...{text[start:]}"


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
