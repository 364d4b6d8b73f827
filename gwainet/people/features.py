"""Eyes, nose, mouth, ears and brows, painted on the face before the light falls on it."""

from typing import NamedTuple

import cv2
import numpy as np

from gwainet.people.canvas import Canvas, smooth
from gwainet.people.hair import Strands
from gwainet.people.head import Head
from gwainet.people.person import Person
from gwainet.people.skin import Light
from gwainet.people.traits import Floats

_BALL = 2.5  # pixels from the end of the nose up to the middle of the ball that stands out most (`Head._surface`)


def _rgb(*values: float) -> Floats:
    return np.array(values, np.float32)


def _lid(head: Head, sign: float, count: int = 15) -> tuple[Floats, Floats]:
    """Upper and lower lid of an eye from the nose outwards, in face coordinates. Shapes: (count, 2)."""
    t, e = head.traits, head.expression
    along = np.linspace(0, 1, count, dtype=np.float32)
    x = t.eye_spacing + (along - 0.5) * t.eye_width
    line = -t.eye_tilt * (x - t.eye_spacing) + 0.4
    squint = 0.3 * max(e.smile, 0.0)
    upper = line - 0.68 * t.eye_height * e.eyes * np.maximum(np.sin(np.pi * along**0.84), 0) ** 0.82
    lower = line + 0.34 * t.eye_height * (1 - squint) * np.maximum(np.sin(np.pi * along**1.12), 0) ** 0.9
    x = sign * x
    return np.stack([x, upper], -1).astype(np.float32), np.stack([x, lower], -1).astype(np.float32)


def _pupil(head: Head, sign: float) -> Floats:
    """Where the middle of a pupil is seen, in pixels of the photo; `sign` is -1 for the left eye. Shape: (2,)."""
    gaze = head.expression.gaze
    ball = np.array([[sign * head.traits.eye_spacing + gaze[0], -0.9 + gaze[1]]], np.float32)
    centre: Floats = head.on_face(ball)[0]
    return centre


def landmarks(head: Head) -> Floats:
    """Both pupils, the tip of the nose and both corners of the mouth, left before right, as CelebA lists them.

    Left and right are those of the photo. A place that hair or glasses hide is where it would be seen.

    Shape: (5, 2): x, y in pixels of the photo, whole numbers are their centres.
    """
    tip = head.on_face(np.array([[0, head.traits.nose_length - _BALL]], np.float32))[0]
    lips = _lips(head)
    ends = [
        head.on_face(np.array([[lips.places[end] * lips.half, lips.upper_in[end]]], np.float32))[0] for end in (0, -1)
    ]
    return np.stack([_pupil(head, -1.0), _pupil(head, 1.0), tip, *ends]).astype(np.float32)


def draw_eyes(canvas: Canvas, head: Head, person: Person, pupil: float, light: Light) -> None:
    """Both eyes: white, iris, pupil, lids, lashes, crease."""
    for index, sign in enumerate((-1.0, 1.0)):
        _draw_eye(canvas, head, person, pupil, light, index, sign)


