"""Skin: colour and relief of a person's face, and how light falls on a head."""

from dataclasses import dataclass

import cv2
import numpy as np

from gwainet.people.head import COLUMNS, LEFT, ROWS, TOP
from gwainet.people.traits import Floats, Traits

DENSITY = 3  # texture pixels to a pixel of the photo


@dataclass(frozen=True)
class Skin:
    """The face seen from the front, in plain light.

    Attributes:
        colour: (ROWS * DENSITY, COLUMNS * DENSITY, 3) uint8 sRGB.
        relief: (ROWS * DENSITY, COLUMNS * DENSITY) heights of wrinkles and pores, in pixels of the photo.
    """

    colour: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    relief: Floats


def _noise(random: np.random.Generator, shape: tuple[int, int], sigma: float) -> Floats:
    """Smooth noise with deviation 1; drawn coarsely where it is smooth."""
    coarse = max(1, int(sigma / 1.5))
    small = random.standard_normal((shape[0] // coarse + 2, shape[1] // coarse + 2), dtype=np.float32)
    soft = cv2.GaussianBlur(small, (0, 0), max(sigma / coarse, 0.4))
    big = cv2.resize(soft, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(big / (big.std() + 1e-6), np.float32)


def _lines(
    shape: tuple[int, int],
    lines: list[tuple[Floats, float]],
    thickness: int,
    blur: float,
    taper: bool = True,
) -> Floats:
    """Opacity of lines; each is points (k, 2) in face coordinates and a strength."""
    result = np.zeros(shape, np.uint8)
    for points, strength in lines:
        pixels = np.round((points - (LEFT, TOP)) * DENSITY * 16).astype(np.int32)
        pieces = len(points) - 1
        for piece in range(pieces):
            fade = np.sin(np.pi * (piece + 0.7) / (pieces + 0.4)) if taper else 1.0
            cv2.line(
                result,
                pixels[piece].tolist(),
                pixels[piece + 1].tolist(),
                float(255 * min(1.0, strength * fade)),
                thickness,
                cv2.LINE_AA,
                4,
            )
    return np.asarray(cv2.GaussianBlur(result.astype(np.float32) / 255, (0, 0), blur), np.float32)


def _wrinkles(random: np.random.Generator, t: Traits) -> list[tuple[Floats, float]]:
    lines: list[tuple[Floats, float]] = []
    along = np.linspace(0, 1, 9)

    def add(
        x: np.ndarray[tuple[int], np.dtype[np.float64]],
        y: np.ndarray[tuple[int], np.dtype[np.float64]],
        strength: float,
    ) -> None:
        lines.append((np.stack([x, y], -1).astype(np.float32), strength))

    age = t.wrinkles
    for row in range(round(4.4 * age)):  # forehead
        level = -t.brow_height - 8 - 5.0 * row + random.normal(0, 0.6)
        width = random.uniform(15, 27)
        x = np.linspace(-width, width, 9) + random.normal(0, 3)
        wobble = np.cumsum(random.normal(0, 0.5, 9))
        add(x, level + wobble - wobble.mean() + 0.0025 * x**2, min(1.0, 0.35 + age * random.uniform(0.3, 0.9)))
    for side in (-1.0, 1.0):
        for fan in range(round(4 * age + random.random())):  # beside the eyes
            angle = random.uniform(-0.6, 0.75) + 0.1 * fan
            start = t.eye_spacing + t.eye_width / 2 + 2.0
            reach = random.uniform(4, 9) * (0.5 + age)
            add(
                side * (start + along * reach * np.cos(angle)),
                -1.0 + fan * 0.7 + along * reach * np.sin(angle) + 0.8 * along**2,
                0.3 + 0.6 * age,
            )
        for bag in range(1 + int(age > 0.5)):  # below the eyes
            x = t.eye_spacing + np.linspace(-7.5, 6, 9)
            add(side * x, 5.6 + 2.6 * bag + 2.2 * np.sin(np.pi * along) + random.normal(0, 0.3), 0.16 + 0.5 * age)
        # beside the mouth
        x = t.nose_width + 2.5 + along * random.uniform(7, 10)
        y = t.nose_length - 1 + along * (t.mouth_y - t.nose_length + 5) + 1.2 * np.sin(np.pi * along)
        add(side * x, y, 0.12 + 0.75 * age)
        if age > 0.35 and random.random() < 0.6:  # between the brows
            x = np.full(9, random.uniform(1.8, 4.0))
            add(side * x + random.normal(0, 0.2, 9), -t.brow_height - 4 + along * 8.0, 0.5 * age)
    if age > 0.55:
        for side in (-1.0, 1.0):
            x = t.mouth_width + 1.0 + along * 2.0
            add(side * x, t.mouth_y + 2.5 + along * 10, 0.6 * age)
    return lines


def draw_skin(random: np.random.Generator, t: Traits) -> Skin:
    """Colour and relief of a person's face, with all that is on it for good."""
    shape = (ROWS * DENSITY, COLUMNS * DENSITY)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    x, y = x / DENSITY + LEFT, y / DENSITY + TOP
    ax = np.abs(x)
    colour = np.repeat(np.repeat(t.skin[None, None], shape[0], 0), shape[1], 1)

    def area(cx: float, cy: float, sx: float, sy: float) -> Floats:
        result: Floats = np.exp(-(((ax - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)
        return result

    def tint(where: Floats, factors: tuple[float, float, float], strength: float) -> None:
        nonlocal colour
        change = 1 + (np.array(factors, np.float32) - 1) * np.float32(strength)
        colour = colour * (1 + (change - 1) * where[..., None])

    blood = area(27, 17, 11, 10) + 0.9 * area(0, t.nose_length - 1, 8, 6) + 0.5 * area(0, t.chin - 10, 9, 7)
    blood = np.clip(blood + 0.15 * _noise(random, shape, 14), 0, 1.4)
    tint(blood, (1.03, 0.86, 0.85), t.redness)
    if t.masculine < 0.5 and t.lip_paint > 0:
        tint(area(30, 15, 11, 8), (1.03, 0.8, 0.82), 0.7 * t.lip_paint)
    tint(area(0, -32, 34, 16), (1.01, 1.0, 0.95), 0.8)
    tint(area(t.eye_spacing - 3, 5.5, 8.5, 3.8), (0.87, 0.82, 0.86), 0.35 + 0.65 * t.age)
    tint(area(t.eye_spacing, -3.8, 9, 4), (0.93, 0.86, 0.86), 0.6)
    if t.eyeshadow_strength:
        lid = area(t.eye_spacing + 1, -5.2, 9.5, 3.6)[..., None] * np.float32(t.eyeshadow_strength)
        colour = colour * (1 - lid) + t.eyeshadow * (0.5 + 0.5 * t.skin / 200) * lid

    blotches = 0.012 * _noise(random, shape, 18) + 0.010 * _noise(random, shape, 7) + 0.010 * _noise(random, shape, 3)
    pores = _noise(random, shape, 1.25)
    grain = 0.010 + 0.012 * t.age + 0.005 * t.masculine
    colour = colour * (1 + blotches + grain * pores)[..., None]
    warm = _noise(random, shape, 5)
    colour = colour * (1 + np.array([0.0, 0.009, 0.009], np.float32) * warm[..., None])

    if t.freckles:
        spots = np.zeros(shape, np.uint8)
        count = int(80 + 260 * t.freckles)
        fx = random.normal(0, 20, count)
        fy = random.normal(10, 13, count)
        for px, py, radius, strength in zip(
            fx, fy, random.uniform(0.3, 0.8, count), random.uniform(0.2, 0.9, count), strict=True
        ):
            _dot(spots, px, py, radius, 255 * strength)
        opacity = cv2.GaussianBlur(spots.astype(np.float32) / 255, (0, 0), 0.9)[..., None] * (0.3 + 0.3 * t.freckles)
        colour = colour * (1 - opacity * np.array([0.30, 0.46, 0.56], np.float32))
    age_spots = int(18 * max(0.0, t.age - 0.5) * 2)
    if age_spots:
        spots = np.zeros(shape, np.uint8)
        for _ in range(age_spots):
            _dot(
                spots,
                random.normal(0, 30),
                random.normal(-4, 26),
                random.uniform(0.6, 1.8),
                255 * random.uniform(0.2, 0.6),
            )
        opacity = cv2.GaussianBlur(spots.astype(np.float32) / 255, (0, 0), 1.5)[..., None] * 0.5
        colour = colour * (1 - opacity * np.array([0.28, 0.42, 0.5], np.float32))
    relief = (0.008 + 0.012 * t.age) * pores + 0.025 * _noise(random, shape, 4)
    for _ in range(t.moles):
        spots = np.zeros(shape, np.uint8)
        while True:
            mx, my = random.uniform(-36, 36), random.uniform(-34, 58)
            clear = abs(abs(mx) - t.eye_spacing) > 12 or abs(my + 5) > 14
            if clear and (abs(mx) > 20 or abs(my - t.mouth_y) > 9) and mx**2 / 40**2 + (my - 5) ** 2 / 62**2 < 1:
                break
        radius = random.uniform(0.75, 1.7)
        _dot(spots, mx, my, radius, 255)
        mole = np.asarray(cv2.GaussianBlur(spots.astype(np.float32) / 255, (0, 0), 1.1), np.float32)
        dark = np.array([0.36, 0.5, 0.56], np.float32) * np.float32(random.uniform(1.0, 1.5))
        colour = colour * (1 - mole[..., None] * np.clip(dark, 0, 0.85))
        relief = relief + 0.5 * mole

    if t.facial != "none" or t.masculine > 0.75:  # the shadow and the stumps of shaved hair
        cover = area(0, t.mouth_y + 16, 30, 17) + area(31, 38, 10, 20) + area(0, t.mouth_y - 9, 15, 4)
        cover = cover * (1 - 0.95 * area(0, t.mouth_y, t.mouth_width, 6))
        cover = cover * (1 - 0.75 * area(20, 24, 10, 10))
        cover = np.clip(1.4 * cover, 0, 1)
        strength = {"none": 0.2, "stubble": 1.0}.get(t.facial, 0.8)
        contrast = float(np.clip((t.skin.mean() - t.hair_colour.mean()) / 150, 0, 1))
        tint(cover, (0.86, 0.89, 0.93), 0.9 * strength * contrast)
        hairs = np.zeros(shape, np.uint8)
        count = int(4200 * strength)
        sx, sy = random.uniform(-44, 44, count), random.uniform(18, 72, count)
        columns = np.clip(((sx - LEFT) * DENSITY).astype(int), 0, shape[1] - 1)
        rows = np.clip(((sy - TOP) * DENSITY).astype(int), 0, shape[0] - 1)
        keep = cover[rows, columns] > random.uniform(0.1, 0.8, count)
        for px, py, slant in zip(sx[keep], sy[keep], random.normal(0, 0.4, int(keep.sum())), strict=True):
            start = [round((px - LEFT) * DENSITY * 16), round((py - TOP) * DENSITY * 16)]
            end = [start[0] + round(slant * 16 * 3), start[1] + round((0.4 + 0.5 * strength) * DENSITY * 16)]
            cv2.line(hairs, start, end, 255, 1, cv2.LINE_AA, 4)
        opacity = hairs.astype(np.float32)[..., None] / 255 * np.float32(0.36 * strength * (0.3 + 0.7 * contrast))
        colour = colour * (1 - opacity) + np.minimum(t.hair_colour, 120) * opacity

    lines = _wrinkles(random, t)
    crease = _lines(shape, lines, 1, 0.8)
    valley = _lines(shape, lines, 4, 2.2)
    colour = colour * (
        1 - np.clip(0.62 * crease + 0.2 * valley, 0, 0.8)[..., None] * np.array([0.55, 0.72, 0.75], np.float32)
    )
    relief = relief - 0.9 * valley - 0.5 * crease
    return Skin(np.clip(colour, 0, 255).astype(np.uint8), relief.astype(np.float32))


def _dot(
    canvas: np.ndarray[tuple[int, int], np.dtype[np.uint8]], x: float, y: float, radius: float, value: float
) -> None:
    centre = [round((x - LEFT) * DENSITY * 16), round((y - TOP) * DENSITY * 16)]
    cv2.circle(canvas, centre, round(radius * DENSITY * 16), float(value), -1, cv2.LINE_AA, 4)


@dataclass(frozen=True)
class Light:
    """Light on a photo: a key light and what the surroundings give back. Colours are linear RGB."""

    direction: Floats  # to the light, unit length: right, down, towards the camera
    key: Floats
    ambient: Floats
    hardness: float  # of shadows, 0 .. 1


@dataclass(frozen=True)
class Shading:
    """Linear factors for the face, and light that its surface mirrors. Shapes: (218, 178, 3), (218, 178)."""

    factor: Floats
    gloss: Floats


def shade(z: Floats, relief: Floats, light: Light, oil: float) -> Shading:
    """Light on a surface of heights z (218, 178), in pixels; soft as skin is (red light travels in it)."""
    surface = z + relief
    dx = cv2.Sobel(surface, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    dy = cv2.Sobel(surface, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    length = np.sqrt(dx * dx + dy * dy + 1)
    nx, ny, nz = -dx / length, -dy / length, 1 / length
    lx, ly, lz = (float(value) for value in light.direction)
    facing = nx * lx + ny * ly + nz * lz

    # cast shadows: walk towards the light and see whether the surface rises above the ray
    flat = float(np.hypot(lx, ly)) + 1e-6
    rise = lz / flat
    above = np.zeros_like(z)
    for step in (1.5, 3.0, 5.0, 7.5, 10.5, 14.0):
        shift = np.array([[1, 0, step * lx / flat], [0, 1, step * ly / flat]], np.float32)
        there = cv2.warpAffine(
            z,
            shift,
            (z.shape[1], z.shape[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        above = np.maximum(above, there - z - step * rise)
    shadow = 1 - light.hardness * np.clip(above / 2.5, 0, 1)
    shadow = cv2.GaussianBlur(shadow, (0, 0), 1.6 - 0.6 * light.hardness)
    redder = cv2.GaussianBlur(shadow, (0, 0), 2.6)

    hollow = np.clip(cv2.GaussianBlur(z, (0, 0), 6) - z, -1, 6)
    open_sky = np.exp(-0.14 * np.maximum(hollow, 0))
    sky = 0.62 - 0.38 * ny
    channels = []
    for channel, wrap in enumerate((0.42, 0.26, 0.2)):
        lit = np.clip((facing + wrap) / (1 + wrap), 0, None) ** 1.15
        cast = 0.6 * redder + 0.4 * shadow if channel == 0 else 0.15 * redder + 0.85 * shadow
        channels.append(light.key[channel] * lit * cast + light.ambient[channel] * sky * open_sky)
    factor = np.stack(channels, -1)

    hx, hy, hz = lx, ly, lz + 1
    norm = float(np.sqrt(hx * hx + hy * hy + hz * hz))
    mirror = np.clip((nx * hx + ny * hy + nz * hz) / norm, 0, 1)
    fresnel = 0.4 + 0.6 * (1 - nz) ** 2
    gloss = oil * shadow * (0.045 * mirror**12 + 0.09 * mirror**48 * (1 + 1.5 * relief)) * fresnel * 1.6
    return Shading(factor.astype(np.float32), gloss.astype(np.float32))
