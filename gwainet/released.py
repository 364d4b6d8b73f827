"""The authors' released weights: a TensorFlow 1 checkpoint becomes a weights file of this project (docs/paper.md, N15).

The only module that imports TensorFlow, which is needed for nothing else: `pip install 'gwainet[tensorflow]'`.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from gwainet.errors import CheckpointError, ParamsError
from gwainet.nets.gnet import GUIDE_GROUPS
from gwainet.nets.model import Generator, Metadata, save_weights
from gwainet.params import Networks, Sampler
from gwainet.progress import say
from gwainet.tensors import Means

Array = npt.NDArray[np.float32]

# of the data the released weights were trained on, RGB, 0..255 (D6)
MEANS_LR = (130.98, 107.00, 94.88)
MEANS_HR = (130.99, 107.01, 94.90)
SIZE = 256, 256  # of the training images: the checkpoint does not say, and the paper's full model had 256 x 256
SCOPES = ("generator/", "warper/")
LISTED = 5  # names in a message


def import_checkpoint(
    prefix: Path,
    out: Path,
    means_lr: tuple[float, float, float] = MEANS_LR,
    means_hr: tuple[float, float, float] = MEANS_HR,
    sampler: Sampler = "released",
) -> None:
    """Write the generator of a released checkpoint as a weights file.

    Args:
        prefix: of the checkpoint: its path without `.index` and `.data-...`.
        out: weights file.
        means_lr: subtracted from I_LR and I_LRU, RGB, 0..255 (D6).
        means_hr: subtracted from the guide, RGB, 0..255 (D6).
        sampler: rule outside the image (N9).

    Raises:
        CheckpointError: TensorFlow or the checkpoint is missing, or its variables are not the released graph's.
        ParamsError: a mean is not in 0..255.
    """
    means = Means(lr=_in_unit(means_lr), hr=_in_unit(means_hr))
    networks = Networks(sampler=sampler)
    variables = read_checkpoint(prefix)
    try:
        generator, ignored = to_generator(variables, networks, means)
    except CheckpointError as error:
        raise CheckpointError(f"{prefix} is no checkpoint of the released model: {error}") from error
    save_weights(out, generator, Metadata("generator", networks, means, *SIZE))
    say(f"{out}: {len(variables) - len(ignored)} variables of {prefix}, sampler `{sampler}`")
    if ignored:
        say(f"ignored: {_say_ignored(ignored)}")


def read_checkpoint(prefix: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Every variable of a TensorFlow checkpoint, by name.

    Raises:
        CheckpointError: TensorFlow is not installed, or the checkpoint is missing or damaged.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # its hints about CPU instructions would hide our messages
    try:
        import tensorflow as tf
    except ImportError as error:
        raise CheckpointError(
            f"reading a TensorFlow checkpoint needs TensorFlow ({error}): pip install 'gwainet[tensorflow]', or in a "
            "clone of the project pip install -e '.[tensorflow]'"
        ) from error
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        return {name: np.asarray(reader.get_tensor(name)) for name in sorted(reader.get_variable_to_shape_map())}
    except (tf.errors.OpError, ValueError, IndexError, RuntimeError) as error:  # its reader raises all of them
        raise CheckpointError(
            f"{prefix} is no readable checkpoint ({error}): give the path without `.index` and `.data-00000-of-00001`; "
            "both files must be whole and beside each other"
        ) from error


def to_generator(
    variables: Mapping[str, npt.NDArray[np.generic]], networks: Networks, means: Means
) -> tuple[Generator, list[str]]:
    """The generator with a checkpoint's values, and the names of the variables that it does not need.

    Those are whatever lies outside `generator/` and `warper/`, and below one of the generator's own variables: an
    optimiser's slots, such as `generator/conv1/weight/Adam`.

    Raises:
        CheckpointError: a variable is missing, of another shape, or unknown; lists them by their names there.
    """
    generator = Generator(networks, means)
    state = generator.state_dict()
    names = variable_names(networks)
    shapes = {variable: _released_shape(state[name]) for name, variable in names.items()}
    ignored = [name for name in variables if not name.startswith(SCOPES) or name.rpartition("/")[0] in shapes]
    problems = {
        "missing": sorted(shapes.keys() - variables.keys()),
        "of another shape": [
            f"{name} {variables[name].shape}, expected {shape}"
            for name, shape in sorted(shapes.items())
            if name in variables and variables[name].shape != shape
        ],
        "unknown": sorted(variables.keys() - shapes.keys() - set(ignored)),
    }
    if any(problems.values()):
        raise CheckpointError("; ".join(f"{what}: {_first(found)}" for what, found in problems.items() if found))
    generator.load_state_dict({name: _to_torch(variables[variable]) for name, variable in names.items()})
    return generator, ignored


def variable_names(networks: Networks) -> dict[str, str]:
    """Name of every tensor of `Generator` -> its name in the released graph."""
    # Downscale8x has a ReLU after each of its six convolutions
    layers = {
        f"{module}.{2 * index}": f"{scope}/conv{index + 1}"
        for module, scope in (
            ("wnet.encoder", "warper/input_encoder"),
            ("gnet.gfenet.encoder", "generator/input_g_preprocessing"),
        )
        for index in range(6)
    }
    layers |= {
        "wnet.conv_in": "warper/input_encoder/conv_input_res",
        "wnet.conv_before_skip": "warper/input_encoder/conv_before_skip",
        "wnet.conv_flow": "warper/flow_decoder/conv1",
        "gnet.gfenet.conv_in": "generator/conv1_g",
        "gnet.srnet.conv_in": "generator/conv1",
        "gnet.srnet.conv_before_skip": "generator/conv_before_skip",
        "gnet.srnet.conv_out": "generator/conv_final",
    }
    blocks = {
        f"wnet.blocks.{i}": f"warper/input_encoder/resblocks/resblock{i + 1}" for i in range(networks.warp_blocks)
    }
    for group in range(GUIDE_GROUPS + 1):
        scope = f"generator/resblocks/resblocks_{group + 1}"
        for i in range(networks.blocks_per_group):
            blocks[f"gnet.srnet.groups.{group}.{i}"] = f"{scope}/resblock{i + 1}"
        if group < GUIDE_GROUPS:
            layers[f"gnet.srnet.fusions.{group}"] = scope  # directly in the scope
            for i in range(networks.blocks_per_group):
                blocks[f"gnet.gfenet.groups.{group}.{i}"] = f"{scope}/resblock_g{i + 1}"
    layers |= {f"{block}.conv{n}": f"{scope}/conv{n}" for block, scope in blocks.items() for n in (1, 2)}
    layers |= {
        f"{module}.upscale.{index}.conv": f"{scope}/upsampler{index + 1}"
        for module, scope in (("wnet", "warper/flow_decoder"), ("gnet.srnet", "generator/upsamplers"))
        for index in range(3)
    }
    return {f"{layer}.{kind}": f"{scope}/{kind}" for layer, scope in layers.items() for kind in ("weight", "bias")}


def _to_torch(variable: npt.NDArray[np.generic]) -> torch.Tensor:
    """A kernel (height, width, in, out) as torch's (out, in, height, width); a bias as it is."""
    value = variable.astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(value.transpose(3, 2, 0, 1) if value.ndim == 4 else value))


def _released_shape(tensor: torch.Tensor) -> tuple[int, ...]:
    """Shape that the released graph gives one of our tensors: the inverse of `_to_torch`."""
    return tuple(tensor.permute(2, 3, 1, 0).shape if tensor.ndim == 4 else tensor.shape)


def _in_unit(means: tuple[float, float, float]) -> tuple[float, float, float]:
    """Means of 0..255 in [0, 1].

    Raises:
        ParamsError: one is not in 0..255.
    """
    if not all(0 <= mean <= 255 for mean in means):
        raise ParamsError(f"means are red, green and blue in 0..255, not {means}")
    red, green, blue = means
    return red / 255, green / 255, blue / 255


def _first(names: list[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def _say_ignored(names: list[str]) -> str:
    """Slots of an optimiser by their kinds, the rest by name."""
    slots = [name.rpartition("/")[2] for name in names if name.startswith(SCOPES)]
    said = [name for name in names if not name.startswith(SCOPES)]
    if slots:
        said.append(f"{len(slots)} slots of an optimiser ({', '.join(sorted(set(slots)))})")
    return ", ".join(said)
