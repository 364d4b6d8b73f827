"""Super-resolve one face, 8x: weights, a low-resolution picture, another photo of the same person -> a picture.

    python examples/super_resolve.py weights.safetensors low.png --guide photo.jpg --output sr.png

The low-resolution picture must be what training saw: a face framed like the training faces, 8 times smaller (18x21 for
the demo). With `--downscale` it is a full-size photo, and made smaller first; `--crop` cuts the box that training used
out of full-size photos: `--crop 25 17 168 144` for the demo's people and CelebA.

The weights file says what network it belongs to, so nothing else is needed. BAnet's weights take no guide.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from gwainet.errors import GwainetError
from gwainet.images import Uint8, downscale
from gwainet.nets.model import load_generator
from gwainet.params import SCALE


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, super-resolve, write the picture."""
    parser = argparse.ArgumentParser(description="Super-resolve one face, 8x, with another photo of the same person.")
    parser.add_argument("weights", type=Path, help="weights.safetensors of train_psnr or train_adversarial")
    parser.add_argument("picture", type=Path, help="low-resolution face, or a full-size photo with --downscale")
    parser.add_argument("--guide", type=Path, help="another photo of the same person, 8 times the size")
    parser.add_argument("--output", type=Path, default=Path("sr.png"), help="picture to write (default: sr.png)")
    parser.add_argument(
        "--downscale", action="store_true", help="PICTURE is a full-size photo: make it 8x smaller first"
    )
    parser.add_argument(
        "--crop",
        type=int,
        nargs=4,
        metavar=("TOP", "LEFT", "HEIGHT", "WIDTH"),
        help="box to cut out of full-size photos first, pixels",
    )
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        generator = load_generator(options.weights, device)
        low = read(options.picture, options.crop if options.downscale else None)
        if options.downscale:
            low = shrink(low, options.picture)
        guide = None
        if generator.guided:
            if options.guide is None:
                raise ValueError("these weights need --guide: another photo of the same person")
            guide = read(options.guide, options.crop)
            height, width = low.shape[0] * SCALE, low.shape[1] * SCALE
            if guide.shape[:2] != (height, width):
                raise ValueError(
                    f"{options.guide} is {guide.shape[1]}x{guide.shape[0]} (width x height), but must be {SCALE} times "
                    f"the low-resolution picture: {width}x{height}; crop or resize it"
                )
        made = generator.super_resolve(low[None], None if guide is None else guide[None])
        options.output.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(made.sr[0]).save(options.output)
    except (GwainetError, ValueError, OSError) as error:  # OSError: a file is absent or no picture
        sys.exit(f"super_resolve: {error}")
    print(f"{options.output}: {made.sr.shape[2]}x{made.sr.shape[1]} from {low.shape[1]}x{low.shape[0]}")


def read(path: Path, crop: list[int] | None = None) -> Uint8:
    """A picture as (height, width, 3) RGB, upright, cut to a box (top, left, height, width)."""
    with Image.open(path) as image:
        picture = ImageOps.exif_transpose(image).convert("RGB")
    if crop is not None:
        top, left, height, width = crop
        if min(top, left) < 0 or left + width > picture.width or top + height > picture.height:
            raise ValueError(f"{path} is {picture.width}x{picture.height}: --crop {crop} reaches outside")
        picture = picture.crop((left, top, left + width, top + height))
    return np.asarray(picture)


def shrink(picture: Uint8, path: Path) -> Uint8:
    """8x smaller, as the training pictures were made."""
    height, width = picture.shape[:2]
    if height % SCALE or width % SCALE or not height or not width:
        raise ValueError(
            f"{path} is {width}x{height} (width x height), which {SCALE} does not divide: give --crop, or a picture of "
            f"{width // SCALE * SCALE}x{height // SCALE * SCALE}"
        )
    return downscale(picture)


if __name__ == "__main__":
    main()
