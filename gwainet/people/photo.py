"""One photo of a person: pose, expression, light, background, clothes, camera; painted, lit, scaled down."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from gwainet.people.canvas import Bytes, Canvas, smooth
from gwainet.people.features import draw_ears, draw_eyes, draw_mouth, draw_nose, draw_strands_on_face, landmarks
from gwainet.people.glasses import draw_earrings, draw_glasses
from gwainet.people.hair import Strands
from gwainet.people.head import EYES_AT, HEIGHT, LEFT, TOP, WIDTH, Expression, Head, Pose
from gwainet.people.person import Person, draw_person
from gwainet.people.skin import DENSITY, Light, shade
from gwainet.people.traits import Floats

FROM_SRGB = np.where(
    np.arange(256) <= 10, np.arange(256) / 255 / 12.92, ((np.arange(256) / 255 + 0.055) / 1.055) ** 2.4
).astype(np.float32)


@dataclass(frozen=True)
class Take:
    """What differs from photo to photo."""

    pose: Pose
    expression: Expression
    light: Light
    exposure: float
    white: Floats
    blur: float
    noise: float
    pupil: float


def draw_take(random: np.random.Generator) -> Take:
    """Draw all that changes from photo to photo, but for the background and the clothes."""

    def near(deviation: float, most: float) -> float:
        return float(np.clip(deviation * random.standard_normal(), -most, most))

    pose = Pose(
        yaw=near(0.15, 0.33),
        pitch=near(0.07, 0.16),
        roll=near(0.02, 0.05),
        shift=(near(0.8, 1.6), near(0.8, 1.6)),
        scale=1 + near(0.02, 0.04),
    )
    mood = random.random()
    smile = float(random.uniform(0.5, 1.0)) if mood < 0.45 else float(random.uniform(-0.15, 0.35))
    jaw = float(random.uniform(2, 6)) if random.random() < 0.12 else float(max(0.0, random.normal(0.1, 0.5)))
    expression = Expression(
        smile=smile,
        jaw=jaw + (1.2 * smile if smile > 0.5 else 0.0),
        brows=near(0.8, 2.0) + 0.3,
        eyes=float(np.clip(1.0 - 0.16 * max(smile, 0) + 0.1 * random.standard_normal(), 0.68, 1.18)),
        gaze=(near(0.8, 1.8), near(0.3, 0.7)),
    )
    across, height = near(0.5, 1.0), float(random.uniform(0.1, 0.75))
    direction = np.array([across, -height, 1.0], np.float32)
    direction /= np.linalg.norm(direction)
    warmth = near(0.09, 0.2)
    ratio = float(random.uniform(0.27, 0.5))
    strength = float(random.uniform(0.84, 1.04))
    key = strength * (1 - ratio) * np.array([1 + 0.8 * warmth, 1, 1 - warmth], np.float32) * 1.12
    cold = near(0.06, 0.12)
    ambient = strength * ratio * np.array([1 + 0.6 * cold, 1, 1 - cold], np.float32) * 1.22
    return Take(
        pose=pose,
        expression=expression,
        light=Light(direction, key.astype(np.float32), ambient.astype(np.float32), float(random.uniform(0.2, 0.7))),
        exposure=float(np.exp(near(0.07, 0.16))),
        white=np.exp(np.array([near(0.02, 0.05), 0, near(0.03, 0.06)])).astype(np.float32),
        blur=float(random.choice([0.0, random.uniform(0.25, 0.5)], p=[0.6, 0.4])),
        noise=float(random.uniform(0.8, 1.8)),
        pupil=float(random.uniform(0.34, 0.5)),
    )


@lru_cache(maxsize=2)
def _person(seed: int, identity: int) -> Person:
    return draw_person(seed, identity)


def draw_photo(seed: int, identity: int, photo: int, supersampling: int = 2) -> Bytes:
    """Draw a photo of a person; a function of its arguments alone.

    Shape: (218, 178, 3) uint8, aligned on the eyes as CelebA's photos are.
    """
    return draw_photo_and_landmarks(seed, identity, photo, supersampling)[0]


def draw_photo_and_landmarks(seed: int, identity: int, photo: int, supersampling: int = 2) -> tuple[Bytes, Floats]:
    """`draw_photo`, and where `features.landmarks` lie in it.

    Shapes: (218, 178, 3) uint8, (5, 2).
    """
    person = _person(seed, identity)
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(identity, photo)))
    take = draw_take(random)
    head = Head(person.traits, take.pose, take.expression)
    return _expose(_paint(person, head, take, random, supersampling), take, random), landmarks(head)


def _linear(picture: Bytes) -> Floats:
    return np.asarray(FROM_SRGB[picture], np.float32)


def _enlarge(picture: Floats, scale: int) -> Floats:
    if scale == 1:
        return picture
    size = (picture.shape[1] * scale, picture.shape[0] * scale)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _reduce(cover: Bytes) -> Floats:
    return np.asarray(cv2.resize(cover, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.float32)


def _paint(person: Person, head: Head, take: Take, random: np.random.Generator, scale: int) -> Floats:
    """The scene in linear light at the photo's size."""
    t, light = person.traits, take.light
    canvas = Canvas(scale, _background(random, scale))
    loosening = random.standard_normal((400, 3)).astype(np.float32)

    u, v = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
    hair_light, hair_gloss = _hair_light(head, light, u, v)
    skin_light = light.key * np.float32(0.62) + light.ambient * np.float32(0.8)

    # behind the face
    if len(person.hair.back):
        back = Canvas(scale)
        alpha = _hair_layer(back, head, person.hair.back, loosening, base=1.0)
        canvas.blend((slice(None), slice(None)), alpha, _lit(back.picture, _enlarge(hair_light * 0.6, scale)))
    _neck_and_clothes(canvas, person, head, light, random)
    draw_ears(canvas, head, skin_light, light)
    if t.earrings != "none":
        draw_earrings(canvas, head)

    cover = smooth(canvas.mask(head.silhouette()), 0.5 * scale)
    hair = Canvas(scale)
    hair_alpha = _hair_layer(hair, head, person.hair.front, loosening, person.hair.base)
    if person.hair.base > 0.5:  # no gap between hair and head: the hair's ground goes on behind the face
        near_hair = cv2.GaussianBlur(_reduce(hair_alpha), (0, 0), 4)
        near_both = cv2.GaussianBlur(_reduce(np.maximum(hair_alpha, cover)), (0, 0), 2.5)
        close = np.clip((near_hair - 35) * 5, 0, 255) * np.clip((near_both - 140) / 30, 0, 1)
        ground = _enlarge(close.astype(np.float32), scale)
        dark = hair.picture[0, 0].astype(np.float32) * np.float32(0.6)
        canvas.blend((slice(None), slice(None)), ground, dark)

    # the face: its colours, then the light on them
    x, y, z = head.seen()
    y_rest = y - head.drop(y)
    map_x, map_y = (x - LEFT) * DENSITY, (y_rest - TOP) * DENSITY
    big_x, big_y = _enlarge(map_x, scale), _enlarge(map_y, scale)
    face = Canvas(
        scale,
        np.asarray(
            cv2.remap(person.skin.colour, big_x, big_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
        ),
    )
    relief = cv2.remap(person.skin.relief, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    draw_nose(face, head)
    draw_mouth(face, head, person)
    draw_eyes(face, head, person, take.pupil, light)
    draw_strands_on_face(face, head, person.brows, lift_brows=True)
    shading = shade(z, np.asarray(relief, np.float32), light, t.oil)
    shadow = _shadow_of(hair_alpha, light, scale)
    factor = _enlarge(shading.factor * shadow[..., None], scale)
    gloss = _enlarge(shading.gloss * shadow, scale)[..., None] * light.key
    lit = _linear(face.picture) * factor + gloss
    scene = _linear(canvas.picture)
    scene += (lit - scene) * (cover.astype(np.float32)[..., None] / 255)

    if len(person.beard):
        beard = Canvas(scale, face.picture.copy())
        points = person.beard.points.copy()
        points[..., 1] += head.drop(points[..., 1])
        points[..., 2] += head.height(points[..., :2])
        lines = head.project(points)
        window = beard.window(lines, 2)
        beard.strands(lines, person.beard.colours, 0.5)
        thin = beard.lines(lines, 0.5, window)
        part = _linear(beard.picture[window]) * (0.25 + 0.75 * factor[window])
        root = cv2.GaussianBlur(thin, (0, 0), 1.5 * scale).astype(np.float32)[..., None] / 255
        below = FROM_SRGB[person.beard.colours.mean(0).astype(np.uint8)] * factor[window]
        scene[window] += (below - scene[window]) * np.clip(0.9 * root, 0, 0.7).astype(np.float32)
        scene[window] += (part - scene[window]) * (thin.astype(np.float32)[..., None] * np.float32(0.75 / 255))

    hair_colour = _linear(hair.picture)
    # bright strands mirror more: the band of gloss shows single strands
    grey = hair_colour @ np.full(3, 1 / 3, np.float32)
    mirrored = grey / max(float(grey.mean()), 1e-3)
    hair_lit = (
        hair_colour * _enlarge(hair_light, scale) + (mirrored * _enlarge(hair_gloss, scale))[..., None] * light.key
    )
    scene += (hair_lit - scene) * (hair_alpha.astype(np.float32)[..., None] / 255)
    if t.glasses != "none":
        draw_glasses(scene, canvas, head, light)
    return np.asarray(cv2.resize(scene, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.float32)


def _lit(picture: Bytes, factor: Floats) -> Floats:
    return _to_srgb(_linear(picture) * factor) * np.float32(255)


def _to_srgb(linear: Floats) -> Floats:
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-6) ** (1 / 2.4) - 0.055).astype(
        np.float32
    )


def _background(random: np.random.Generator, scale: int) -> Bytes:
    """A room, a street or a wall, out of focus."""
    small: Floats = np.empty((HEIGHT, WIDTH, 3), np.float32)
    hue = 11 * random.standard_normal(3) + random.normal(0, 12) * np.array([1, 0.1, -1])
    base = random.uniform(20, 215) + hue
    other = base + random.normal(0, 32) + 9 * random.standard_normal(3)
    angle = random.uniform(0, 6.3)
    u, v = np.meshgrid(np.linspace(-1, 1, WIDTH), np.linspace(-1, 1, HEIGHT))
    mix = 0.5 + 0.5 * np.tanh(1.3 * (u * np.cos(angle) + v * np.sin(angle)) + random.normal(0, 0.4))
    small[:] = base + (other - base) * mix[..., None]
    if random.random() < 0.72:
        for _ in range(int(random.integers(3, 16))):
            colour = np.clip(base + 50 * random.standard_normal() + 15 * random.standard_normal(3), 0, 255).tolist()
            x, y = int(random.integers(-20, WIDTH + 20)), int(random.integers(-20, HEIGHT + 20))
            if random.random() < 0.5:
                w, h = int(random.integers(8, 70)), int(random.integers(20, 150))
                cv2.rectangle(small, (x - w // 2, y - h // 2), (x + w // 2, y + h // 2), colour, -1)
            else:
                axes = (int(random.integers(6, 45)), int(random.integers(6, 45)))
                cv2.ellipse(small, (x, y), axes, float(random.uniform(0, 180)), 0, 360, colour, -1)
        small = np.asarray(cv2.GaussianBlur(small, (0, 0), float(random.uniform(3, 12))), np.float32)
        if random.random() < 0.3:  # lights out of focus
            lights = np.zeros_like(small)
            for _ in range(int(random.integers(4, 14))):
                place = (int(random.integers(0, WIDTH)), int(random.integers(0, HEIGHT)))
                colour = (
                    np.array([255, 215, 160]) * random.uniform(0.2, 0.7) + 20 * random.standard_normal(3)
                ).tolist()
                cv2.circle(lights, place, int(random.integers(3, 9)), colour, -1, cv2.LINE_AA)
            small += cv2.GaussianBlur(lights, (0, 0), 1.3) * 0.6
    picture = np.clip(small, 4, 250).astype(np.uint8)
    return np.asarray(cv2.resize(picture, (WIDTH * scale, HEIGHT * scale), interpolation=cv2.INTER_LINEAR), np.uint8)


def _neck_and_clothes(canvas: Canvas, person: Person, head: Head, light: Light, random: np.random.Generator) -> None:
    t = person.traits
    # the body follows a turn of the head only in part
    root = head.project(np.array([[0, 62, -22]], np.float32))[0]
    centre = np.float32(0.75 * root[0] + 0.25 * (EYES_AT[0] + head.pose.shift[0]))
    top, bottom = float(root[1]) - 45, 232.0
    half = t.neck
    sides = np.array(
        [(half, 0.0), (half * 0.97, 0.45), (half * 1.03, 0.68), (half * 1.35, 0.86), (half * 2.2, 1.0)], np.float32
    )
    right = np.stack([centre + sides[:, 0], top + sides[:, 1] * (bottom - top)], -1)
    left = np.stack([centre - sides[:, 0], top + sides[:, 1] * (bottom - top)], -1)[::-1]
    polygon = np.concatenate([right, left]).astype(np.float32)
    window = canvas.window(polygon, 2)
    cover = smooth(canvas.mask([polygon], window), 0.5 * canvas.scale)
    columns = (np.arange(window[1].start, window[1].stop, dtype=np.float32) + 0.5) / canvas.scale - 0.5
    rows = (np.arange(window[0].start, window[0].stop, dtype=np.float32) + 0.5) / canvas.scale - 0.5
    around = np.clip((columns - centre) / (half * 1.15), -0.98, 0.98)
    facing = np.clip(around * light.direction[0] + np.sqrt(1 - around**2) * light.direction[2] * 0.8 + 0.1, 0.05, None)
    chin = head.project(np.array([[0, t.chin + head.expression.jaw, 14]], np.float32))[0]
    below = np.clip((rows - chin[1] - 1) / 26, 0, 1)
    under = 0.18 + 0.55 * below + 0.1 * (1 - light.hardness)
    amount = (
        facing[None, :, None] * light.key * under[:, None, None] + light.ambient * (0.36 + 0.44 * below)[:, None, None]
    )
    cords = 1 + 0.05 * np.cos(around * 9)[None, :, None]
    skin = FROM_SRGB[np.clip(t.skin, 0, 255).astype(np.uint8)] * np.array([0.97, 0.9, 0.88], np.float32)
    canvas.blend(window, cover, np.clip(_to_srgb(skin * amount * cords), 0, 1) * 255)

    # clothes
    cloth = np.clip(random.uniform(15, 200) + 24 * random.standard_normal(3), 8, 240).astype(np.float32)
    kind = random.choice(["crew", "vee", "shirt", "suit"])
    shoulder = bottom - 20 + random.normal(0, 2.5)
    deep = {"crew": 12.0, "vee": 30.0, "shirt": 18.0, "suit": 26.0}[str(kind)]
    wide = half * (1.15 if kind != "crew" else 1.2)
    neckline = np.array(
        [
            (-120, 36),
            (-85, 8),
            (-wide - 4, -8),
            (-wide, -10),
            (0, -10 + deep),
            (wide, -10),
            (wide + 4, -8),
            (85, 8),
            (120, 36),
            (120, 70),
            (-120, 70),
        ],
        np.float32,
    )
    garment = neckline + np.array([centre, shoulder], np.float32)
    window = canvas.window(garment, 0)
    rows = (np.arange(window[0].start, window[0].stop, dtype=np.float32) / canvas.scale)[:, None, None]
    columns = (np.arange(window[1].start, window[1].stop, dtype=np.float32) / canvas.scale)[None, :, None]
    folds = 1 + 0.10 * np.sin(columns / random.uniform(5, 11) + rows / random.uniform(9, 16) + random.uniform(0, 6))
    if random.random() < 0.3:
        period = random.uniform(2.5, 7)
        folds = folds * (1 + 0.18 * np.sign(np.sin(6.283 * (rows if random.random() < 0.5 else columns) / period)))
    around = np.clip((columns - centre) / 80, -1, 1)
    lit = light.ambient * 0.8 + light.key * np.clip(0.6 + 0.5 * around * light.direction[0], 0.1, None)
    colour = FROM_SRGB[cloth.astype(np.uint8)] * lit * folds
    dark = smooth(canvas.mask([garment], window), 1.2 * canvas.scale)
    canvas.darken(window, dark, np.array([0.5, 0.45, 0.45], np.float32), 0.5)
    canvas.blend(window, canvas.mask([garment], window), np.clip(_to_srgb(colour), 0, 1) * 255)
    if kind in ("shirt", "suit"):
        for side in (-1.0, 1.0):
            collar = np.array([(wide + 1, -15), (wide + 7, -4), (wide * 0.45, 15), (0, deep - 10)], np.float32)
            collar = collar * np.array([side, 1], np.float32) + np.array([centre, shoulder], np.float32)
            lighter = (
                np.clip(
                    _to_srgb(FROM_SRGB[np.clip(cloth * 1.15 + 12, 0, 255).astype(np.uint8)] * lit.mean((0, 1))), 0, 1
                )
                * 255
            )
            window, cover = canvas.soft([collar], 0.9)
            canvas.darken(window, cover, np.array([0.6, 0.6, 0.6], np.float32), 0.6)
            window = canvas.window(collar, 1)
            canvas.blend(window, canvas.mask([collar], window), lighter.astype(np.float32))


def _hair_layer(layer: Canvas, head: Head, strands: Strands, loosening: Floats, base: float) -> Bytes:
    """Draw strands over a dark ground of their own; returns the coverage."""
    if not len(strands):
        return np.zeros(layer.size, np.uint8)
    points = strands.points.copy()
    along = np.linspace(0, 1, points.shape[1], dtype=np.float32) ** 1.5
    points += (loosening[strands.lock % len(loosening)] * strands.loose[:, None])[:, None] * along[None, :, None]
    lines = head.project(points)
    layer.picture[:] = np.clip(strands.colours.mean(0) * 0.66, 0, 255).astype(np.uint8)
    layer.strands(lines, strands.colours, 0.5)
    fine = layer.lines(lines, 0.5)
    if base <= 0:
        return np.asarray(cv2.multiply(fine, np.full_like(fine, 150), scale=1 / 255), np.uint8)
    # the ground closes only where strands are dense, so that the hair's edge stays made of strands
    density = cv2.GaussianBlur(_reduce(fine), (0, 0), 2.0) / 255
    ground = np.clip((density - 0.12) / 0.26, 0, 1) * np.float32(255 * base)
    return np.maximum(fine, _enlarge(ground.astype(np.float32), layer.scale).astype(np.uint8))


def _hair_light(head: Head, light: Light, u: Floats, v: Floats) -> tuple[Floats, Floats]:
    """Light on hair, (218, 178, 3), and what it mirrors, (218, 178): a round head with a band of gloss."""
    t = head.traits
    centre = head.project(np.array([[0, -6, 0]], np.float32))[0]
    nx = np.clip((u - centre[0]) / (t.width + 12), -1, 1)
    ny = np.clip((v - centre[1]) / (t.top + 12), -1, 0.6)
    nz = np.sqrt(np.clip(1 - nx**2 - ny**2, 0.04, 1))
    to_light = light.direction
    facing = np.clip((nx * to_light[0] + ny * to_light[1] + nz * to_light[2] + 0.35) / 1.35, 0, None)
    half = to_light + np.array([0, 0, 1], np.float32)
    half = half / np.linalg.norm(half)
    band = (
        np.exp(-(((ny - half[1] + 0.28) / 0.16) ** 2)) * np.clip(facing, 0, 1) * np.exp(-(((nx - half[0]) / 0.75) ** 2))
    )
    low = np.exp(-(((ny - 0.4) / 0.5) ** 2)) * 0.25
    amount = facing + 0.9 * band + low
    factor = amount[..., None] * light.key + (0.75 - 0.3 * ny)[..., None] * light.ambient
    return factor.astype(np.float32), (0.024 * band + 0.0015 * facing).astype(np.float32)


def _shadow_of(cover: Bytes, light: Light, scale: int) -> Floats:
    """Shadow that hair casts on the face, at the photo's size."""
    small = _reduce(cover) / 255
    shift = np.array([[1, 0, 5 * light.direction[0]], [0, 1, 6 * light.direction[1] - 1]], np.float32)
    moved = cv2.warpAffine(small, shift, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    soft = cv2.GaussianBlur(moved, (0, 0), 2.6)
    return np.asarray(1 - (0.3 + 0.25 * light.hardness) * soft, np.float32)


def _expose(linear: Floats, take: Take, random: np.random.Generator) -> Bytes:
    """The camera: exposure, white balance, a shoulder for highlights, blur, noise."""
    light = linear * np.float32(take.exposure) * take.white
    knee = np.float32(0.72)
    over = np.maximum(light - knee, 0)
    light = np.minimum(light, knee) + (1 - knee) * (1 - np.exp(-over / (1 - knee)))
    picture = _to_srgb(light)
    if take.blur:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), take.blur), np.float32)
    grain = random.standard_normal((HEIGHT, WIDTH, 3), dtype=np.float32)
    picture = picture * 255 + np.float32(take.noise) * (0.6 * grain + 0.8 * grain.mean(-1, keepdims=True))
    result: Bytes = np.clip(np.round(picture), 0, 255).astype(np.uint8)
    return result
