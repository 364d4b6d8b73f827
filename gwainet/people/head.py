"""The head as a surface: heights over the face, pose, projection to the photo and back.

A point of the face is (x, y) in the frontal view, in pixels of the photo with the origin between the eyes; its height z
points to the camera. Turning the head moves near parts (the nose) more than far ones (the ears): that is what a guide
must be warped for.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from gwainet.people.traits import Floats, Traits

HEIGHT, WIDTH = 218, 178
EYES_AT = (89.0, 111.0)  # CelebA's alignment: the point between the eyes
DEPTH = 50.0  # from the ears' plane to the front of the face
CAMERA = 620.0  # distance to the head: about a metre, as portraits are taken
LEFT, TOP, COLUMNS, ROWS = -75, -100, 151, 221  # of the grid on which heights are tabulated, one a pixel


@dataclass(frozen=True)
class Pose:
    """Angles in radians; shift in pixels of the photo and scale are what CelebA's alignment leaves over."""

    yaw: float
    pitch: float
    roll: float
    shift: tuple[float, float]
    scale: float


@dataclass(frozen=True)
class Expression:
    """What the face does; 0 is at rest (`eyes`: 1)."""

    smile: float  # -0.3 .. 1
    jaw: float  # pixels that the jaw drops
    brows: float  # pixels that the brows rise
    eyes: float  # how far open
    gaze: tuple[float, float]  # pixels


def smoothstep(value: npt.NDArray[np.floating]) -> Floats:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(value, 0, 1).astype(np.float32)
    result: Floats = t * t * (3 - 2 * t)
    return result


def half_width(traits: Traits, y: Floats, jaw: float = 0.0) -> Floats:
    """Half the width of the face's outline at height y, with the jaw dropped by some pixels."""
    centre = np.float32(3.0)
    up = np.clip((centre - y) / (traits.top + centre), 0, 1)
    down = np.clip((y - centre) / (traits.chin + jaw - centre), 0, 1)
    upper = np.sqrt(1 - up**2.7)
    lower = (1 - down**traits.jaw) ** (1 / traits.taper)
    result: Floats = (traits.width * np.where(y < centre, upper, lower)).astype(np.float32)
    return result


