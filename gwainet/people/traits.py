"""What persists of a drawn person: shape of the head, colours, styles. Pictures of one person share all of it.

Lengths are pixels of the 178x218 photo, with the origin between the eyes, x to the right and y down.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
HairStyle = Literal["short", "crop", "quiff", "long", "bangs", "bob", "back", "bun", "curly", "buzz", "bald"]
Facial = Literal["none", "stubble", "moustache", "goatee", "beard"]

# sRGB of skin in plain light, from the lightest to the darkest; a person lies between two neighbours
SKIN = np.array(
    [
        (240, 208, 190), (232, 192, 168), (222, 178, 148), (204, 156, 122),
        (180, 130, 96), (148, 102, 74), (112, 76, 56), (84, 56, 43),
    ],
    np.float32,
)  # fmt: skip
HAIR = {
    "black": (26, 22, 22),
    "darkbrown": (48, 34, 27),
    "brown": (84, 57, 40),
    "auburn": (104, 52, 32),
    "red": (132, 76, 48),
    "darkblond": (132, 104, 74),
    "blond": (184, 154, 112),
    "grey": (140, 136, 132),
    "white": (206, 202, 196),
}
EYES = {
    "dark": (50, 31, 22),
    "brown": (88, 54, 30),
    "hazel": (118, 88, 48),
    "green": (96, 116, 78),
    "grey": (116, 128, 134),
    "blue": (86, 124, 160),
}


@dataclass(frozen=True)
class Traits:
    """A person, in numbers. `masculine` and `age` lie in [0, 1] and pull on many of the others."""

    masculine: float
    age: float
    # head
    width: float  # half of it, at the cheekbones
    top: float  # of the skull above the eyes
    chin: float  # below the eyes
    jaw: float  # exponent: large is square
    taper: float  # exponent: large is full-cheeked
    cheekbone: float
    brow_ridge: float
    chin_bump: float
    hairline: float  # y of it above the nose
    recess: float  # how far the hair recedes at the temples
    ear: float
    neck: float  # half its width
    # nose
    nose_length: float
    nose_width: float
    nose_height: float
    nose_bridge: float
    # eyes
    eye_spacing: float  # half the distance of the centres
    eye_width: float
    eye_height: float
    eye_tilt: float
    eye_hood: float  # how much skin hangs over the lid
    iris: float
    lashes: float
    # brows
    brow_height: float
    brow_thickness: float
    brow_arch: float
    brow_length: float
    brow_tilt: float
    # mouth
    mouth_y: float
    mouth_width: float
    lip_upper: float
    lip_lower: float
    lip_cupid: float
    teeth_gap: float
    # surface
    skin: Floats
    redness: float
    oil: float
    freckles: float
    moles: int
    wrinkles: float
    lip_colour: Floats
    lip_paint: float
    eyeshadow: Floats
    eyeshadow_strength: float
    liner: float
    eye_colour: Floats
    brow_colour: Floats
    # hair
    hair_style: HairStyle
    hair_colour: Floats
    highlights: Floats
    highlight_share: float
    grey_share: float
    hair_length: float  # y where long hair ends
    hair_volume: float
    hair_wave: float
    hair_part: float  # -1 .. 1, where the hair parts
    facial: Facial
    facial_length: float
    # worn in every picture
    glasses: Literal["none", "round", "square", "cat", "aviator"]
    glasses_colour: Floats
    glasses_thickness: float
    earrings: Literal["none", "stud", "hoop", "drop"]
    earring_colour: Floats


def draw_traits(random: np.random.Generator) -> Traits:
    """Draw a person; traits that go together in people (skin and hair colour, age and wrinkles) are drawn together."""

    def near(mean: float, deviation: float) -> float:
        return float(mean + deviation * np.clip(random.standard_normal(), -2.2, 2.2))

    def between(low: float, high: float) -> float:
        return float(random.uniform(low, high))

    masculine = float(np.clip(random.choice([0.15, 0.85]) + 0.13 * random.standard_normal(), 0, 1))
    age = float(random.beta(1.1, 2.0))
    man = masculine > 0.5

    tone = float(random.uniform(0, len(SKIN) - 1.001))
    below, part = int(tone), tone - int(tone)
    skin = SKIN[below] * (1 - part) + SKIN[below + 1] * part
    skin = skin * (1 + np.array([0.0, 0.02, 0.045], np.float32) * random.standard_normal(3).astype(np.float32))
    skin = np.clip(skin, 20, 250).astype(np.float32)

    colour = _hair_colour(random, tone)
    grey_share = float(np.clip((age - 0.5) * 2.2 + 0.25 * random.standard_normal(), 0, 1)) if age > 0.45 else 0.0
    natural = np.array(HAIR[colour], np.float32) * (1 + 0.03 * random.standard_normal(3).astype(np.float32))
    style = _hair_style(random, man, age)
    facial: Facial = "none"
    if man:
        kinds: tuple[Facial, ...] = ("none", "stubble", "moustache", "goatee", "beard")
        facial = kinds[int(random.choice(5, p=[0.38, 0.26, 0.06, 0.1, 0.2]))]
    painted = 0.0 if man else float(random.choice([0.0, 0.35, 0.8], p=[0.3, 0.4, 0.3]))
    natural_lip = skin * np.array([0.86, 0.62, 0.62], np.float32) + np.array([16, 4, 8], np.float32)
    paint = np.array(
        [(168, 36, 48), (190, 74, 84), (150, 50, 76), (196, 98, 92), (120, 32, 44)][int(random.integers(5))], np.float32
    )
    iris = _eye_colour(random, tone)
    metals = np.array([(212, 178, 96), (200, 202, 206), (228, 222, 210)], np.float32)
    frames = np.array(
        [(22, 20, 20), (24, 22, 24), (70, 42, 26), (120, 26, 30), (38, 52, 92), (190, 160, 96), (150, 152, 156)],
        np.float32,
    )
    shades = np.array([(110, 74, 60), (90, 84, 92), (126, 84, 96), (80, 92, 110)], np.float32)
    tints = np.array([1.35, 1.25, 1.1], np.float32)
    return Traits(
        masculine=masculine,
        age=age,
        width=near(46.3 + 2.0 * masculine, 1.7),
        top=near(75, 2.5),
        chin=near(72.5 + 4.0 * masculine, 2.4),
        jaw=near(2.15 + 0.8 * masculine, 0.35),
        taper=near(1.62 + 0.3 * masculine, 0.15),
        cheekbone=near(2.2, 1.2),
        brow_ridge=near(0.8 + 2.0 * masculine, 0.6),
        chin_bump=near(3.2 + 1.0 * masculine, 1.0),
        hairline=near(-45, 2.5) - (4.0 * age if man else 0.0),
        recess=max(0.0, near(2.0 + (6.0 * age * masculine), 2.0)),
        ear=near(6.5 + 1.5 * masculine, 1.0),
        neck=near(27.5 + 8 * masculine, 1.6),
        nose_length=near(24.5, 1.8),
        nose_width=near(8.6 + 0.8 * masculine + 0.35 * tone, 0.9),
        nose_height=near(15.5 + 1.5 * masculine - 0.35 * tone, 1.8),
        nose_bridge=near(6.5 - 0.3 * tone + 1.0 * masculine, 1.4),
        eye_spacing=near(20.0, 0.5),
        eye_width=near(20.0, 1.0),
        eye_height=near(7.7 - 0.9 * masculine, 0.8),
        eye_tilt=near(0.06, 0.05),
        eye_hood=float(np.clip(near(0.25 + 0.35 * age + 0.15 * masculine, 0.25), 0, 1)),
        iris=near(4.2, 0.14),
        lashes=near(2.9 - 1.4 * masculine, 0.4),
        brow_height=near(13.6 - 2.0 * masculine, 1.0),
        brow_thickness=max(1.4, near(2.4 + 1.5 * masculine, 0.7)),
        brow_arch=near(2.6 - 1.2 * masculine, 0.8),
        brow_length=near(25, 1.5),
        brow_tilt=near(0.5, 1.1),
        mouth_y=near(41.0, 1.5),
        mouth_width=near(15.6 + 0.8 * masculine, 1.2),
        lip_upper=max(1.8, near(4.5 - 1.1 * masculine + 0.22 * tone, 0.9)),
        lip_lower=max(3.0, near(6.6 - 1.0 * masculine + 0.25 * tone, 0.9)),
        lip_cupid=between(0.05, 0.4),
        teeth_gap=between(0.0, 1.0),
        skin=skin,
        redness=between(0.15, 0.8) * (1 - 0.07 * tone),
        oil=between(0.35, 1.0),
        freckles=float(random.choice([0.0, between(0.2, 0.5), between(0.6, 1.0)], p=[0.5, 0.25, 0.25]))
        * float(tone < 4.5),
        moles=int(random.choice([0, 1, 2, 3, 5], p=[0.2, 0.25, 0.25, 0.2, 0.1])),
        wrinkles=float(np.clip(near(age * 1.15 - 0.1, 0.12), 0, 1)),
        lip_colour=(natural_lip * (1 - painted) + paint * painted).astype(np.float32),
        lip_paint=painted,
        eyeshadow=shades[int(random.integers(len(shades)))],
        eyeshadow_strength=0.0 if man else float(random.choice([0.0, between(0.2, 0.65)])),
        liner=0.0 if man else between(0.0, 1.0),
        eye_colour=iris,
        brow_colour=(natural * between(0.6, 0.9) * (1 - 0.4 * grey_share) + 55 * 0.6 * grey_share).astype(np.float32),
        hair_style=style,
        hair_colour=np.clip(natural, 12, 240).astype(np.float32),
        highlights=np.clip(natural * tints * between(1.2, 1.7) + 14, 0, 235).astype(np.float32),
        highlight_share=0.0 if man else float(random.choice([0.0, between(0.1, 0.35)])),
        grey_share=grey_share,
        hair_length={"bob": between(44, 62)}.get(style, between(70, 125)),
        hair_volume=between(0.6, 1.5),
        hair_wave=float(random.choice([between(0.0, 0.6), between(1.2, 3.2)])),
        hair_part=float(np.clip(near(0, 0.28), -0.55, 0.55)),
        facial=facial,
        facial_length=between(2.5, 8.0),
        glasses=_glasses(random, age),
        glasses_colour=frames[int(random.integers(len(frames)))],
        glasses_thickness=between(0.7, 2.0),
        earrings=_earrings(random, man),
        earring_colour=metals[int(random.integers(len(metals)))],
    )


def _hair_colour(random: np.random.Generator, tone: float) -> str:
    names = ("black", "darkbrown", "brown", "auburn", "red", "darkblond", "blond")
    weights = (
        np.array([1.0, 2.0, 2.5, 0.8, 0.8, 1.8, 1.8]) if tone < 2.5 else np.array([3.0, 3.0, 1.2, 0.3, 0.0, 0.2, 0.1])
    )
    if tone > 4.5:
        weights = np.array([5.0, 2.0, 0.2, 0.1, 0.0, 0.0, 0.05])
    return names[int(random.choice(len(names), p=weights / weights.sum()))]


def _eye_colour(random: np.random.Generator, tone: float) -> Floats:
    names = tuple(EYES)
    weights = np.array([0.5, 1.5, 1.2, 1.0, 1.0, 1.8]) if tone < 2.5 else np.array([3.0, 3.0, 0.6, 0.2, 0.1, 0.1])
    chosen = EYES[names[int(random.choice(len(names), p=weights / weights.sum()))]]
    return np.array(chosen, np.float32) * np.float32(random.uniform(0.85, 1.2))


def _hair_style(random: np.random.Generator, man: bool, age: float) -> HairStyle:
    styles: tuple[HairStyle, ...] = (
        "short", "crop", "quiff", "long", "bangs", "bob", "back", "bun", "curly", "buzz", "bald",
    )  # fmt: skip
    if man:
        weights = np.array([3.0, 2.0, 2.4, 0.4, 0, 0.1, 0.6, 0, 1.0, 1.0, 0.3 + 1.6 * age])
    else:
        weights = np.array([0.6, 0.1, 0, 3.6, 1.6, 1.8, 1.0, 0.9, 1.1, 0.05, 0])
    return styles[int(random.choice(len(styles), p=weights / weights.sum()))]


def _glasses(random: np.random.Generator, age: float) -> Literal["none", "round", "square", "cat", "aviator"]:
    if random.random() > 0.16 + 0.22 * age:
        return "none"
    kinds: tuple[Literal["round", "square", "cat", "aviator"], ...] = ("round", "square", "cat", "aviator")
    return kinds[int(random.integers(4))]


def _earrings(random: np.random.Generator, man: bool) -> Literal["none", "stud", "hoop", "drop"]:
    if random.random() < (0.93 if man else 0.4):
        return "none"
    kinds: tuple[Literal["stud", "hoop", "drop"], ...] = ("stud", "hoop", "drop")
    return kinds[int(random.integers(3))]
