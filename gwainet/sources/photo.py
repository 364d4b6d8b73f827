"""What every source yields, whatever its files look like."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from gwainet.errors import SourceError
from gwainet.sources.landmarks import Landmarks

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo to super-resolve.

    Attributes:
        identity: the source's own name of the person.
        file: path inside the source's images, with forward slashes.
        split: train, validation or test where the source says so, else None.
        guide: path of the pair's own guide (source `pairs`), else None.
    """

    identity: str
    file: str
    split: str | None = None
    guide: str | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """A photo that is not used: a line of `rejected.csv`."""

    file: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Listing:
    """All that a source lists, before any photo is opened.

    Attributes:
        photos: in the source's order.
        rejected: photos that cannot be used whatever their pixels are.
        found: number of photos listed, guides, rejected and dropped ones included.
        dropped: photos that could be used, but for what they belong with.
        landmarks: of each of the photos, where the source brings them.
    """

    photos: tuple[Photo, ...]
    rejected: tuple[Rejection, ...]
    found: int
    dropped: tuple[Rejection, ...] = ()
    landmarks: Landmarks | None = field(default=None, compare=False)  # arrays have no one answer to `==`

    @property
    def identities(self) -> int:
        """Number of different people."""
        return len({photo.identity for photo in self.photos})


def check_disjoint(photos: Iterable[Photo], origin: object, remedy: str) -> None:
    """Each person is in one split alone: the official splits of CelebA share none (Sec. 4.1; docs/paper.md, D1).

    Args:
        photos: of the whole source.
        origin: what puts people into splits, for the message.
        remedy: what to do, for the message.

    Raises:
        SourceError: names the first person in several splits, with counts and example files, and how many there are.
    """
    files: dict[str, dict[str | None, list[str]]] = defaultdict(dict)
    for photo in photos:
        files[photo.identity].setdefault(photo.split, []).append(photo.file)
    mixed = [identity for identity, splits in files.items() if len(splits) > 1]
    if mixed:
        parts = [f"{len(of):,} in {split} ({examples(of)})" for split, of in files[mixed[0]].items()]
        raise SourceError(
            f"{origin} puts {len(mixed):,} of {len(files):,} people into more than one split, such as identity "
            f"{mixed[0]}: {', '.join(parts)}. A person must be in one split alone: {remedy}"
        )


def examples(names: list[str]) -> str:
    """The first few of many names, for a message."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
