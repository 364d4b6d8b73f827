"""Validation while training: which faces, PSNR, gains over bicubic, and the picture of fixed faces."""

import itertools
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image

from gwainet import images
from gwainet.dataset import Faces, Rows
from gwainet.nets.model import SuperResolver
from gwainet.params import Training
from gwainet.psnr import psnr
from gwainet.tensors import column, to_uint8
from gwainet.training import distributed
from gwainet.training.pictures import sample_rows, sheet

VALIDATION_BATCH = 16  # pictures; bounds memory, changes nothing

R = TypeVar("R")


def validation_rows(faces: Faces, settings: Training) -> Rows:
    """The validation targets used while training: all, or evenly spread ones, so that many identities take part."""
    rows = faces.targets("validation")
    if len(rows) <= settings.validation_faces:
        return rows
    return rows[np.linspace(0, len(rows) - 1, settings.validation_faces).round().astype(np.int64)]


def over_batches(work: Callable[[slice], R], count: int) -> list[R]:
    """`work` of each batch of `count` validation pictures, in order; several processes share them out."""
    batches = [slice(start, min(start + VALIDATION_BATCH, count)) for start in range(0, count, VALIDATION_BATCH)]
    return distributed.gather([work(batch) for batch in distributed.own(batches)], len(batches))


def mean_psnr(generator: SuperResolver, faces: Faces, rows: Rows) -> float:
    """Mean over the images of PSNR in dB, with the fixed guides (M1)."""
    return float(np.mean(image_psnr(generator, faces, rows)))


def image_psnr(generator: SuperResolver, faces: Faces, rows: Rows) -> npt.NDArray[np.float64]:
    """PSNR of each image in dB, with the fixed guides; several processes share them out. Shapes: (N,) -> (N,)."""

    def measure(batch: slice) -> list[float]:
        part = rows[batch]
        made = generator.super_resolve(faces.lr[part], faces.hr[faces.guide_row[part]])
        return [psnr(sr, gt) for sr, gt in zip(made.sr, faces.hr[part], strict=True)]

    return np.array(list(itertools.chain(*over_batches(measure, len(rows)))))


def gains_over_bicubic(generator: SuperResolver, faces: Faces, rows: Rows) -> pd.DataFrame:
    """A line a face: `row`, `identity`, `bicubic` and `psnr` in dB, `gain`, by which the second is higher."""
    bicubic = np.array([psnr(images.upscale(faces.lr[row]), faces.hr[row]) for row in rows])
    model = image_psnr(generator, faces, rows)
    identity = faces.manifest["identity"].to_numpy()[rows]
    return pd.DataFrame({"row": rows, "identity": identity, "bicubic": bicubic, "psnr": model, "gain": model - bicubic})


@torch.inference_mode()
def sample_sheet(generator: SuperResolver, faces: Faces, rows: Rows) -> Image.Image:
    """Fixed validation faces and what the generator makes of them; without a guide: LR, SR, ground truth and error."""
    rows = sample_rows(rows)
    batch = faces.batch(rows, faces.guide_row[rows], next(generator.parameters()).device)
    made = generator(batch.i_lr, batch.i_lru, batch.i_gi)
    sr = to_uint8(made.i_sr)
    if made.i_gw is None:
        return sheet(faces, rows, sr=sr)
    warped = to_uint8((made.i_gw + column(faces.means.hr, made.i_gw.device)) * 2 - 1)
    return sheet(faces, rows, sr=sr, warped=warped, omega=made.omega)
