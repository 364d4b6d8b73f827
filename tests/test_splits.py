"""From lists to splits, no photo opened: CelebA at its real size gives the paper's counts; pairs keep people apart."""

from collections import Counter
from pathlib import Path
from statistics import median

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gwainet.errors import SourceError
from gwainet.params import load_params
from gwainet.sources import SPLITS, Listing, celeba, pairs
from gwainet.stages import prepare_faces
from tests.photos import CELEBA_SPLITS, SPLIT_OF_PARTITION, Contents, celeba_in_full, celeba_tables, params

ROWS = celeba_in_full()
IDENTITIES, PARTITION = celeba_tables(ROWS)
STORE = Contents(f"img_align_celeba/{name}" for name in ROWS)
PROFILE = load_params(Path(__file__).parents[1] / "params.yaml", "celeba")


def read(identities: str = IDENTITIES, partition: str = PARTITION) -> Listing:
    return celeba.list_photos(
        STORE, (Path("identity_CelebA.txt"), identities), (Path("list_eval_partition.txt"), partition)
    )


@pytest.fixture(scope="module", name="listing")
def _listing() -> Listing:
    return read()


# --- celeba ----------------------------------------------------------------------------------------------------------


def test_the_generated_lists_have_celebas_size_and_structure() -> None:
    photos = Counter(identity for identity, _ in ROWS.values())
    assert (len(ROWS), len(photos)) == (202_599, 10_177)
    assert (min(photos.values()), max(photos.values()), median(photos.values())) == (1, 35, 21)
    split = dict(ROWS.values())
    assert Counter(split.values()) == {part: people for part, (_, people, _) in CELEBA_SPLITS.items()}
    alone = Counter(split[identity] for identity, count in photos.items() if count == 1)
    assert alone == {"0": 36, "1": 5, "2": 3}


def test_all_of_celeba_is_listed_with_its_identity_and_split(listing: Listing) -> None:
    assert (listing.found, listing.identities, listing.rejected) == (202_599, 10_177, ())
    expected = [(f"img_align_celeba/{n}", i, SPLIT_OF_PARTITION[part]) for n, (i, part) in ROWS.items()]
    assert [(photo.file, photo.identity, photo.split) for photo in listing.photos] == expected


def test_without_people_of_one_photo_celeba_has_the_papers_counts(listing: Listing) -> None:
    groups, dropped = prepare_faces.plan(listing, PROFILE.prepare_faces)
    images, people = Counter[str](), Counter[str]()
    for group in groups:
        images[group.split] += len(group.entries)
        people[group.split] += 1
    assert images == {"train": 162_734, "validation": 19_862, "test": 19_959} == PROFILE.check_faces.images
    assert people == {"train": 8_156, "validation": 980, "test": 997}
    assert len({group.identity for group in groups}) == len(groups)
    assert {line.reason for line in dropped} == {"too few images"}
    parts = Counter(ROWS[Path(line.file).name][1] for line in dropped)
    assert parts == {"0": 36, "1": 5, "2": 3}


@pytest.mark.parametrize("header", ["image_id identity_id\n", "202599\nimage_id,identity_id\n"])
def test_a_header_changes_nothing(listing: Listing, header: str) -> None:
    assert read(header + IDENTITIES, header + PARTITION) == listing


@pytest.mark.parametrize("whole_lines", [True, False])
@pytest.mark.parametrize("which", ["identity_CelebA.txt", "list_eval_partition.txt"])
def test_a_list_that_was_cut_short_is_refused(which: str, whole_lines: bool) -> None:
    text = IDENTITIES if which == "identity_CelebA.txt" else PARTITION
    end = text.index("\n", len(text) * 3 // 5) + 1
    cut = text[: end if whole_lines else end + 5]
    with pytest.raises(SourceError, match=rf"{which}.*get it again"):
        read(identities=cut) if text is IDENTITIES else read(partition=cut)


def test_an_identity_in_two_splits_is_refused_with_its_counts_and_files() -> None:
    identity, count = next((i, n) for i, n in Counter(i for i, _ in ROWS.values()).items() if n == 21)
    mine = [name for name, (other, _) in ROWS.items() if other == identity]
    assert ROWS[mine[0]][1] == "0"
    moved = PARTITION
    for name in mine[-2:]:
        moved = moved.replace(f"{name} 0", f"{name} 2")
    with pytest.raises(SourceError) as caught:
        read(partition=moved)
    message = str(caught.value)
    assert message.startswith("list_eval_partition.txt puts 1 of 10,177 people into more than one split")
    files = [f"img_align_celeba/{name}" for name in mine]
    assert f"identity {identity}: {count - 2} in train ({', '.join(files[:3])}, ...), " in message
    assert f"2 in test ({', '.join(files[-2:])})" in message
    assert "get both again" in message


# --- pairs -----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 4)), min_size=8, max_size=40),
    named=st.booleans(),
    seed=st.integers(0, 9),
)
def test_validation_people_of_pairs_and_all_their_photos_are_apart_from_training(
    rows: list[tuple[int, int]], named: bool, seed: int
) -> None:
    """A person's targets share one guide, which ties them together even where the list names nobody."""
    assume(len({person for person, _ in rows}) >= 6)
    lines = [f"{f'p{person}' if named else ''},t{person}-{photo}.png,g{person}.png" for person, photo in rows]
    store = Contents(
        f"{kind}{p}{n}.png" for p in range(12) for kind, n in [("g", ""), *(("t", f"-{i}") for i in range(5))]
    )
    listing = pairs.list_photos(store, (Path("pairs.csv"), "\n".join(["identity,target,guide", *lines])))
    prepare = params("pairs", "photos", validation=0.3, test=0.2, seed=seed).prepare_faces
    groups, _ = prepare_faces.plan(listing, prepare)
    files = {split: {e.file for g in groups if g.split == split for e in g.entries} for split in SPLITS}
    people = {split: {g.identity for g in groups if g.split == split} for split in SPLITS}
    for parts in (files, people):
        assert all(parts.values())
        assert len(set.union(*parts.values())) == sum(map(len, parts.values()))
    assert len(set.union(*files.values())) == len(set(rows)) + len({person for person, _ in rows})
