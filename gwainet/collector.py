"""Python's collector of cycles, kept from walking again and again over thousands of objects that are there to stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Without it: for blocks that make many objects, keep nearly all of them, and leave no large one in a cycle."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def frozen() -> Iterator[None]:
    """Whatever there is now is not looked at; what the block makes is collected as ever.

    At the end all is thawed, what others had frozen too: Python knows no other way.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