def _draw_eye(canvas: Canvas, head: Head, person: Person, pupil: float, light: Light, index: int, sign: float) -> None:
    t = head.traits
    upper, lower = _lid(head, sign)
    up, low = head.on_face(upper), head.on_face(lower)
    opening = np.concatenate([up, low[::-1]])

    # the crease above the lid, and the skin that hangs over it
    rise = np.sin(np.pi * np.linspace(0.05, 0.97, len(upper))) * (3.0 - 1.5 * t.eye_hood) + 0.5
    crease = head.on_face(upper - np.stack([np.zeros_like(rise), rise], -1).astype(np.float32))
    window, cover = canvas.soft_lines([crease], 0.6, 0.45)
    canvas.darken(window, cover, _rgb(0.42, 0.34, 0.34), 0.85)
    window, cover = canvas.soft_lines([0.5 * (crease + up)], 2.0, 1.2)
    canvas.darken(window, cover, _rgb(0.82, 0.74, 0.74), 0.5)
    window, cover = canvas.soft_lines([low + np.array([0, 1.2], np.float32)], 1.4, 0.8)
    canvas.darken(window, cover, _rgb(0.8, 0.7, 0.7), 0.45)

    window = canvas.window(opening, 2)
    if window[0].stop <= window[0].start or window[1].stop <= window[1].start:
        return
    cover = canvas.mask([opening], window)
    v, u = np.mgrid[window].astype(np.float32)
    u, v = (u + 0.5) / canvas.scale - 0.5, (v + 0.5) / canvas.scale - 0.5

    centre = _pupil(head, sign)
    size = t.iris * head.pose.scale
    radius = np.hypot(u - centre[0], v - centre[1]) / size
    angle = np.arctan2(v - centre[1], (u - centre[0]) * sign)

    left, right = np.sort(up[[0, -1], 0])
    place = (u - left) / max(right - left, 1.0) * 2 - 1
    white = _rgb(212, 202, 196) * (1 - 0.30 * np.abs(place[..., None]) ** 2)
    inner = np.hypot(u - up[0, 0], v - up[0, 1])
    white = white + (_rgb(186, 118, 110) - white) * np.clip(1 - inner / 2.6, 0, 0.8)[..., None]
    veins = 0.06 * np.sin(place * 9 + v * 2.3)[..., None] * np.abs(place[..., None])
    white = white * (1 - veins * _rgb(0, 1, 1))

    rows = np.clip(radius * 32, 0, 31).astype(int)
    columns = ((angle / (2 * np.pi) + 0.5) * 180).astype(int) % 180
    rays = person.iris[rows, columns][..., None]
    colour = t.eye_colour * rays * (1.22 - 0.42 * radius[..., None])
    amber = np.exp(-(((radius - pupil - 0.1) / 0.13) ** 2))[..., None]
    colour = colour * (1 - 0.45 * amber) + (t.eye_colour * 0.6 + _rgb(70, 48, 22)) * 0.45 * amber
    colour = colour * (1 - 0.62 * np.clip((radius - 0.78) / 0.2, 0, 1) ** 1.5)[..., None]
    soft = 1.6 / (size * canvas.scale)
    iris_cover = np.clip((1.0 - radius) / soft + 0.5, 0, 1)[..., None]
    pupil_cover = np.clip((pupil - radius) / soft + 0.5, 0, 1)[..., None]
    colour = colour * (1 - pupil_cover) + _rgb(10, 8, 8) * pupil_cover
    eye = white * (1 - iris_cover) + colour * iris_cover

    # the upper lid and the lashes shade the eye
    order = np.argsort(up[:, 0])
    lid = np.interp(u[0], up[order, 0], up[order, 1])[None]
    eye = eye * (1 - 0.62 * np.exp(-np.maximum(v - lid, 0) / 1.35))[..., None]
    # what the eye mirrors: the light, and a weaker window
    glint = centre + np.array([1.5 * light.direction[0] + 0.2, -1.15 + 0.9 * light.direction[1]], np.float32)
    spark = np.exp(-(((u - glint[0]) / 0.72) ** 2) - ((v - glint[1]) / 0.72) ** 2)[..., None]
    second = np.exp(-(((u - 2 * centre[0] + glint[0]) / 0.9) ** 2) - ((v - centre[1] - 1.4) / 0.6) ** 2)[..., None]
    eye = eye + (255 - eye) * np.clip(1.15 * spark + 0.13 * second, 0, 1)
    canvas.blend(window, cover, np.clip(eye, 0, 255).astype(np.float32))

    window, cover = canvas.soft_lines([low[1:]], 0.5, 0.3)
    canvas.blend(window, cover, t.skin * _rgb(0.95, 0.74, 0.72), 0.65)
    dark = np.minimum(t.brow_colour * 0.45, 46).astype(np.float32) * _rgb(1, 0.9, 0.85)
    window, cover = canvas.soft_lines([up], 0.65 + 0.75 * t.liner, 0.28)
    canvas.blend(window, cover, dark, 0.85)
    if t.liner > 0.5:
        window, cover = canvas.soft_lines([low[6:]], 0.5, 0.3)
        canvas.blend(window, cover, dark, 0.7)

    lines = []
    for along, turn, long in person.lashes[index]:
        at = along * (len(up) - 1)
        i = min(int(at), len(up) - 2)
        root = up[i] + (up[i + 1] - up[i]) * (at - i)
        heading = -np.pi / 2 + (along - 0.38) * 1.5 + turn
        step = t.lashes * long * (0.55 + 0.6 * along) * np.array([sign * np.cos(heading), np.sin(heading) * 0.8])
        lines.append(np.stack([root, root + 0.55 * step + (0, 0.25), root + step]).astype(np.float32))
    window = canvas.window(np.concatenate(lines), 2)
    canvas.blend(window, canvas.lines(lines, 0.5, window), dark, 0.9)
    lines = []
    for along, turn, long in person.lashes[index][3::2]:
        at = along * (len(low) - 1)
        i = min(int(at), len(low) - 2)
        root = low[i] + (low[i + 1] - low[i]) * (at - i)
        heading = np.pi / 2 - (along - 0.45) * 1.3 + turn
        step = 0.5 * t.lashes * long * np.array([sign * np.cos(heading), np.sin(heading)])
        lines.append(np.stack([root, root + step]).astype(np.float32))
    window = canvas.window(np.concatenate(lines), 2)
    canvas.blend(window, canvas.lines(lines, 0.5, window), dark, 0.42)


