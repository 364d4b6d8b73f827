"""Strands of hair, beard and brows: made once for a person, the same in every photo.

A strand is a row of points on or above the head; strands of a lock share most of their way and their tone.
"""

from dataclasses import dataclass

import numpy as np

from gwainet.people.head import half_width
from gwainet.people.traits import Floats, Traits

POINTS = 12  # of a strand


@dataclass(frozen=True)
class Strands:
    """N strands.

    Attributes:
        points: (N, POINTS, 3), as `Head.project` takes them.
        colours: (N, 3), sRGB.
        lock: (N,), which strands move together from photo to photo.
        loose: (N,), how far they move.
    """

    points: Floats
    colours: Floats
    lock: np.ndarray[tuple[int], np.dtype[np.int64]]
    loose: Floats

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class Hair:
    """All hair of a head: behind the neck, and over the face."""

    back: Strands
    front: Strands
    base: float  # opacity of the hair below the strands


def _spline(controls: Floats) -> Floats:
    """Cubic B-splines through the first and last of (N, k, 3) controls. Shape: (N, POINTS, 3)."""
    k = controls.shape[1]
    padded = np.concatenate([controls[:, :1], controls[:, :1], controls, controls[:, -1:], controls[:, -1:]], 1)
    t = np.linspace(0, k + 1 - 1e-4, POINTS)
    weights = np.zeros((POINTS, k + 4), np.float32)
    for row, value in enumerate(t):
        i, f = int(value), value - int(value)
        weights[row, i : i + 4] = (
            (1 - f) ** 3 / 6,
            (3 * f**3 - 6 * f**2 + 4) / 6,
            (-3 * f**3 + 3 * f**2 + 3 * f + 1) / 6,
            f**3 / 6,
        )
    result: Floats = np.einsum("pk,nkc->npc", weights, padded).astype(np.float32)
    return result


