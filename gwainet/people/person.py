"""A drawn person: the traits and all detail that belongs to them, made once and shown in every photo."""

from dataclasses import dataclass

import numpy as np

from gwainet.people.hair import Hair, Strands, draw_beard, draw_brows, draw_hair
from gwainet.people.skin import Skin, draw_skin
from gwainet.people.traits import Floats, Traits, draw_traits


@dataclass(frozen=True)
class Person:
    """What persists of a person.

    Attributes:
        iris: (32, 180) brightness over radius and angle.
        lashes: (2, 22, 3): place along the lid, angle, length.
        teeth: (10, 2): width and length factors of the upper teeth, left to right.
        creases: (24, 3): place, length and strength of the lips' fine lines.
    """

    traits: Traits
    skin: Skin
    hair: Hair
    beard: Strands
    brows: Strands
    iris: Floats
    lashes: Floats
    teeth: Floats
    creases: Floats


def draw_person(seed: int, identity: int) -> Person:
    """Make a person. The same seed and identity give the same person."""
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(identity,)))
    traits = draw_traits(random)
    rays = random.standard_normal(180)
    rays = np.convolve(np.r_[rays[-2:], rays, rays[:2]], (0.25, 0.5, 0.25), "same")[2:-2]
    flecks = random.standard_normal((32, 180))
    lashes = np.stack(
        [
            np.sort(random.uniform(0.06, 1.0, (2, 22)), axis=1),
            random.normal(0, 0.16, (2, 22)),
            random.uniform(0.65, 1.15, (2, 22)),
        ],
        -1,
    )
    return Person(
        traits=traits,
        skin=draw_skin(random, traits),
        hair=draw_hair(random, traits),
        beard=draw_beard(random, traits),
        brows=draw_brows(random, traits),
        iris=np.clip(1 + 0.26 * rays[None] + 0.12 * flecks, 0.4, 1.8).astype(np.float32),
        lashes=lashes.astype(np.float32),
        teeth=(1 + np.stack([random.normal(0, 0.05, 10), random.normal(0, 0.09, 10)], -1)).astype(np.float32),
        creases=np.stack(
            [random.uniform(-0.85, 0.85, 24), random.uniform(0.3, 0.9, 24), random.uniform(0.2, 1, 24)], -1
        ).astype(np.float32),
    )