class Head:
    """A person's head in one photo."""

    def __init__(self, traits: Traits, pose: Pose, expression: Expression) -> None:
        self.traits, self.pose, self.expression = traits, pose, expression
        x, y = np.meshgrid(
            np.arange(LEFT, LEFT + COLUMNS, dtype=np.float32), np.arange(TOP, TOP + ROWS, dtype=np.float32)
        )
        self.heights = self._surface(x, y)
        cy, sy = np.cos(pose.yaw), np.sin(pose.yaw)
        cp, sp = np.cos(pose.pitch), np.sin(pose.pitch)
        cr, sr = np.cos(pose.roll), np.sin(pose.roll)
        yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        self.rotation = (roll @ pitch @ yaw).astype(np.float32)
        self._offset = np.zeros(2, np.float32)
        self._scale = 1.0
        # the photo is aligned on the eyes, whatever the pose; part of the narrowing by yaw remains, as in CelebA
        eyes = self.on_face(np.array([[-traits.eye_spacing, 0], [traits.eye_spacing, 0]], np.float32))
        distance = float(np.hypot(*(eyes[1] - eyes[0])))
        self._scale = pose.scale * (2 * traits.eye_spacing / distance) ** 0.6 * (20.0 / traits.eye_spacing) ** 0.5
        eyes = self.on_face(np.array([[-traits.eye_spacing, 0], [traits.eye_spacing, 0]], np.float32))
        self._offset = (np.array(EYES_AT) + pose.shift - eyes.mean(0)).astype(np.float32)

    def half_width(self, y: Floats) -> Floats:
        """Half the width of the face's outline at height y; 0 above the skull and below the chin."""
        return half_width(self.traits, y, self.expression.jaw)

    def silhouette(self) -> list[Floats]:
        """Outlines whose union the face covers in the photo: turn the head, and inner rings stand out on one side."""
        t = self.traits
        angle = np.linspace(0, 2 * np.pi, 90, endpoint=False, dtype=np.float32)
        middle = np.float32((t.chin + self.expression.jaw - t.top) / 2)
        half = np.float32((t.chin + self.expression.jaw + t.top) / 2)
        y = (middle - half * np.cos(angle)).astype(np.float32)
        ring = np.stack([self.half_width(y) * np.where(angle < np.pi, 1, -1), y], -1).astype(np.float32)
        centre = np.array([0, middle], np.float32)
        return [self.on_face(centre + (ring - centre) * np.float32(size)) for size in (1.0, 0.97, 0.93, 0.87, 0.8)]

    def drop(self, y: Floats) -> Floats:
        """How far the open jaw moves the skin at height y, in pixels."""
        down: Floats = self.expression.jaw * smoothstep((y - (self.traits.mouth_y - 1)) / 16)
        return down

    def _surface(self, x: Floats, y: Floats) -> Floats:
        """Heights of the face: an egg with bumps and hollows."""
        t, e = self.traits, self.expression
        half = np.maximum(self.half_width(y), 4)
        ax = np.abs(x)
        up = np.clip(-(y - 3) / (t.top + 3), 0, 1)
        down = np.clip((y - 3) / (t.chin + e.jaw - 3), 0, 1)
        profile = np.where(y < 3, np.sqrt(1 - 0.97 * up**2.6), np.sqrt(1 - 0.95 * down**6))
        inside = 1 - 0.985 * (ax / half) ** 2.4
        edge = np.float32(
            0.012
        )  # from here outwards the root goes on as its tangent, so that the surface keeps falling
        fall = np.sqrt(edge) + np.maximum(inside - edge, -0.3) / (2 * np.sqrt(edge))
        z = DEPTH * profile * np.where(inside > edge, np.sqrt(np.maximum(inside, edge)), fall)

        def bump(height: float, cx: float, cy: float, sx: float, sy: float) -> None:
            nonlocal z
            z = z + np.float32(height) * np.exp(-(((ax - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)

        tip = t.nose_length
        # the nose: a ridge that grows towards the tip, a ball, two wings
        along = np.clip((y + 5) / (tip + 3), 0, 1)
        ridge = t.nose_bridge + (t.nose_height - t.nose_bridge) * along**1.3
        sides = (3.6 + (t.nose_width - 5.4) * along) ** 2
        ends = smoothstep((y + 13) / 12) * (1 - smoothstep((y - tip + 3.5) / 7.5))
        z = z + ridge * np.exp(-(ax**2) / (1.35 * sides)) * ends
        bump(3.2, 0, tip - 2.5, 4.6, 4.2)
        bump(4.4, t.nose_width - 1.2, tip - 0.5, 3.1, 3.6)
        bump(-2.2, t.nose_width + 3.6, tip + 1.5, 3.4, 5)
        # eyes: hollows at the nose's root, balls, brows' ridge
        bump(-6.0, 13.5, -2.5, 6.5, 7.5)
        bump(-3.5, t.eye_spacing + 3, -5.5, 10, 5)
        bump(3.6, t.eye_spacing, -0.3, 8.6, 5.6)
        bump(t.brow_ridge + 1.4, t.eye_spacing - 3, -t.brow_height + 0.5, 14, 4.6)
        bump(-1.2 - 1.6 * t.wrinkles, t.eye_spacing - 2, 8.5, 8, 2.4)
        # cheeks, which a smile lifts, and the fold beside the mouth
        smile = max(e.smile, 0.0)
        bump(t.cheekbone + 1.8 * smile, 28, 17 - 2 * smile, 10, 8.5)
        fold = 11.5 + 0.42 * (y - tip)
        depth = (0.5 + 1.5 * t.wrinkles + 1.6 * smile) * smoothstep((y - tip + 3) / 6)
        depth = depth * (1 - smoothstep((y - t.mouth_y - 3) / 9))
        z = z - depth * np.exp(-(((ax - fold - 1.5 * smile) / 2.2) ** 2))
        bump(-2.2, 30, 38, 9, 12)
        # mouth: muzzle, philtrum, lips, the groove below, chin
        gap = self.mouth_gap()
        bump(4.5, 0, t.mouth_y, 16, 13)
        bump(-0.9, 0, t.mouth_y - t.lip_upper - 3.5, 1.7, 3.6)
        bump(2.1, 0, t.mouth_y - 0.55 * t.lip_upper, t.mouth_width * 0.8, 2.5)
        bump(2.8, 0, t.mouth_y + gap + 0.5 * t.lip_lower, t.mouth_width * 0.62, 3.0)
        bump(-2.0, 0, t.mouth_y + 0.3, t.mouth_width * 0.9, 1.2)
        bump(-2.6, 0, t.mouth_y + gap + t.lip_lower + 4.2, 10, 3.0)
        bump(t.chin_bump, 0, t.chin + e.jaw - 11, 8.5, 7.5)
        bump(-1.4, 36, -22, 6, 10)
        bump(1.5, 15, -34, 16, 10)
        result: Floats = z.astype(np.float32)
        return result

    def mouth_gap(self) -> float:
        """Pixels between the lips, in the middle: an open jaw and a wide smile part them."""
        e = self.expression
        return max(0.0, 0.75 * e.jaw + 4.5 * max(0.0, e.smile - 0.45))

    def height(self, points: Floats) -> Floats:
        """Height of points (..., 2) of the face."""
        rows = points.reshape(-1, points.shape[-2], 2).astype(np.float32)  # OpenCV maps at most 32767 in a row
        z = cv2.remap(
            self.heights, rows[..., 0] - LEFT, rows[..., 1] - TOP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(z, np.float32).reshape(points.shape[:-1])

    def project(self, points: Floats) -> Floats:
        """Points of the head (..., 3) to pixels of the photo (..., 2)."""
        turned = points @ self.rotation.T
        near = CAMERA / (CAMERA - turned[..., 2:] + DEPTH)
        pixels: Floats = (turned[..., :2] * near * np.float32(self._scale) + self._offset).astype(np.float32)
        return pixels

    def on_face(self, points: Floats, lift: float = 0.0) -> Floats:
        """Points of the face (..., 2), seen from the front, to pixels of the photo (..., 2)."""
        z = self.height(points) + np.float32(lift)
        return self.project(np.concatenate([points, z[..., None]], -1))

    def seen(self) -> tuple[Floats, Floats, Floats]:
        """For each pixel of the photo, which point of the face it shows, and its height towards the camera.

        Shapes: three arrays (218, 178): x, y, z. Pixels beside the face hold values that continue it.
        """
        # solved on every other pixel: the map is smooth, its heights are then read at every pixel
        u, v = np.meshgrid(np.arange(0.5, WIDTH, 2, dtype=np.float32), np.arange(0.5, HEIGHT, 2, dtype=np.float32))
        target = np.stack([u, v], -1)
        points = np.stack([u - EYES_AT[0], v - EYES_AT[1]], -1).astype(np.float32)
        slope_x = cv2.Sobel(self.heights, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
        slope_y = cv2.Sobel(self.heights, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
        turn = self.rotation * np.float32(self._scale)
        for _ in range(6):  # Newton's method, held back where the surface turns away from the camera
            wrong = target - self.on_face(points)
            place = points[..., 0] - LEFT, points[..., 1] - TOP
            zx = cv2.remap(slope_x, *place, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            zy = cv2.remap(slope_y, *place, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            a, b = turn[0, 0] + turn[0, 2] * zx, turn[0, 1] + turn[0, 2] * zy
            c, d = turn[1, 0] + turn[1, 2] * zx, turn[1, 1] + turn[1, 2] * zy
            size = np.maximum(a * d - b * c, np.float32(0.4))
            step_x = (d * wrong[..., 0] - b * wrong[..., 1]) / size
            step_y = (a * wrong[..., 1] - c * wrong[..., 0]) / size
            points = points + np.clip(np.stack([step_x, step_y], -1), -6, 6).astype(np.float32)
        # single pixels of the steep edge that did not settle take their neighbours' place
        calm = np.stack([cv2.medianBlur(points[..., axis], 5) for axis in (0, 1)], -1)
        points = np.where((np.hypot(zx, zy) > 1.5)[..., None], calm, points)
        points = np.asarray(cv2.resize(points, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR), np.float32)
        z = self.height(points)
        turned = (
            points[..., 0] * self.rotation[2, 0] + points[..., 1] * self.rotation[2, 1] + z * self.rotation[2, 2]
        ) * np.float32(self._scale)
        return points[..., 0].copy(), points[..., 1].copy(), turned.astype(np.float32)
