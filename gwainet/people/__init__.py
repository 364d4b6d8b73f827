"""People that the project draws itself: the default data set, made from a seed with no download."""

from gwainet.people.dataset import Counts, write_people
from gwainet.people.photo import draw_photo

__all__ = ["Counts", "draw_photo", "write_people"]
