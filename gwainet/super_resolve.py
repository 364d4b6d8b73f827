"""Pictures in files: a low-resolution face and a guide in, the super-resolved face out."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from gwainet.errors import ParamsError, SourceError
from gwainet.exported import OnnxGenerator
from gwainet.files import staged_file
from gwainet.images import DAMAGE, Uint8, downscale
from gwainet.nets.folded import ONCE
from gwainet.nets.model import Generator, load_generator
from gwainet.params import SCALE, Runtime
from gwainet.progress import say
from gwainet.training.device import choose_device


def super_resolve_files(
    low: Path,
    guide: Path | None,
    *,
    weights: Path,
    out: Path,
    warped_out: Path | None = None,
    shrink: bool = False,
    runtime: Runtime,
) -> None:
    """Super-resolve a face, 8x, by the means and the sampler that the weights file names.

    Args:
        low: low-resolution face, h x w pixels, any h and w; with `shrink` a photo of 8h x 8w pixels.
        guide: another photo of the same person, 8h x 8w pixels; None for weights that take none, or need none
            (`guide_dropout`).
        weights: weights file of kind `generator`, or an ONNX file that was made of one.
        out: picture to write; its suffix says in which format.
        warped_out: likewise, for the warped guide.
        shrink: make the low-resolution face of `low`, as the training faces were made (D4).
        runtime: device and threads.

    Raises:
        CheckpointError: the weights are missing, damaged or of another kind.
        ParamsError: the device is not there.
        ExtraError: the extra `onnx` is needed and not installed.
        SourceError: a picture is unreadable, or its size or the want of a guide does not fit the weights.
    """
    i_lr = _read(low)
    if shrink:
        i_lr = _shrunk(i_lr, low)
    generator = _load(weights, i_lr, runtime)
    i_gi = None
    if generator.guided and guide is None and generator.guide_optional:
        if warped_out is not None:
            raise SourceError("without a guide there is no warped one: give a guide, or leave the warped guide out")
    elif generator.guided:
        i_gi = _read_guide(guide, weights, i_lr)[None]
    elif guide is not None or warped_out is not None:
        raise SourceError(f"{weights} takes no guide: leave the guide and the warped guide out")
    try:
        made = generator.super_resolve(i_lr[None], i_gi)
    except ValueError as error:  # an ONNX file is for one size
        raise SourceError(f"{weights}: {error}") from None
    _write(made.sr[0], out)
    if warped_out is not None and made.warped is not None:
        _write(made.warped[0], warped_out)


def _load(weights: Path, i_lr: Uint8, runtime: Runtime) -> Generator | OnnxGenerator:
    """The generator of a weights file or of an ONNX file."""
    if weights.suffix.lower() == ".onnx":
        if runtime.device == "cuda":
            raise ParamsError(f"{weights} runs on the CPU: leave --device out, or give the weights file")
        return OnnxGenerator(weights, runtime.threads)
    # a single face costs less than composing the decoders for it
    folded = runtime.fold == "on" or (runtime.fold == "auto" and i_lr.shape[0] * i_lr.shape[1] >= ONCE)
    return load_generator(weights, choose_device(runtime), folded)


def _read(path: Path) -> Uint8:
    """A picture as (height, width, 3) RGB, upright."""
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise SourceError(f"{path} is no readable picture ({error}): give a whole JPEG, PNG, WebP or BMP") from error


def _shrunk(photo: Uint8, path: Path) -> Uint8:
    """8x smaller. Shapes: (8h, 8w, 3) -> (h, w, 3)."""
    height, width = photo.shape[:2]
    if height % SCALE or width % SCALE:
        fitting = f"{height // SCALE * SCALE} x {width // SCALE * SCALE}"
        raise SourceError(
            f"{path} is {height} x {width} (height x width), which {SCALE} does not divide: crop it to {fitting}"
        )
    return downscale(photo)


def _read_guide(guide: Path | None, weights: Path, i_lr: Uint8) -> Uint8:
    """The guide, 8 times the size of `i_lr`."""
    if guide is None:
        raise SourceError(f"{weights} needs a guide: another photo of the same person, after the low-resolution face")
    picture = _read(guide)
    height, width = i_lr.shape[:2]
    wanted = (height * SCALE, width * SCALE)
    if picture.shape[:2] != wanted:
        raise SourceError(
            f"{guide} is {picture.shape[0]} x {picture.shape[1]} (height x width), but the guide of a low-resolution "
            f"face of {height} x {width} is {wanted[0]} x {wanted[1]}: crop or resize it, or give --downscale if the "
            "first picture is a full-size photo"
        )
    return picture


def _write(picture: Uint8, path: Path) -> None:
    """A picture in the format of its path's suffix."""
    with staged_file(path) as partial:
        Image.fromarray(picture).save(partial, Image.registered_extensions()[path.suffix.lower()])
    say(f"{path}: {picture.shape[0]} x {picture.shape[1]} (height x width)")
