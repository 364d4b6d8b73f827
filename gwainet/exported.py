"""Generators as ONNX files, run by ONNX Runtime: faster on a CPU than torch, and where there is no torch.

A file takes pictures and gives pictures, all uint8 RGB, channels last: `lr` (B, h, w, 3), `lru` (B, 8h, 8w, 3), which
is `lr` upscaled by Pillow's bicubic (D4), and `guide` (B, 8h, 8w, 3) for a model with a guide; `sr` and, with a guide,
`warped`, both (B, 8h, 8w, 3). B is free, h and w are the file's. Decoders are composed (`gwainet.nets.folded`).

The only module that imports onnxruntime (the extra `onnx`).
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gwainet.errors import CheckpointError, ExtraError
from gwainet.files import file_digest, staged_file
from gwainet.images import Uint8, upscale
from gwainet.nets.folded import freeze
from gwainet.nets.model import Generated, Generator, SuperResolved, check_pictures, read_generator
from gwainet.params import SCALE
from gwainet.progress import say
from gwainet.tensors import as_pictures, column, from_pictures

OPSET = 20  # the first with grid_sample as it is used here
MOST_DIFFERENT = 1e-3  # share of values that rounding may move, by one grey level
_EXTRA = "needs the extra `onnx`: pip install 'gwainet[onnx]'"
_TRIED = (1, 3)  # batches on which a file is compared with the weights


class _Pictures(nn.Module):
    """A generator from uint8 pictures to uint8 pictures."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator
        means, cpu = generator.means, torch.device("cpu")
        self.register_buffer("lr_mean", column(means.lr, cpu))
        self.register_buffer("hr_mean", column(means.hr, cpu))

    def forward(self, lr: Tensor, lru: Tensor, guide: Tensor | None = None) -> tuple[Tensor, ...]:
        lr_mean, hr_mean = self.get_buffer("lr_mean"), self.get_buffer("hr_mean")
        i_gi = None if guide is None else from_pictures(guide) - hr_mean
        made: Generated = self.generator(from_pictures(lr) - lr_mean, from_pictures(lru) - lr_mean, i_gi)
        if made.i_gw is None:
            return (as_pictures(made.i_sr),)
        return as_pictures(made.i_sr), as_pictures((made.i_gw + hr_mean) * 2 - 1)


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Let a logger say errors alone inside the block."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def export_onnx(weights: Path, out: Path, height: int | None = None, width: int | None = None) -> None:
    """Write a generator as an ONNX file, after comparing it with the weights on pictures of noise.

    Args:
        weights: weights file of kind `generator`.
        out: file to write.
        height: of the super-resolved pictures, divisible by 8; None: of the training images.
        width: likewise.

    Raises:
        CheckpointError: the weights are missing, damaged or of another kind; a side is not divisible by 8; or the file
            does not answer as the weights do.
        ExtraError: the extra `onnx` is not installed.
    """
    generator, metadata = read_generator(weights)
    height, width = height or metadata.height, width or metadata.width
    if height % SCALE or width % SCALE or min(height, width) < 3 * SCALE:
        raise CheckpointError(f"{height} x {width} cannot be: sides are multiples of 8 pixels, 24 at least")
    freeze(generator)
    names = ["lr", "lru", *(["guide"] if generator.guided else [])]
    example = tuple(torch.from_numpy(picture) for picture in _noise(2, height, width, names))
    batch = torch.export.Dim("batch", min=1, max=4096)
    try:
        import onnxscript  # noqa: F401  torch's exporter says less well what is missing
    except ImportError:
        raise ExtraError(f"export {_EXTRA}") from None
    pictures = _Pictures(generator).eval()
    with warnings.catch_warnings(), _silent("torch.onnx"), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch's exporter, about its own code
        pictures(*example)  # composes the decoders, or their composition would be exported too
        program = torch.onnx.export(
            pictures,
            example,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=names,
            output_names=["sr", *(["warped"] if generator.guided else [])],
            dynamic_shapes=tuple({0: batch} for _ in names),
        )
    assert program is not None
    program.model.metadata_props.update(
        {
            "gwainet.weights_digest": file_digest(weights),
            "gwainet.guided": str(generator.guided).lower(),
            "gwainet.height": str(height),
            "gwainet.width": str(width),
        }
    )
    program.model.producer_name = "gwainet"
    with staged_file(out) as partial:
        program.save(partial)
        _compare(OnnxGenerator(partial), generator, height, width, names)
    say(f"{out}: pictures of {height // SCALE} x {width // SCALE} to {height} x {width} (height x width), any batch")