def draw_nose(canvas: Canvas, head: Head) -> None:
    """Nostrils and the wings' edges; the light does the rest."""
    t = head.traits
    tip = t.nose_length
    turn = np.linspace(0, 2 * np.pi, 20)
    for sign in (-1.0, 1.0):
        x = sign * (t.nose_width * 0.52) + 1.95 * np.cos(turn)
        y = tip + 1.9 + 0.8 * np.sin(turn) - 0.22 * sign * np.cos(turn)
        hole = head.on_face(np.stack([x, y], -1).astype(np.float32))
        window, cover = canvas.soft([hole], 0.55)
        canvas.darken(window, cover, _rgb(0.34, 0.22, 0.2), 0.8)
        bend = np.linspace(-1.35, 1.35, 11)
        x = sign * (t.nose_width - 1.2 + 3.0 * np.cos(bend))
        y = tip - 0.6 + 3.3 * np.sin(bend)
        wing = head.on_face(np.stack([x, y], -1).astype(np.float32))
        window, cover = canvas.soft_lines([wing], 0.8, 0.7)
        canvas.darken(window, cover, _rgb(0.62, 0.5, 0.48), 0.6)
    x = np.linspace(-t.nose_width * 0.75, t.nose_width * 0.75, 11)
    y = tip + 2.9 + 1.1 * np.cos(x / t.nose_width * 2.2)
    base = head.on_face(np.stack([x, y], -1).astype(np.float32))
    window, cover = canvas.soft_lines([base], 1.6, 1.2)
    canvas.darken(window, cover, _rgb(0.75, 0.66, 0.66), 0.3)


class _Lips(NamedTuple):
    """The lips' lines from the left corner to the right one, in face coordinates.

    Attributes:
        places: (25), -1 to 1 across the mouth.
        half: half of its width.
        top: (25), y of the upper lip's upper edge, and so on downwards.
        upper_in: (25).
        lower_in: (25).
        bottom: (25).
    """

    places: np.ndarray[tuple[int], np.dtype[np.float64]]
    half: float
    top: np.ndarray[tuple[int], np.dtype[np.float64]]
    upper_in: np.ndarray[tuple[int], np.dtype[np.float64]]
    lower_in: np.ndarray[tuple[int], np.dtype[np.float64]]
    bottom: np.ndarray[tuple[int], np.dtype[np.float64]]


def _lips(head: Head) -> _Lips:
    t, e = head.traits, head.expression
    smile = float(np.clip(e.smile, -0.3, 1))
    half = t.mouth_width + 3.2 * smile
    gap = head.mouth_gap()
    a = np.linspace(-1, 1, 25)
    ends = np.clip(1 - a**2, 0, 1)
    corner = t.mouth_y - 3.0 * smile * np.abs(a) ** 1.8 + 0.5 * gap * np.abs(a) ** 2
    thin = 1 - 0.22 * max(smile, 0.0)
    cupid = t.lip_cupid * np.exp(-((a / 0.16) ** 2)) - 0.16 * np.exp(-(((np.abs(a) - 0.27) / 0.16) ** 2))
    top = corner - t.lip_upper * thin * (ends**0.75) * (1 - cupid) * (1 - 0.35 * np.abs(a))
    upper_in = corner + 0.5 * np.exp(-((a / 0.3) ** 2)) * (gap < 0.5)
    lower_in = np.maximum(corner + gap * ends**0.75, upper_in)
    bottom = lower_in + t.lip_lower * thin * ends**0.62 * (1 - 0.28 * a**2)
    return _Lips(a, half, top, upper_in, lower_in, bottom)


