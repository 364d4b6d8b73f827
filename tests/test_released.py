"""From a checkpoint's variables to the generator; the checkpoint itself: tests/tensorflow."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from gwainet.__main__ import app
from gwainet.errors import CheckpointError, ParamsError
from gwainet.nets.model import Generator, build_generator
from gwainet.params import Networks
from gwainet.released import MEANS_HR, MEANS_LR, import_checkpoint, read_checkpoint, to_generator, variable_names
from gwainet.tensors import Means
from tests.test_main import plain

MEANS = Means(lr=(0.5, 0.4, 0.3), hr=(0.5, 0.4, 0.3))
SMALL = Networks(width=4, blocks_per_group=2, warp_blocks=2, sampler="released")

Variables = dict[str, np.ndarray]


@pytest.fixture
def variables() -> Variables:
    """Of a small released graph, each with other values."""
    random = np.random.default_rng(0)
    state = Generator(SMALL, MEANS).state_dict()
    shapes = {variable: tuple(state[name].shape) for name, variable in variable_names(SMALL).items()}
    return {
        # (out, in, height, width) -> (height, width, in, out)
        variable: random.normal(size=(*shape[2:], *shape[1::-1]) if len(shape) == 4 else shape)
        for variable, shape in shapes.items()
    }


def released_names() -> set[str]:
    """Every variable of the released checkpoint, as the list of its scopes has them."""
    scopes = ["generator/conv1", "generator/conv1_g", "generator/conv_before_skip", "generator/conv_final"]
    scopes += ["warper/flow_decoder/conv1"]
    scopes += [f"warper/input_encoder/{layer}" for layer in ("conv_input_res", "conv_before_skip")]
    for number in range(1, 7):
        scopes += [f"generator/input_g_preprocessing/conv{number}", f"warper/input_encoder/conv{number}"]
    for number in range(1, 4):
        scopes += [f"generator/upsamplers/upsampler{number}", f"warper/flow_decoder/upsampler{number}"]
    blocks = [f"warper/input_encoder/resblocks/resblock{number}" for number in range(1, 9)]
    for group in (1, 2, 3, 4):
        blocks += [f"generator/resblocks/resblocks_{group}/resblock{number}" for number in range(1, 5)]
    for group in (1, 2, 3):
        blocks += [f"generator/resblocks/resblocks_{group}/resblock_g{number}" for number in range(1, 5)]
        scopes += [f"generator/resblocks/resblocks_{group}"]
    scopes += [f"{block}/conv{number}" for block in blocks for number in (1, 2)]
    return {f"{scope}/{kind}" for scope in scopes for kind in ("weight", "bias")}


def test_the_names_pair_exactly_the_200_tensors_of_the_generator_with_the_released_variables() -> None:
    names = variable_names(Networks())
    assert len(names) == 200
    assert names.keys() == Generator(Networks(), MEANS).state_dict().keys()
    assert set(names.values()) == released_names()


def test_kernels_are_transposed_and_biases_kept(variables: Variables) -> None:
    generator, ignored = to_generator(variables, SMALL, MEANS)
    assert ignored == []
    state = generator.state_dict()
    kernel = variables["generator/resblocks/resblocks_2/weight"]  # (3, 3, 8, 4)
    ours = state["gnet.srnet.fusions.1.weight"]
    for row, column, before, after in [(0, 0, 0, 0), (2, 1, 5, 3), (0, 2, 7, 1)]:
        assert ours[after, before, row, column] == np.float32(kernel[row, column, before, after])
    bias = variables["warper/flow_decoder/conv1/bias"].astype(np.float32)
    assert np.array_equal(state["wnet.conv_flow.bias"].numpy(), bias)
    assert all(tensor.dtype == torch.float32 for tensor in state.values())


def test_an_optimisers_slots_and_other_networks_are_left_out_and_named(variables: Variables) -> None:
    others = ["generator/conv1/weight/Adam_1", "warper/flow_decoder/conv1/bias/Adam", "beta1_power", "critic/fc/weight"]
    _, ignored = to_generator({**variables, **dict.fromkeys(others, np.zeros(1))}, SMALL, MEANS)
    assert sorted(ignored) == sorted(others)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator/conv1_g/bias": None}, "^missing: generator/conv1_g/bias$"),
        (
            {"generator/conv1/weight": np.zeros((3, 3, 4, 3))},
            r"^of another shape: generator/conv1/weight \(3, 3, 4, 3\), expected \(3, 3, 3, 4\)$",
        ),
        ({"generator/conv1/bias": np.zeros((4, 1))}, r"generator/conv1/bias \(4, 1\), expected \(4,\)"),
        ({"warper/input_encoder/conv7/bias": np.zeros(4)}, "^unknown: warper/input_encoder/conv7/bias$"),
        ({"generator/conv2/weight/Adam": np.zeros(4)}, "^unknown: generator/conv2/weight/Adam$"),
        ({"generator/conv1/bias": None, "generator/x": np.zeros(4)}, "^missing: .*bias; unknown: generator/x$"),
        ({f"generator/conv{number}/bias": np.zeros(4) for number in range(2, 9)}, "conv6/bias and 2 more$"),
    ],
)
def test_variables_that_are_not_the_released_graphs_are_refused_by_name(
    variables: Variables, change: dict[str, np.ndarray | None], message: str
) -> None:
    changed = {name: value for name, value in {**variables, **change}.items() if value is not None}
    with pytest.raises(CheckpointError, match=message):
        to_generator(changed, SMALL, MEANS)


def test_the_released_model_has_the_papers_sizes(variables: Variables) -> None:
    with pytest.raises(CheckpointError, match=r"missing: .*of another shape: .*expected \(3, 3, .*64\)"):
        to_generator(variables, Networks(), MEANS)


def test_another_generator_of_this_project_is_not_changed_by_the_way_there_and_back() -> None:
    generator = build_generator(SMALL, MEANS, guided=True, seed=0)
    state = generator.state_dict()
    there = {
        variable: np.moveaxis(state[name].numpy(), (0, 1), (3, 2)) if state[name].ndim == 4 else state[name].numpy()
        for name, variable in variable_names(SMALL).items()
    }
    back, _ = to_generator(there, SMALL, MEANS)
    assert all(torch.equal(tensor, state[name]) for name, tensor in back.state_dict().items())
    assert back.networks.sampler == "released"


def test_the_released_means_are_those_of_d6() -> None:
    assert MEANS_LR == (130.98, 107.00, 94.88)
    assert MEANS_HR == (130.99, 107.01, 94.90)


@pytest.mark.parametrize("wrong", [(0.5, 0.5, -0.1), (256.0, 0.0, 0.0), (float("nan"), 0.0, 0.0)])
def test_means_outside_0_to_255_are_refused(tmp_path: Path, wrong: tuple[float, float, float]) -> None:
    with pytest.raises(ParamsError, match=r"0\.\.255"):
        import_checkpoint(tmp_path / "model.ckpt", tmp_path / "w.safetensors", means_hr=wrong)


def test_without_tensorflow_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # as if it were not installed
    with pytest.raises(CheckpointError, match=r"pip install 'gwainet\[tensorflow\]'"):
        read_checkpoint(tmp_path / "model.ckpt")
    out = tmp_path / "weights.safetensors"
    done = CliRunner().invoke(app, ["import-checkpoint", str(tmp_path / "model.ckpt"), "--out", str(out)])
    assert done.exit_code == 1
    assert done.stderr.count("CheckpointError") == 1
    assert "Traceback" not in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    out = tmp_path / "absent" / "weights.safetensors"
    done = CliRunner().invoke(app, ["import-checkpoint", str(tmp_path / "model.ckpt"), "--out", str(out)])
    assert done.exit_code == 2
    assert "absent does not exist" in plain(done.stderr)
    assert list(tmp_path.iterdir()) == []
