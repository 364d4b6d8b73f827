"""Members of a zip, read where they lie: `zipfile`'s bytes, and `zipfile`'s words where they are damaged."""

import zipfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gwainet.errors import SourceError
from gwainet.sources import Rejection, store
from gwainet.sources.store import Reader, open_store
from tests.photos import encoded, made_faces, photo, pixels, write_folder, write_zip

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
MEMBERS = {"a/ä.bmp": encoded(pixels(1), "BMP"), "a/empty": b"", "b.png": encoded(pixels(2)), "long/" * 9 + "c": b"c"}


def read_all(path: Path, whole: Path | None = None) -> list[bytes | tuple[str, str]]:
    """Each member's bytes, or the error; the table of contents is that of `whole`."""
    with closing(open_store(whole or path)) as opened:
        names = list(opened.files())
        places = opened.places(names)
    found: list[bytes | tuple[str, str]] = []
    with closing(Reader(path)) as reader:
        for name, place in zip(names, places, strict=True):
            try:
                found.append(reader.read(name, place))
            except store.UNREADABLE as error:
                found.append((type(error).__name__, str(error)))
    return found


@pytest.mark.parametrize("method", METHODS)
def test_members_packed_in_any_way_are_read_as_they_went_in(tmp_path: Path, method: int) -> None:
    path = write_zip(tmp_path / "set.zip", MEMBERS, method)
    assert read_all(path) == [MEMBERS[name] for name in sorted(MEMBERS)]


@pytest.mark.parametrize("method", METHODS[:2])
def test_usual_members_need_no_table_of_contents(tmp_path: Path, method: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zip(tmp_path / "set.zip", MEMBERS, method)
    with closing(open_store(path)) as opened:
        names, places = list(opened.files()), opened.places(list(opened.files()))
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with closing(Reader(path)) as reader:
        assert [reader.read(*each) for each in zip(names, places, strict=True)] == [MEMBERS[name] for name in names]


def test_a_zip_with_something_before_it_and_long_extra_fields_is_read(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with path.open("wb") as file:
        file.write(b"a program that unpacks itself")
        with zipfile.ZipFile(file, "a") as archive:
            info = zipfile.ZipInfo("a.bin")
            info.extra = b"\x99\x99" + (300).to_bytes(2, "little") + bytes(300)
            archive.writestr(info, b"x" * 1000)
            with archive.open("streamed.bin", "w", force_zip64=True) as member:
                member.write(b"y" * 500)
    assert read_all(path) == [b"x" * 1000, b"y" * 500]


def test_a_folder_is_read_by_names(tmp_path: Path) -> None:
    assert read_all(write_folder(tmp_path / "set", MEMBERS)) == [MEMBERS[name] for name in sorted(MEMBERS)]


@settings(max_examples=200, deadline=None)
@given(
    method=st.sampled_from(METHODS[:3]),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=3),
)
def test_damaged_members_are_told_of_in_zipfiles_words(tmp_path_factory, method: int, flips) -> None:
    folder = tmp_path_factory.getbasetemp()
    whole = write_zip(folder / "whole.zip", MEMBERS, method)
    content = bytearray(whole.read_bytes())
    with zipfile.ZipFile(whole) as archive:
        contents_start = archive.start_dir  # what is damaged lies before the table of contents
    for place, bits in flips:
        content[int(place * (contents_start - 1))] ^= bits
    damaged = folder / "damaged.zip"
    damaged.write_bytes(content)
    quick = read_all(damaged)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_read_member", lambda *_: None)
        slow = read_all(damaged)
    assert [each if isinstance(each, bytes) else None for each in quick] == [
        each if isinstance(each, bytes) else None for each in slow
    ]
    if method != zipfile.ZIP_BZIP2:  # of which no more is unpacked than a member says: damage behind has other words
        assert quick == slow


def marked(path: Path, name: str, flags: int) -> None:
    """Set flags of a member in the table at the zip's end."""
    content = bytearray(path.read_bytes())
    content[content.rindex(name.encode()) - 46 + 8] |= flags
    path.write_bytes(content)


def test_a_member_that_python_cannot_unpack_is_a_photo_that_cannot_be_read(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", {f"a/{n}.png": photo(n) for n in range(4)}, zipfile.ZIP_LZMA)
    marked(path, "a/0.png", 0x20)  # patched data
    marked(path, "a/1.png", 0x40)  # strong encryption
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("a/2.png").header_offset + 30 + len("a/2.png")
    content = bytearray(path.read_bytes())
    content[start + 4 : start + 9] = b"\xff" * 5  # LZMA's own settings
    path.write_bytes(content)
    made = made_faces(path, [f"a/{n}.png" for n in range(4)], 1, tmp_path)
    reasons = [result.reason if isinstance(result, Rejection) else "" for result, _, _ in made]
    assert reasons == ["unreadable", "unreadable", "unreadable", ""]


def test_a_zip_whose_names_are_no_text_in_their_encoding_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", {"a/ä.png": photo(1)})
    path.write_bytes(path.read_bytes().replace("ä".encode(), b"\xff\xff"))
    with pytest.raises(SourceError, match="cannot be read"):
        open_store(path)


def test_a_reader_takes_the_member_that_the_listing_named_not_another_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:  # read through zipfile, which knows members by name
        archive.writestr("a/1.png@", b"the first")
        archive.writestr("a/1.png", b"the second")
    path.write_bytes(path.read_bytes().replace(b"a/1.png@", b"a/1.png\0"))  # cut off to the name of the other
    with closing(open_store(path)) as opened:
        assert list(opened.files()) == ["a/1.png"]
        assert opened.read("a/1.png") == b"the second"
        (place,) = opened.places(["a/1.png"])
    with closing(Reader(path)) as reader:
        assert reader.read("a/1.png", place) == b"the second"
