"""Cron expressions as Kubeflow reads them (robfig/cron): six fields, seconds first.

A parser of our own because the ones on PyPI read other dialects: five fields, or seconds last.
"""

import re

from gwainet.errors import ClusterError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)
_PART = re.compile(r"(?P<all>[*?])?(?:(?P<first>\w+)(?:-(?P<last>\w+))?)?(?:/(?P<step>\d+))?")


def check_cron(expression: str) -> str:
    """The expression, its fields one blank apart.

    Raises:
        ClusterError: it has not six fields, or a field is out of its range; the message names it.
    """
    fields = expression.split()
    if len(fields) != len(_FIELDS):
        hint = f": put the second first, as in `0 {' '.join(fields)}`" if len(fields) == 5 else ""
        raise ClusterError(
            f"--cron `{expression}` has {len(fields)} fields and needs six (second minute hour day month weekday), "
            f"such as `0 0 3 * * *` for every night at three{hint}"
        )
    for text, (name, low, high, names) in zip(fields, _FIELDS, strict=True):
        for part in text.split(","):
            if not _fits(part, low, high, names):
                known = f" or {names[0]} to {names[-1]}" if names else ""
                raise ClusterError(
                    f"--cron `{expression}`: `{part}` is no {name}: {low} to {high}{known}, a range a-b, a step */n, "
                    "or * for every one"
                )
    return " ".join(fields)


def _fits(part: str, low: int, high: int, names: tuple[str, ...]) -> bool:
    match = _PART.fullmatch(part)
    if match is None or bool(match["all"]) == bool(match["first"]):
        return False
    first = _number(match["first"], low, names) if match["first"] else low
    last = _number(match["last"], low, names) if match["last"] else max(first, low)
    return low <= first <= last <= high and (match["step"] is None or int(match["step"]) > 0)


def _number(text: str, low: int, names: tuple[str, ...]) -> int:
    """The value of a field's part; -1 if it has none."""
    if text.lower() in names:
        return low + names.index(text.lower())
    return int(text) if text.isdecimal() else -1