def _random32(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Floats:
    return values.astype(np.float32)


class _Scalp:
    """The hairy part of the head.

    `side` goes from ear (-1) over the middle (0) to ear (1), `back` from the hairline (0) to the head's outline as seen
    from the front (1).
    """

    def __init__(self, traits: Traits) -> None:
        self.t = traits

    def points(self, side: Floats, back: Floats, lift: Floats | float) -> Floats:
        t = self.t
        s = np.abs(side)
        knots = (0.0, 0.3, 0.5, 0.68, 0.82, 0.92, 1.0, 1.3)
        hx = t.width * np.interp(s, knots, (0, 0.36, 0.6, 0.76, 0.84, 0.9, 0.975, 1.02))
        hy = np.interp(
            s,
            knots,
            (
                t.hairline, t.hairline + 0.3 - 0.6 * t.recess, t.hairline + 4 - 0.9 * t.recess,
                t.hairline + 13 - 0.7 * t.recess, -17, -7, 8, 20,
            ),
        )  # fmt: skip
        angle = np.minimum(s, 1.3) * np.pi / 2
        up = np.cos(angle)
        ox = (t.width + 0.8) * np.where(s < 1, np.sqrt(1 - np.maximum(up, 0) ** 2.7), 1)
        oy = 3 - (t.top + 3.5) * up
        x, y = hx * (1 - back) + ox * back, hy * (1 - back) + oy * back
        level = 44 * np.sqrt(np.clip(1 - 0.97 * (hx / (t.width + 1)) ** 2, 0, 1))
        z = level * np.sqrt(np.clip(1 - back**2, 0, 1)) - 6 * np.clip(back, 0, 2)
        out = np.stack([x, y + 6, 0.6 * z], -1)
        out = out / (np.linalg.norm(out, axis=-1, keepdims=True) + 1e-6)
        result: Floats = (np.stack([x, y, z], -1) + out * np.asarray(lift)[..., None]).astype(np.float32)
        result[..., 0] *= np.where(side < 0, -1, 1)
        return result


def _tones(random: np.random.Generator, t: Traits, lock: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Floats:
    """A colour for each strand: the lock's shade, the strand's own, highlights and grey ones."""
    count = len(lock)
    locks = int(lock.max()) + 1
    base = np.repeat(t.hair_colour[None], count, 0)
    streak = random.random(count) < t.highlight_share * 2 * random.random(locks)[lock] ** 2 * 1.5
    base[streak] = 0.65 * t.highlights + 0.35 * t.hair_colour
    greyness = np.clip(
        t.grey_share * (0.75 + 0.5 * random.random((count, 1))) + 0.12 * random.standard_normal((count, 1)), 0, 1
    )
    base = base + (np.array([152, 148, 144], np.float32) - base) * _random32(greyness * (t.grey_share > 0))
    shade = np.exp(0.15 * random.standard_normal(locks)[lock] + 0.15 * random.standard_normal(count))
    lighter = np.float32(7) * _random32(random.random((count, 1)))
    return np.clip(base * shade[:, None].astype(np.float32) + lighter, 6, 244).astype(np.float32)


def _strands(
    random: np.random.Generator,
    t: Traits,
    controls: Floats,
    lock: np.ndarray[tuple[int], np.dtype[np.int64]],
    loose: float,
    darker: float = 1.0,
) -> Strands:
    """Strands along control points, waved as the person's hair is."""
    points = _spline(controls)
    locks = int(lock.max()) + 1
    along = np.linspace(0, 1, POINTS, dtype=np.float32)
    length = np.linalg.norm(np.diff(points, axis=1), axis=-1).sum(1)[:, None]
    phase = _random32(random.uniform(0, 6.3, locks))[lock][:, None]
    turns = _random32(random.uniform(0.05, 0.085, locks))[lock][:, None]
    wave = t.hair_wave * along**0.8 * np.sin(phase + 2 * np.pi * turns * 0.6 * along * length)
    points[..., 0] += wave * np.minimum(length / 40, 1.3)
    points[..., 1] += 0.3 * wave
    colours = _tones(random, t, lock) * np.float32(darker)
    freedom = np.full(len(points), loose, np.float32)
    return Strands(points, colours, lock, freedom)


def _join(parts: list[Strands]) -> Strands:
    offset, locks = 0, []
    for part in parts:
        locks.append(part.lock + offset)
        offset += int(part.lock.max()) + 1 if len(part) else 0
    return Strands(
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.colours for part in parts]),
        np.concatenate(locks),
        np.concatenate([part.loose for part in parts]),
    )


def _none() -> Strands:
    return Strands(
        np.zeros((0, POINTS, 3), np.float32),
        np.zeros((0, 3), np.float32),
        np.zeros(0, np.int64),
        np.zeros(0, np.float32),
    )


def draw_hair(random: np.random.Generator, t: Traits) -> Hair:
    """The hair of a person, in the style of the traits."""
    style = t.hair_style
    if style in ("long", "bangs", "bob"):
        parts = [_falling(random, t)]
        if style == "bangs":
            parts.append(_fringe(random, t, low=-17, count=420))
        return Hair(_behind(random, t), _join(parts), 0.95)
    if style in ("back", "bun"):
        back = _bun(random, t) if style == "bun" else _none()
        return Hair(back, _combed_back(random, t), 0.92)
    if style == "curly":
        return Hair(_none(), _curls(random, t), 0.92)
    if style in ("buzz", "bald"):
        return Hair(_none(), _stubbly(random, t), 0.0 if style == "bald" else 0.35)
    return Hair(_none(), _short(random, t), 0.9)


