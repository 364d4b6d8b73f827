"""Any set with one folder a person: Labeled Faces in the Wild, a user's own photos."""

from pathlib import PurePosixPath

from gwainet.errors import SourceError
from gwainet.sources.names import is_photo
from gwainet.sources.photo import Listing, Photo, Rejection
from gwainet.sources.store import Store


def list_photos(store: Store) -> Listing:
    """Photos under `<anything>/<person>/<photo>`; folders of one name, wherever they lie, are one person.

    Raises:
        SourceError: there is no photo in any person's folder.
    """
    photos: list[Photo] = []
    rejected: list[Rejection] = store.refused()[:]
    for file in filter(is_photo, store.files()):
        person = PurePosixPath(file).parent.name
        if person:
            photos.append(Photo(person, file))
        else:
            rejected.append(Rejection(file, "no identity", "lies in no person's folder"))
    if not photos:
        found = f"{len(rejected):,} photos in no folder" if rejected else "no photos"
        raise SourceError(
            f"{store.path} holds {found}: expected one folder a person, each with the person's photos "
            "(jpg, jpeg, png, webp or bmp)"
        )
    return Listing(tuple(photos), tuple(rejected), len(photos) + len(rejected))