def draw_mouth(canvas: Canvas, head: Head, person: Person) -> None:
    """Lips, teeth, and the dark between them."""
    t, gap = head.traits, head.mouth_gap()
    a, half, top, upper_in, lower_in, bottom = _lips(head)

    def line(y: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Floats:
        return head.on_face(np.stack([a * half, y], -1).astype(np.float32))

    edge_top, edge_in, edge_low, edge_bottom = line(top), line(upper_in), line(lower_in), line(bottom)
    upper_lip = np.concatenate([edge_top, edge_in[::-1]])
    lower_lip = np.concatenate([edge_low, edge_bottom[::-1]])

    # shade below the lower lip, light edge above the upper one
    window, cover = canvas.soft_lines([edge_bottom[6:-6] + np.array([0, 1.5], np.float32)], 1.8, 1.3)
    canvas.darken(window, cover, _rgb(0.72, 0.62, 0.6), 0.5)
    edge = 0.3 if t.lip_paint > 0.5 else 0.7
    for lip, factor in ((upper_lip, 0.86), (lower_lip, 1.0)):
        window, cover = canvas.soft([lip], edge)
        canvas.blend(window, cover, t.lip_colour * np.float32(factor), 0.82 + 0.12 * t.lip_paint)
    lines, strengths = [], []
    for place, long, strength in person.creases:
        i = int((place + 1) / 2 * 24)
        for start, end, share in ((edge_low[i], edge_bottom[i], 0.8), (edge_in[i], edge_top[i], 0.65)):
            lines.append(np.stack([start, start + (end - start) * long * share]))
            strengths.append(strength)
    for strong in (False, True):
        chosen = [line for line, strength in zip(lines, strengths, strict=True) if (strength > 0.6) == strong]
        if chosen:
            window = canvas.window(np.concatenate(chosen), 1)
            canvas.darken(window, canvas.lines(chosen, 0.4, window), _rgb(0.62, 0.5, 0.5), 0.5 if strong else 0.25)

    if gap > 0.25:
        inside = np.concatenate([edge_in, edge_low[::-1]])
        window = canvas.window(inside, 2)
        cover = smooth(canvas.mask([inside], window), 0.3 * canvas.scale)
        canvas.blend(window, cover, _rgb(52, 20, 20))
        _draw_teeth(canvas, head, person, half, upper_in, a, gap, cover, window)
        window, cover = canvas.soft_lines([edge_in], 0.7, 0.5)
        canvas.darken(window, cover, _rgb(0.35, 0.22, 0.22), 0.6)
    else:
        window, cover = canvas.soft_lines([edge_in], 0.5, 0.3)
        canvas.blend(window, cover, t.lip_colour * _rgb(0.3, 0.22, 0.24), 0.85)
    for end in (edge_in[0], edge_in[-1]):
        spot = end + np.array([[-1.1, 0], [0, -0.9], [1.1, 0], [0, 0.9]], np.float32)
        window, cover = canvas.soft([spot], 0.8)
        canvas.darken(window, cover, _rgb(0.5, 0.38, 0.38), 0.7)


def _draw_teeth(
    canvas: Canvas,
    head: Head,
    person: Person,
    half: float,
    edge: np.ndarray[tuple[int], np.dtype[np.float64]],
    places: np.ndarray[tuple[int], np.dtype[np.float64]],
    gap: float,
    cover: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    window: tuple[slice, slice],
) -> None:
    t = head.traits
    widths = np.array([2.3, 2.7, 3.1, 3.1, 4.1]) * person.teeth[:5, 0]
    widths = np.concatenate([widths, (np.array([4.1, 3.1, 3.1, 2.7, 2.3]) * person.teeth[5:, 0])])
    edges = np.concatenate([[0], np.cumsum(widths)]) - widths[:5].sum()
    layer = canvas.picture[window].copy()
    part = Canvas(canvas.scale, layer)
    shift = np.array([window[1].start, window[0].start], np.float32) / canvas.scale
    long = np.array([3.4, 4.0, 5.0, 4.6, 5.6, 5.6, 4.6, 5.0, 4.0, 3.4]) * person.teeth[:, 1]
    for index in range(10):
        x0, x1 = edges[index] + 0.12 + 0.25 * t.teeth_gap * (index == 5), edges[index + 1] - 0.12
        y0 = float(np.interp((x0 + x1) / 2 / half, places, edge)) - 1.5
        y1 = y0 + 1.2 + min(long[index], 1.5 + gap * 0.9)
        r = 0.55
        corners = np.array([(x0, y0), (x1, y0), (x1, y1 - r), (x1 - r, y1), (x0 + r, y1), (x0, y1 - r)], np.float32)
        shape = head.on_face(corners, lift=-1.5) - shift
        far = abs((x0 + x1) / 2) / max(half, 1.0)
        colour = (
            _rgb(236, 229, 214)
            * np.float32(np.clip(1.04 - 0.62 * far**1.6, 0.25, 1))
            * (0.96 + 0.04 * person.teeth[index, 0])
        )
        cv2.fillPoly(
            part.picture, [part.place(shape.astype(np.float32))], np.clip(colour, 0, 250).tolist(), cv2.LINE_AA, 4
        )
    canvas.blend(window, cover, part.picture.astype(np.float32))


def draw_ears(canvas: Canvas, head: Head, skin_light: Floats, light: Light) -> None:
    """Both ears, behind the face."""
    t = head.traits
    turn = np.linspace(0, 2 * np.pi, 26, endpoint=False)
    for sign in (-1.0, 1.0):
        side = float(np.clip(1 + 0.45 * sign * light.direction[0], 0.4, 1.4))
        lit = np.clip((skin_light * side) ** (1 / 2.2), 0, 1.15)
        colour = t.skin * _rgb(0.98, 0.86, 0.82) * lit * 0.95

        def ring(size: float, dx: float, dy: float, sign: float = sign) -> Floats:
            x = t.width - 2.5 + dx + size * t.ear * (0.62 + 0.9 * np.cos(turn) + 0.18 * np.sin(turn) * -1)
            y = 11.5 + dy + size * 15.5 * np.sin(turn) + 0.8 * np.cos(turn)
            return head.project(np.stack([sign * x, y, np.full(26, 2.0)], -1).astype(np.float32))

        window, cover = canvas.soft([ring(1, 0, 0)], 0.5)
        canvas.blend(window, cover, np.clip(colour, 0, 250).astype(np.float32))
        window, cover = canvas.soft_lines([ring(0.72, 1.0, -0.5)[17:], ring(0.72, 1.0, -0.5)[:8]], 1.0, 0.7)
        canvas.darken(window, cover, _rgb(0.6, 0.46, 0.44), 0.8)
        window, cover = canvas.soft([ring(0.38, 0.6, 0)], 1.0)
        canvas.darken(window, cover, _rgb(0.55, 0.42, 0.4), 0.75)


def draw_strands_on_face(canvas: Canvas, head: Head, strands: Strands, lift_brows: bool) -> None:
    """Brows: a soft ground and single hairs."""
    points = strands.points.copy()
    if lift_brows:
        points[..., 1] -= head.expression.brows
    points[..., 2] += head.height(points[..., :2])
    lines = head.project(points)
    for chosen in (lines[: len(lines) // 2], lines[len(lines) // 2 :]):
        window = canvas.window(chosen, 5)
        ground = smooth(canvas.lines(chosen, 1.6, window), 0.9 * canvas.scale)
        canvas.blend(
            window, ground, strands.colours.mean(0) * np.float32(0.5) + head.traits.skin * np.float32(0.5), 0.55
        )
    before = canvas.picture.copy()
    canvas.strands(lines, strands.colours, 0.5)
    window = canvas.window(lines, 2)
    mixed = 0.25 * before[window].astype(np.float32) + 0.75 * canvas.picture[window].astype(np.float32)
    canvas.picture[window] = mixed.astype(np.uint8)