def _locks(random: np.random.Generator, count: int, locks: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.sort(random.integers(0, locks, count))


def _short(random: np.random.Generator, t: Traits) -> Strands:
    """Short hair: combed to a side, cut over the forehead, or brushed up."""
    scalp = _Scalp(t)
    count, locks = 1500, 90
    lock = _locks(random, count, locks)
    side = _random32(random.uniform(-1.03, 1.03, locks)[lock] + 0.045 * random.standard_normal(count))
    back = _random32(random.random(locks)[lock] ** 0.8 * 1.05 + 0.08 * random.standard_normal(count)).clip(-0.02, 1.15)
    middle = np.clip(1 - np.abs(side) ** 4, 0, 1)
    sweep = {"short": 0.32, "crop": 0.08, "quiff": 0.14}[t.hair_style] * (1 if t.hair_part < 0 else -1)
    forth = {"short": 0.18, "crop": -0.32, "quiff": 0.5}[t.hair_style]
    volume = t.hair_volume * {"short": 4.5, "crop": 3.2, "quiff": 8.0}[t.hair_style]
    sweep_lock = _random32(random.normal(1, 0.35, locks))[lock]
    steps = []
    for step in (0.0, 0.35, 0.7, 1.0):
        s = np.clip(side + sweep * sweep_lock * step * middle + 0.02 * step * np.sign(side), -1.06, 1.06)
        b = back + forth * step * middle * sweep_lock + 0.12 * step * (1 - middle)
        lift = (0.4 + 1.1 * (1 - middle)) + volume * middle * np.sin(step * 1.9) ** 0.9
        steps.append(scalp.points(s, b, lift))
    order = np.argsort(-back if forth < 0 else back, kind="stable")
    order = order[::-1]
    controls = np.stack(steps, 1)[order]
    return _strands(random, t, controls.astype(np.float32), lock[order], 0.5)


def _falling(random: np.random.Generator, t: Traits) -> Strands:
    """Hair that falls from a parting to both sides of the face."""
    scalp = _Scalp(t)
    count, locks = 1500, 84
    lock = _locks(random, count, locks)
    root = np.linspace(1.04, 0.0, locks)[lock] + 0.03 * random.standard_normal(count)  # from behind to the front
    sign = np.where(np.arange(locks) % 2 == 0, 1.0, -1.0)[lock]
    part = t.hair_part * 0.7
    end = random.uniform(0.9, 1.08, locks)[lock] + 0.02 * random.standard_normal(count)
    tuck = 0.10 + 0.2 * random.random(locks)[lock]
    volume = t.hair_volume
    steps = []
    for step in (0.0, 0.25, 0.55, 0.85):
        s = _random32(part + (sign * end - part) * step**0.85)
        b = _random32(root * (1 - 0.4 * step * np.clip(1 - root, 0, 1)) + tuck * step * 0.6)
        steps.append(scalp.points(s, b, _random32(1.2 + volume * (2.5 + 3.5 * np.sin(step * 2.6)) + 1.2 * root)))
    last = steps[-1]
    flare = volume * random.uniform(0.5, 6.5, locks)[lock] + 1.6 * random.standard_normal(count)
    bottom = t.hair_length + random.normal(0, 3.0, locks)[lock] + 2.2 * random.standard_normal(count)
    inward = (random.uniform(-4.5, 2.5, locks)[lock]) * (root < 0.55)
    for part_way in (0.25, 0.5, 0.75, 1.0):
        y = last[:, 1] + (bottom - last[:, 1]) * part_way
        x = sign * (t.width + 2.5 + flare * np.sin(part_way * 1.9) + inward * np.sin(part_way * 2.4))
        if t.hair_style == "bob":
            x = x - sign * 5.0 * part_way**2
        z = last[:, 2] * (1 - part_way) + (2 + 9 * (1 - root)) * part_way
        steps.append(np.stack([x, y, z], -1).astype(np.float32))
    controls = np.stack(steps, 1)
    order = np.argsort(-root + 0.12 * random.standard_normal(locks)[lock], kind="stable")
    return _strands(random, t, controls[order], lock[order], 1.6)


def _fringe(random: np.random.Generator, t: Traits, low: float, count: int) -> Strands:
    """Hair cut over the forehead."""
    scalp = _Scalp(t)
    locks = 34
    lock = _locks(random, count, locks)
    side = np.linspace(-0.72, 0.72, locks)[lock] + 0.03 * random.standard_normal(count)
    volume = t.hair_volume * 2.4
    steps = []
    for back, lift in ((0.75, 2.5), (0.35, 4.0), (0.05, 4.5)):
        steps.append(
            scalp.points(_random32(side * (0.55 + 0.45 * (1 - back))), np.full(count, back, np.float32), volume + lift)
        )
    end = low + 3.5 * np.abs(side) ** 2 * 4 + random.normal(0, 1.6, locks)[lock] + random.standard_normal(count)
    x = side * t.width * 0.95 + random.normal(0, 1.6, locks)[lock]
    z = 51 * np.sqrt(np.clip(1 - 0.97 * (x / (t.width + 2)) ** 2, 0, 1)) + 1.5
    steps.append(np.stack([x, 0.5 * (end + steps[-1][:, 1]), z], -1).astype(np.float32))
    steps.append(np.stack([x * 0.98, end, z], -1).astype(np.float32))
    order = np.argsort(random.random(locks)[lock], kind="stable")
    return _strands(random, t, np.stack(steps, 1)[order], lock[order], 0.9)


def _behind(random: np.random.Generator, t: Traits) -> Strands:
    """What of falling hair is seen behind the neck."""
    count, locks = 420, 30
    lock = _locks(random, count, locks)
    x = np.linspace(-1, 1, locks)[lock] * (t.width + 3.0 * t.hair_volume) + random.normal(0, 1.2, count)
    bottom = t.hair_length + random.normal(0, 3, locks)[lock] + random.normal(0, 1.5, count)
    steps = [
        np.stack([x * spread, y + 0 * x, np.full(count, -24.0)], -1)
        for y, spread in ((-20.0, 0.9), (20.0, 1.0), (45.0, 1.0))
    ]
    steps.append(np.stack([x * 1.02, 0.5 * (bottom + 45), np.full(count, -24.0)], -1))
    steps.append(np.stack([x, bottom, np.full(count, -24.0)], -1))
    order = random.permutation(count)
    return _strands(random, t, np.stack(steps, 1).astype(np.float32)[order], lock[order], 1.2, darker=0.55)


def _combed_back(random: np.random.Generator, t: Traits) -> Strands:
    """Hair drawn back from the face."""
    scalp = _Scalp(t)
    count, locks = 1300, 80
    lock = _locks(random, count, locks)
    side = np.linspace(-1.02, 1.02, locks)[lock] + 0.012 * random.standard_normal(count)
    start = np.abs(random.normal(0, 0.25, count)) * (random.random(count) < 0.7)
    volume = 0.8 + 2.4 * t.hair_volume
    steps = []
    for step in (0.0, 0.3, 0.6, 0.85, 1.0):
        s = _random32(side * (1 - 0.18 * step) + 0.1 * t.hair_part * step)
        steps.append(
            scalp.points(
                s, _random32(start + (1.1 - start) * step), _random32(0.5 + volume * np.sin(1.7 * step) + 0 * side)
            )
        )
    order = np.argsort(-start, kind="stable")
    return _strands(random, t, np.stack(steps, 1)[order], lock[order], 0.35)


def _bun(random: np.random.Generator, t: Traits) -> Strands:
    """A knot of hair above the head."""
    count, locks = 360, 24
    lock = _locks(random, count, locks)
    angle = random.uniform(0, 6.3, locks)[lock] + 0.2 * random.standard_normal(count)
    radius = 13 * np.sqrt(random.random(locks))[lock] + 0.8 * random.standard_normal(count) + 3
    steps = []
    for turn in np.linspace(0, 1.6, 5):
        x = radius * 1.1 * np.cos(angle + turn)
        y = -t.top - 7 - 3 * t.hair_volume + 0.8 * radius * np.sin(angle + turn)
        steps.append(np.stack([x, y, np.full(count, -20.0)], -1))
    order = random.permutation(count)
    return _strands(random, t, np.stack(steps, 1).astype(np.float32)[order], lock[order], 0.5, darker=0.8)


def _curls(random: np.random.Generator, t: Traits) -> Strands:
    """Curls: strands that wind around their way."""
    scalp = _Scalp(t)
    count, locks = 1700, 360
    lock = _locks(random, count, locks)
    volume = 4 + 7.5 * t.hair_volume
    side = _random32(random.uniform(-1.06, 1.06, locks)[lock])
    back = _random32((random.random(locks) ** 0.9)[lock] * 1.1)
    lift = _random32(random.uniform(0.15, 1, locks)[lock]) * volume * (0.35 + 0.65 * np.clip(back * 2, 0, 1))
    centre = scalp.points(side, back, lift.astype(np.float32))
    if t.masculine < 0.5:  # longer curls beside the face
        hanging = (np.abs(side) > 0.72) & (random.random(locks) < 0.85)[lock]
        down = random.random(locks)[lock] * min(t.hair_length * 0.55, 52)
        centre[hanging, 1] += down[hanging]
        target = np.sign(side) * (t.width + 2 + volume * random.random(locks)[lock])
        share = np.clip(down / 25, 0, 1)
        centre[hanging, 0] = (centre[:, 0] * (1 - share) + target * share)[hanging]
    radius = random.uniform(1.5, 3.8, locks)[lock][:, None] * (1 + 0.18 * random.standard_normal((count, 1)))
    angle = random.uniform(0, 6.3, locks)[lock][:, None] + 0.3 * random.standard_normal((count, 1))
    turn = angle + np.linspace(0, 1, POINTS) * random.uniform(4, 7.5, locks)[lock][:, None]
    points = np.repeat(centre[:, None], POINTS, 1)
    points[..., 0] += radius * np.cos(turn) + 0.8 * random.standard_normal((count, 1))
    points[..., 1] += radius * 0.85 * np.sin(turn) + np.linspace(-1.5, 2.5, POINTS)
    order = np.argsort(-back + 0.4 * random.random(locks)[lock], kind="stable")
    freedom = np.full(count, 0.7, np.float32)
    return Strands(points.astype(np.float32)[order], _tones(random, t, lock)[order], lock[order], freedom)


def _stubbly(random: np.random.Generator, t: Traits) -> Strands:
    """A shaved head, or the fringe that is left of hair."""
    scalp = _Scalp(t)
    count, locks = (3000, 60) if t.hair_style == "buzz" else (700, 40)
    lock = _locks(random, count, locks)
    side = random.uniform(-1.04, 1.04, count)
    if t.hair_style == "bald":
        side = np.sign(side) * random.uniform(0.8, 1.05, count)
    back = random.random(count) ** 0.8 * 1.05
    length = 1.3 if t.hair_style == "buzz" else 5.0
    sway = random.normal(0, 0.02, count)
    steps = []
    for step in (0.0, 0.5, 1.0):
        s = _random32(side + (sway + 0.006 * length * np.sign(side)) * step)
        steps.append(
            scalp.points(s, _random32(back + 0.012 * length * step), _random32(0.3 + 0.25 * length * step + 0 * side))
        )
    strands = _strands(random, t, np.stack(steps, 1), lock, 0.1)
    even = strands.colours.mean(0)
    return Strands(strands.points, even + 0.4 * (strands.colours - even), strands.lock, strands.loose)


def draw_beard(random: np.random.Generator, t: Traits) -> Strands:
    """Beard and moustache, as strands that start on the skin (heights are above the face)."""
    if t.facial in ("none", "stubble"):
        return _none()
    parts = []
    if t.facial in ("beard", "goatee"):
        count = 1300 if t.facial == "beard" else 420
        x = random.uniform(-1, 1, count * 3) * t.width
        y = random.uniform(2, t.chin + 1, count * 3)
        ax = np.abs(x)
        edge = 0.95 * half_width(t, y.astype(np.float32))
        lower = np.interp(
            ax,
            (0, 7, 12, 19, 27, 36, 41, 46),
            (t.mouth_y + 12.5, t.mouth_y + 12, t.mouth_y + 4, t.mouth_y - 3, 30, 21, 6, -4),
        )
        if t.facial == "goatee":
            keep = (ax < 14.5) & (y > np.where(ax < 11, t.mouth_y + 12.5, t.mouth_y - 2))
        else:
            keep = y > lower + 1.5 * random.standard_normal(count * 3)
        keep = (keep | ((ax < 3) & (y > t.mouth_y + 9.5))) & (ax < edge)
        x, y = x[keep][:count], y[keep][:count]
        parts.append(_facial(random, t, x, y, x / 90, np.ones_like(x), t.facial_length))
    count = 380
    x = random.uniform(-1, 1, count) * (t.mouth_width + 1.5)
    top = t.nose_length + 6.0 + 0.012 * x**2
    bottom = t.mouth_y - t.lip_upper * 0.75 + 0.02 * x**2
    y = top + (bottom - top) * random.random(count)
    parts.append(_facial(random, t, x, y, x / 14, 0.85 + 0 * x, min(t.facial_length, 3.2)))
    return _join(parts)


def _facial(
    random: np.random.Generator,
    t: Traits,
    x: np.ndarray[tuple[int], np.dtype[np.float64]],
    y: np.ndarray[tuple[int], np.dtype[np.float64]],
    dx: np.ndarray[tuple[int], np.dtype[np.float64]],
    dy: np.ndarray[tuple[int], np.dtype[np.float64]],
    length: float,
) -> Strands:
    count = len(x)
    size = np.hypot(dx, dy) + 1e-6
    turn = 0.25 * random.standard_normal(count)
    ux, uy = dx / size + turn * dy / size, dy / size - turn * dx / size
    long = length * random.uniform(0.55, 1.15, count)
    steps = []
    for step in (0.0, 0.5, 1.0):
        bend = 0.6 * step**2 * random.standard_normal(count)
        steps.append(np.stack([x + ux * long * step + bend, y + uy * long * step, 0.35 * long * step + 0.2], -1))
    points = _spline(np.stack(steps, 1).astype(np.float32))
    lock = random.integers(0, 40, count)
    order = np.argsort(-y, kind="stable")
    colours = _tones(random, t, lock) * np.array([0.92, 0.82, 0.78], np.float32)
    return Strands(points[order], colours[order], lock[order], np.full(count, 0.15, np.float32))


def draw_brows(random: np.random.Generator, t: Traits) -> Strands:
    """Both brows, strand by strand; the heights are above the face, the colours scatter around the brows' colour."""
    parts = []
    for sign in (-1.0, 1.0):
        count = int(105 + 14 * t.brow_thickness)
        along = np.sort(random.random(count))
        x = t.eye_spacing - 12.0 + t.brow_length * along
        arch = t.brow_arch * (1 - ((along - 0.62) / 0.62) ** 2)
        middle = -t.brow_height - arch + t.brow_tilt * (0.5 - along) + random.normal(0, 0.12)
        thick = t.brow_thickness * np.interp(along, (0, 0.12, 0.5, 1), (0.7, 1.1, 1.0, 0.25))
        y = middle + thick * random.uniform(-0.5, 0.5, count)
        angle = np.interp(along, (0, 0.3, 1), (-1.35, -0.55, 0.28)) + 0.18 * random.standard_normal(count)
        angle = angle + np.where(y > middle, -0.15, 0.25)
        length = np.interp(along, (0, 0.3, 1), (2.4, 3.6, 3.2)) * random.uniform(0.7, 1.2, count)
        steps = [
            np.stack(
                [
                    x + length * step * np.cos(angle + 0.4 * step),
                    y + length * step * np.sin(angle + 0.4 * step),
                    0 * x + 0.4,
                ],
                -1,
            )
            for step in (0.0, 0.5, 1.0)
        ]
        points = _spline(np.stack(steps, 1).astype(np.float32))
        points[..., 0] *= sign
        colours = t.brow_colour * np.exp(0.22 * random.standard_normal((count, 1)))
        parts.append(
            Strands(
                points,
                np.clip(colours, 8, 220).astype(np.float32),
                np.full(count, 0, np.int64),
                np.zeros(count, np.float32),
            )
        )
    return _join(parts)
