"""What a validation shows: fixed faces beside what the networks make of them, the flow as colours, the error."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from skimage.color import hsv2rgb
from torch import Tensor

from gwainet import images
from gwainet.dataset import Faces, Rows
from gwainet.params import SCALE

SAMPLE_FACES = 6  # rows of a sheet
FLOW_SHARE = 12  # full colour from a flow of width / 12 on: fixed, so that the pictures of a series can be compared

# The colour wheel of Baker et al. (A Database and Evaluation Methodology for Optical Flow, IJCV 2011): how much of the
# turn lies between red, yellow, green, cyan, blue, magenta and red, for steps that the eye takes for equal.
_WHEEL = np.cumsum([0, 15, 6, 4, 11, 13, 6])

Floats = npt.NDArray[np.float64]


def sample_rows(rows: Rows) -> Rows:
    """A few of the rows, evenly spread: the same at every validation."""
    return rows[np.linspace(0, len(rows) - 1, min(SAMPLE_FACES, len(rows))).round().astype(np.int64)]


def sheet(
    faces: Faces,
    rows: Rows,
    *,
    sr: images.Uint8 | None = None,
    warped: images.Uint8 | None = None,
    omega: Tensor | None = None,
) -> Image.Image:
    """LR, guide, flow, warped guide, SR, ground truth and error, a line a face; without what is not given.

    Shapes: `sr`, `warped` (B, H, W, 3); `omega` (B, 2, H, W) in grid units, as `Wnet` gives it.
    """
    gt = faces.hr[rows]
    # the grid takes its size from the first picture: show the LR at full size, its pixels visible
    columns = {"LR": faces.lr[rows].repeat(SCALE, axis=1).repeat(SCALE, axis=2)}
    reach = faces.width / FLOW_SHARE
    if warped is not None and omega is not None:
        columns |= {
            "guide": faces.hr[faces.guide_row[rows]],
            "flow": flow_colours(flow_in_pixels(omega), reach),
            "warped guide": warped,
        }
    if sr is not None:
        columns["SR"] = sr
    name = list(columns)[-1]
    columns |= {"GT": gt, f"|{name} - GT| x{images.ERROR_SCALE}": images.error_picture(columns[name], gt)}
    lines = [[column[i] for column in columns.values()] for i in range(len(rows))]
    made = images.grid(lines, list(columns))
    return made if omega is None else _with_legend(made, reach)


def flow_in_pixels(omega: Tensor) -> Floats:
    """From a pixel of the warped guide to the point of the guide that it shows (Eqs. 3 and 4).

    Shapes: (B, 2, H, W) in grid units, 2 being the whole side -> (B, H, W, 2) in pixels, x (right) first, y down.
    """
    height, width = omega.shape[2:]
    grid_units: Floats = omega.detach().double().permute(0, 2, 3, 1).cpu().numpy()
    flow: Floats = grid_units * (np.array([width, height]) - 1) / 2
    return flow


def flow_colours(flow: Floats, reach: float) -> images.Uint8:
    """Flow as colours (Baker et al.): direction is hue, red to the right, then clockwise; length is saturation.

    No flow is white, `reach` a full colour; what is longer is darkened to three quarters, so that it is seen.

    Shapes: (..., 2), x (right) and y (down), in the unit of `reach` -> (..., 3).
    """
    x, y = flow[..., 0], flow[..., 1]
    length = np.hypot(x, y) / reach
    turn = np.arctan2(y, x) / (2 * np.pi) % 1
    hue = np.interp(turn * _WHEEL[-1], _WHEEL, np.linspace(0, 1, len(_WHEEL)))
    rgb = hsv2rgb(np.stack([hue, np.minimum(length, 1), np.where(length > 1, 0.75, 1)], axis=-1))
    colours: images.Uint8 = np.rint(255 * rgb).astype(np.uint8)
    return colours


def wheel(side: int) -> images.Uint8:
    """The key to `flow_colours`: the colour of each direction and length, in a disc. Shapes: -> (side, side, 3)."""
    offsets = np.linspace(-1, 1, side)
    flow = np.stack(np.meshgrid(offsets, offsets), axis=-1)
    disc = flow_colours(flow, 1)
    disc[np.hypot(flow[..., 0], flow[..., 1]) > 1] = 255
    return disc


def _with_legend(made: Image.Image, reach: float) -> Image.Image:
    side, gap = 56, 6
    whole = Image.new("RGB", (made.width, made.height + side + 2 * gap), "white")
    whole.paste(made)
    whole.paste(Image.fromarray(wheel(side)), (gap, made.height + gap))
    lines = (
        "flow: from each pixel of the warped guide to the point of the guide that it shows;",
        f"white: none, full colour: {reach:.3g} px of {reach * FLOW_SHARE:g}, darker: more",
    )
    draw = ImageDraw.Draw(whole)
    draw.multiline_text((side + 3 * gap, made.height + gap + side // 2), "\n".join(lines), fill="black", anchor="lm")
    return whole


def histogram(values: Sequence[float] | Floats, title: str, unit: str) -> Image.Image:
    """How often which value occurs: bars with their counts, what is below 0 in red, mean and median in the title."""
    width, height, left, top, bottom = 720, 320, 40, 40, 34
    counts, edges = np.histogram(values, bins="auto")
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    below = f"{np.mean(np.asarray(values) < 0):.0%} below 0"
    summary = (
        f"{len(values)} faces, mean {np.mean(values):+.2f} {unit}, median {np.median(values):+.2f} {unit}, {below}"
    )
    draw.multiline_text((left, 6), f"{title}\n{summary}", fill="black")
    low, high = min(0.0, edges[0]), max(0.0, edges[-1])  # 0 is always in it: better or worse is what is asked

    def x(value: float) -> float:
        return left + float((value - low) / ((high - low) or 1)) * (width - 2 * left)

    floor = height - bottom
    for count, start, end in zip(counts, edges, edges[1:], strict=False):
        peak = floor - count / counts.max() * (floor - top - 14)
        fill = "firebrick" if (start + end) / 2 < 0 else "steelblue"
        draw.rectangle((x(start), peak, max(x(start), x(end) - 1), floor), fill=fill)
        if count:
            draw.text(((x(start) + x(end)) / 2, peak - 1), str(count), fill="black", anchor="mb")
    draw.line((left, floor, width - left, floor), fill="black")
    draw.line((x(0), top, x(0), floor), fill="black")
    for tick in np.linspace(low, high, 7):
        draw.line((x(tick), floor, x(tick), floor + 4), fill="black")
        draw.text((x(tick), floor + 6), f"{tick:+.2f}", fill="black", anchor="ma")
    draw.text((width - left, floor + 19), unit, fill="black", anchor="ra")
    return sheet
