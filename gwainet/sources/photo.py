"""What every source yields, whatever its files look like."""

from dataclasses import dataclass

SPLITS = ("train", "validation", "test")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


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
        found: number of photos listed, guides and rejected ones included.
    """

    photos: tuple[Photo, ...]
    rejected: tuple[Rejection, ...]
    found: int

    @property
    def identities(self) -> int:
        """Number of different people."""
        return len({photo.identity for photo in self.photos})
