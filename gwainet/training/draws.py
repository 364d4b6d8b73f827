"""Random numbers that are a pure function of what they are for: the same on every device and in every process.

Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) turns a counter and a key into
four words of 32 bits. Torch's own generators give other numbers on a GPU than on a CPU; these are integer arithmetic
alone.
"""

import torch
from torch import Tensor

_MASK = 2**32 - 1
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10

Counter = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: Counter, key: tuple[int, int]) -> Counter:
    """Four words of each counter.

    Shapes: four (B,) int64 -> four (B,) int64, all in [0, 2^32).

    Args:
        counter: its four words.
        key: its two words, each in [0, 2^32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # int64 wraps around, which leaves the low 64 bits of the product right
        left, right = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = _high(right) ^ c1 ^ k0, right & _MASK, _high(left) ^ c3 ^ k1, left & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def _high(product: Tensor) -> Tensor:
    """The upper half of 64 bits; a shift alone would carry the sign down."""
    return (product >> 32) & _MASK


def words(seed: int, stream: int, places: Tensor) -> Tensor:
    """Eight words for each place of a stream.

    Shapes: places (...) int64, not negative -> (8, ...) int64 in [0, 2^32).

    Args:
        seed: not negative; only its lower 64 bits count.
        stream: places of another stream get other words.
        places: what the words are for, counted from 0.
    """
    key = (seed & _MASK, (seed >> 32) & _MASK)
    low, high = places & _MASK, places >> 32
    made = [philox((low, high, torch.full_like(low, stream), torch.full_like(low, part)), key) for part in (0, 1)]
    return torch.stack([word for part in made for word in part])


def uniform(word: Tensor) -> Tensor:
    """Numbers in [0, 1), of a word's upper 24 bits: each is a float32 without rounding. Shapes: (...) -> (...)."""
    return (word >> 8).to(torch.float32) * 2.0**-24
