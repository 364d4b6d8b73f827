"""What a benchmark has measured so far, outside DVC's outputs: a killed one measures no finished part again.

A part is a model with all its guides, or what needs no model. Each lies in a file of its own, with the facts that its
figures depend on; other facts, or a damaged file, and the part is measured anew and takes the file's place.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gwainet.files import staged_file
from gwainet.progress import say

FORMAT = 1
_FACTS = "facts"

Arrays = dict[str, npt.NDArray[Any]]


class Kept:
    """Files of measured parts.

    Args:
        directory: where they lie; made when the first one is written.
        facts: that all parts depend on, values of JSON.
        of_part: part -> facts of that part alone; a part that is not named has none.
    """

    def __init__(
        self, directory: Path, facts: Mapping[str, object], of_part: Mapping[str, Mapping[str, object]]
    ) -> None:
        self._directory, self._facts, self._of_part = directory, dict(facts), of_part

    def load(self, part: str, systems: tuple[str, ...]) -> Arrays | None:
        """What was measured of a part with these systems and these facts; None where nothing usable was."""
        path = self._path(part)
        try:
            with np.load(path, allow_pickle=False) as file:
                if str(file[_FACTS]) != self._digest(part, systems):
                    return None
                return {name: file[name] for name in file.files if name != _FACTS}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            say(f"{path} cannot be read ({error}): {part} is measured again")
            return None

    def save(self, part: str, systems: tuple[str, ...], arrays: Arrays) -> None:
        """Keep a part, in one piece."""
        with staged_file(self._path(part)) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_FACTS: np.array(self._digest(part, systems))}, **arrays)

    def _path(self, part: str) -> Path:
        return self._directory / f"{part}.npz"

    def _digest(self, part: str, systems: tuple[str, ...]) -> str:
        facts = {**self._facts, **self._of_part.get(part, {}), "format": FORMAT, "systems": systems}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
