"""Each kind of damaged photo and each trick is counted, listed and skipped, or used and noted."""

from tests.faults.damage import FOLDER_TRICKS, KINDS, ZIP_TRICKS
from tests.faults.planted import plant
from tests.faults.project import params
from tests.photos import CROP, encoded, pixels


def test_every_kind_and_trick_is_counted_listed_and_leaves_the_other_photos_as_they_were(tmp_path):
    photos = {
        f"person{person:02}/{number}.jpg": encoded(pixels(100 * person + number), "JPEG", quality=95)
        for person in range(8)
        for number in range(3)
    }
    found = list(plant(tmp_path, photos, params(crop=CROP), share=2 / 24))
    assert {f"{case.kind}, {case.source}": case.wrong for case in found if case.wrong} == {}
    assert len(found) == 2 * len(KINDS) + len(ZIP_TRICKS) + len(FOLDER_TRICKS)
    assert {case.planted for case in found} == {2}
