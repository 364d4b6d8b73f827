"""What a person wears in every photo: glasses and earrings."""

import numpy as np

from gwainet.people.canvas import Canvas, smooth
from gwainet.people.head import Head
from gwainet.people.skin import Light
from gwainet.people.traits import Floats

# half width, half height, exponent of the outline, rise of the outer end, y of the centre
SHAPES = {
    "round": (11.8, 10.6, 2.1, 0.0, 1.5),
    "square": (13.2, 8.4, 4.2, 0.4, 1.2),
    "cat": (13.4, 8.6, 2.8, 3.0, 0.6),
    "aviator": (13.4, 10.8, 2.6, -0.6, 3.0),
}


def _rim(head: Head, sign: float) -> Floats:
    """A lens's outline on the head. Shape: (40, 3)."""
    t = head.traits
    wide, high, power, rise, y0 = SHAPES[t.glasses]
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    cos, sin = np.cos(turn), np.sin(turn)
    x = t.eye_spacing + 1.8 + wide * np.sign(cos) * np.abs(cos) ** (2 / power)
    y = y0 + high * np.sign(sin) * np.abs(sin) ** (2 / power)
    outer = np.clip((x - t.eye_spacing) / wide, 0, 1)
    y = y - rise * outer**2 * np.where(sin < 0, 1, 0.3)
    front = float(head.height(np.array([[0, -1]], np.float32))[0]) + 1.5
    return np.stack([sign * x, y, front - 0.010 * x**2 + 0 * y], -1).astype(np.float32)


def draw_glasses(scene: Floats, canvas: Canvas, head: Head, light: Light) -> None:
    """Glasses on the lit picture (linear light), with the shadow they cast and what the lenses mirror."""
    t = head.traits
    rims = [_rim(head, sign) for sign in (-1.0, 1.0)]
    flat = [head.project(rim) for rim in rims]
    closed = [np.concatenate([rim, rim[:1]]) for rim in flat]
    inner = min(rims[1][:, 0])
    front = float(rims[1][20, 2])
    y0 = SHAPES[t.glasses][4] - 3.0
    bridge3 = np.array(
        [
            (-inner - 0.5, y0, front),
            (-inner * 0.5, y0 - 1.8, front + 1),
            (inner * 0.5, y0 - 1.8, front + 1),
            (inner + 0.5, y0, front),
        ]
    )
    bridge = head.project(bridge3.astype(np.float32))
    temples = []
    for sign, rim in zip((-1.0, 1.0), rims, strict=True):
        end = rim[np.argmax(np.abs(rim[:, 0]))]
        path = np.array(
            [end + np.array((0, -2.5, 0)), (sign * (t.width + 1.5), -1.8, 14.0), (sign * (t.width + 2.5), -1.5, -6.0)]
        )
        temples.append(head.project(path.astype(np.float32)))
    lines = [*closed, bridge, *temples]
    width = t.glasses_thickness

    fall = np.array([-3.0 * light.direction[0], -3.2 * light.direction[1] + 0.8], np.float32)
    window, cover = canvas.soft_lines([line + fall for line in lines[:3]], width, 1.1)
    scene[window] *= 1 - (0.16 + 0.2 * light.hardness) * cover.astype(np.float32)[..., None] / 255

    # lenses: a little darker, and a slanted reflection at the upper edge towards the light
    for line in flat:
        window = canvas.window(line, 2)
        pane = canvas.mask([line], window).astype(np.float32)[..., None] / 255
        v, u = np.mgrid[window].astype(np.float32) / canvas.scale
        low, high = line.min(0), line.max(0)
        across = (u - low[0]) / max(high[0] - low[0], 1) + 0.6 * (v - low[1]) / max(high[1] - low[1], 1)
        at = 0.8 + 0.5 * float(light.direction[0])
        sheen = 0.05 * np.exp(-(((across - at) / 0.13) ** 2)) + 0.025 * np.exp(-(((across - at - 0.3) / 0.05) ** 2))
        scene[window] += pane * (sheen[..., None] * light.key * 1.5 - 0.05 * scene[window])

    colour = (t.glasses_colour / 255) ** 2.2
    lit = (light.key * 0.7 + light.ambient * 0.8) * colour
    window = canvas.window(np.concatenate(lines), 3)
    frame = canvas.lines(lines, width, window).astype(np.float32)[..., None] / 255
    scene[window] += (lit - scene[window]) * frame
    # the frame's gloss runs along its upper side
    gloss = canvas.lines([line - np.array([0, 0.28 * width], np.float32) for line in lines], 0.4, window)
    thin = smooth(gloss, 0.3 * canvas.scale).astype(np.float32)[..., None] / 255
    scene[window] += frame * thin * (0.10 * light.key)


def draw_earrings(canvas: Canvas, head: Head) -> None:
    """A stud, a hoop or a drop at each ear's lobe."""
    t = head.traits
    for sign in (-1.0, 1.0):
        lobe = head.project(np.array([[sign * (t.width + 0.5 + 0.4 * t.ear), 25.5, 3.0]], np.float32))[0]
        window = canvas.window(lobe[None], 14)
        if t.earrings == "stud":
            turn = np.linspace(0, 2 * np.pi, 14)
            disc = lobe + 1.5 * np.stack([np.cos(turn), np.sin(turn)], -1).astype(np.float32)
            canvas.blend(window, canvas.mask([disc], window), t.earring_colour)
            glint = (lobe - 0.4)[None] + 0.5 * np.stack([np.cos(turn), np.sin(turn)], -1).astype(np.float32)
            canvas.blend(window, canvas.mask([glint], window), np.full(3, 250, np.float32))
        elif t.earrings == "hoop":
            turn = np.linspace(-np.pi / 2, 1.5 * np.pi, 26)
            ring = (
                lobe
                + np.array([0, 5.6], np.float32)
                + np.stack([3.2 * np.cos(turn), 5.6 * np.sin(turn)], -1).astype(np.float32)
            )
            canvas.blend(window, canvas.lines([ring], 0.9, window), t.earring_colour)
            canvas.blend(window, canvas.lines([ring[4:9]], 0.5, window), np.full(3, 250, np.float32), 0.8)
        else:
            end = lobe + np.array([0, 8], np.float32)
            canvas.blend(window, canvas.lines([np.stack([lobe, end])], 0.5, window), t.earring_colour)
            gem = end + np.array([[0, -2.2], [1.6, 0.8], [0, 2.8], [-1.6, 0.8]], np.float32)
            canvas.blend(window, canvas.mask([gem], window), t.earring_colour * np.float32(0.85))
            spark = end + np.array([[-0.4, -0.8], [0.3, -0.2], [-0.3, 0.5]], np.float32)
            canvas.blend(window, canvas.mask([spark], window), np.full(3, 250, np.float32))