def _noise(batch: int, height: int, width: int, names: list[str]) -> list[Uint8]:
    """Pictures for each input, the same at every call."""
    random = np.random.default_rng(batch)
    low = random.integers(0, 256, (batch, height // SCALE, width // SCALE, 3), np.uint8)
    guide = random.integers(0, 256, (batch, height, width, 3), np.uint8)
    return [low, np.stack([upscale(picture) for picture in low]), guide][: len(names)]


def _compare(exported: "OnnxGenerator", generator: Generator, height: int, width: int, names: list[str]) -> None:
    for batch in _TRIED:
        low, _, *guide = _noise(batch, height, width, names)
        expected, made = (model.super_resolve(low, *guide) for model in (generator, exported))
        for name, right, answer in zip(("sr", "warped"), expected, made, strict=True):
            if right is None:
                continue
            off = np.abs(right.astype(int) - answer)
            if off.max() > 1 or (off > 0).mean() > MOST_DIFFERENT:
                raise CheckpointError(
                    f"the exported model's `{name}` differs from that of the weights by up to {off.max()} grey levels, "
                    f"in {(off > 0).mean():.2%} of the values: another version of onnxruntime may help"
                )


class OnnxGenerator:
    """A generator in an ONNX file; `super_resolve` is as `gwainet.nets.model.Generator`'s.

    Args:
        path: of a file that `export_onnx` wrote.
        threads: of one operation; 0: all cores.

    Raises:
        CheckpointError: the file is missing, damaged or another one's.
        ExtraError: the extra `onnx` is not installed.
    """

    guide_optional = False  # a file has the inputs that it has

    def __init__(self, path: Path, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise ExtraError(f"{path} {_EXTRA}") from None
        if not path.is_file():
            raise CheckpointError(f"{path} does not exist: write it by `python -m gwainet export`")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors come as exceptions
        try:
            self._session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            facts = self._session.get_modelmeta().custom_metadata_map
            self.guided = facts["gwainet.guided"] == "true"
            self._size = int(facts["gwainet.height"]), int(facts["gwainet.width"])
        except KeyError as error:
            raise CheckpointError(f"{path} has no {error}: it was not written by `python -m gwainet export`") from None
        except Exception as error:  # onnxruntime's own errors have no common base
            raise CheckpointError(f"{path} is no ONNX file that can be run ({error}): write it again") from error

    def super_resolve(self, low: Uint8, guide: Uint8 | None = None) -> SuperResolved:
        """Pictures in, pictures out.

        Shapes: (B, h, w, 3), (B, 8h, 8w, 3) -> (B, 8h, 8w, 3).

        Raises:
            ValueError: shapes or dtypes do not fit, or a guided generator has no guide.
        """
        check_pictures(low, guide, self.guided)
        height, width = self._size
        if low.shape[1:3] != (height // SCALE, width // SCALE):
            raise ValueError(
                f"this file takes low-resolution pictures of {height // SCALE} x {width // SCALE} (height x width), "
                f"not {low.shape[1]} x {low.shape[2]}: export one for that size (--height, --width)"
            )
        inputs = {"lr": low, "lru": np.stack([upscale(picture) for picture in low])}
        if guide is not None and self.guided:
            inputs["guide"] = guide
        made = self._session.run(None, {name: np.ascontiguousarray(value) for name, value in inputs.items()})
        return SuperResolved(made[0], made[1] if self.guided else None)
