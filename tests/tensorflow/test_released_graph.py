"""The importer against the released graph itself, run by TensorFlow (`make test-tensorflow`)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from gwainet.__main__ import app
from gwainet.errors import CheckpointError
from gwainet.images import upscale
from gwainet.nets.model import Generator, load_generator
from gwainet.nets.wnet import sampling_grid
from gwainet.released import read_checkpoint

pytest.importorskip("tensorflow", reason="needs TensorFlow: make test-tensorflow")
from tests.tensorflow.released_graph import ReleasedGraph

pytestmark = pytest.mark.tensorflow

MEANS_LR, MEANS_HR = np.array((130.98, 107.00, 94.88)) / 255, np.array((130.99, 107.01, 94.90)) / 255
# grid units: further from the rim of the image than the two flows ever differ
RIM = 1e-5
MOST_AT_THE_RIM = 4  # pixels


@pytest.fixture(scope="module")
def graph() -> ReleasedGraph:
    return ReleasedGraph(seed=0)


@pytest.fixture(scope="module")
def prefix(graph: ReleasedGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("released") / "model.ckpt"
    graph.save(str(path))
    return path


@pytest.fixture(scope="module")
def weights(prefix: Path) -> Path:
    out = prefix.with_name("weights.safetensors")
    done = CliRunner().invoke(app, ["import-checkpoint", str(prefix), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "200 variables" in done.stderr
    assert "ignored: beta1_power, beta2_power, global_step, 400 slots of an optimiser (Adam, Adam_1)" in done.stderr
    return out


@pytest.fixture(scope="module")
def generator(weights: Path) -> Generator:
    return load_generator(weights, torch.device("cpu"))


def pictures(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A low-resolution face and a guide, smooth as photos are: (1, h, w, 3), (1, 8h, 8w, 3) uint8."""
    random = np.random.default_rng(height)
    low = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    coarse = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return low[None], upscale(coarse)[None]


def inputs(low: np.ndarray, guide: np.ndarray) -> list[np.ndarray]:
    """I_LR, I_LRU and I_GI of the released graph (Sec. 4.2), channels last."""
    upscaled = np.asarray(Image.fromarray(low[0]).resize(guide.shape[2:0:-1], Image.Resampling.BICUBIC))[None]
    pairs = (low, MEANS_LR), (upscaled, MEANS_LR), (guide, MEANS_HR)
    return [(picture / 255 - mean).astype(np.float32) for picture, mean in pairs]


def channels_first(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def inside(rho: torch.Tensor) -> torch.Tensor:
    """Where the released sampler does not give 0 (N9). Shapes: (B, H, W, 2) -> (B, H, W)."""
    return ((rho >= -1) & (rho < 1)).all(dim=-1)


@pytest.mark.parametrize(("height", "width"), [(256, 256), (168, 144)])
@torch.inference_mode()
def test_the_imported_generator_gives_the_released_graphs_flow_and_pictures(
    graph: ReleasedGraph, generator: Generator, height: int, width: int
) -> None:
    fed = inputs(*pictures(height, width))
    omega, i_gw, i_sr = (channels_first(part) for part in graph(*fed))
    made = generator(*(channels_first(part) for part in fed))
    # the comparison means something: the flow reaches outside, the guide is seen, the pictures fill [-1, 1]
    rho = sampling_grid(omega)
    assert 0.05 < 1 - inside(rho).float().mean() < 0.5
    assert 0.1 < i_sr.std() < 1

    flow_difference = (made.omega - omega).abs().max().item()
    assert flow_difference < RIM

    # Two flows that differ by 1e-6 may lie on two sides of the rim, where the released sampler jumps to 0. Such a pixel
    # is right on either side; it is counted, shown to lie at the rim, and made equal before the outputs are compared.
    rims = (rho.abs() - 1).abs().amin(dim=-1) < RIM  # (B, H, W)
    warp_differences = (made.i_gw - i_gw).abs().amax(dim=1)
    flipped = rims & (warp_differences > 1e-3)
    assert flipped.sum() <= MOST_AT_THE_RIM
    warp_difference = warp_differences[~flipped].max().item()
    assert warp_difference < 1e-3

    same = torch.where(flipped.unsqueeze(1), i_gw, made.i_gw)
    i_lr = channels_first(fed[0])
    output_difference = (generator.gnet(i_lr, same) - i_sr).abs().max().item()
    print(
        f"\n{height}x{width}: largest difference of the flow {flow_difference:.1e}, of the warped guide "
        f"{warp_difference:.1e}, of the output {output_difference:.1e} (std {i_sr.std():.2f}); "
        f"{rims.sum()} pixels at the rim, {flipped.sum()} flipped; {1 - inside(rho).float().mean():.0%} outside"
    )
    assert output_difference < 1e-4
    if not flipped.any():
        assert (made.i_sr - i_sr).abs().max() < 1e-4  # nothing was made equal: the whole generator at once


def test_all_200_tensors_are_used_on_both_sides(graph: ReleasedGraph, generator: Generator) -> None:
    assert len(graph.variables) == 200
    assert all(gradient is not None for gradient in graph.gradients)
    assert len(generator.state_dict()) == 200
    made = generator(*(channels_first(part) for part in inputs(*pictures(32, 24))))
    gradients = torch.autograd.grad(made.i_sr.square().sum(), list(generator.parameters()))
    assert all(gradient.any() for gradient in gradients)
    # each of them is one variable of the checkpoint: no two are alike, and none is left over
    ours = sorted(tensor.double().sum().item() for tensor in generator.state_dict().values())
    theirs = sorted(value.astype(np.float64).sum() for value in graph.variables.values())
    assert np.allclose(ours, theirs, rtol=0, atol=1e-9)


def test_the_command_writes_the_released_graphs_picture(graph: ReleasedGraph, weights: Path) -> None:
    low, guide = pictures(168, 144)
    folder = weights.parent
    for name, picture in (("low", low), ("guide", guide)):
        Image.fromarray(picture[0]).save(folder / f"{name}.png")
    arguments = [folder / "low.png", folder / "guide.png", "--weights", weights, "--out", folder / "sr.png"]
    done = CliRunner().invoke(app, ["super-resolve", *map(str, arguments), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    *_, i_sr = graph(*inputs(low, guide))
    expected = np.clip(np.round((i_sr[0] + 1) * 127.5), 0, 255)
    # a difference of 1e-6 may round to the next level
    assert np.abs(np.asarray(Image.open(folder / "sr.png")) - expected).max() <= 1


def test_a_missing_and_a_damaged_checkpoint_are_refused(prefix: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.ckpt is no readable checkpoint .*without `.index`"):
        read_checkpoint(tmp_path / "absent.ckpt")
    with pytest.raises(CheckpointError, match="no readable checkpoint"):
        read_checkpoint(tmp_path)  # a folder without a checkpoint
    files = {path.suffix: path for path in prefix.parent.glob("model.ckpt.*")}
    data, index = next(path for suffix, path in files.items() if suffix.startswith(".data")), files[".index"]
    for damage in ("no data", "half the data", "half the index", "changed data"):
        copy = tmp_path / damage
        copy.mkdir()
        content = data.read_bytes()
        (copy / index.name).write_bytes(index.read_bytes()[: 100 if damage == "half the index" else None])
        if damage == "half the data":
            content = content[: len(content) // 2]
        if damage == "changed data":
            content = content[:1000] + bytes(64) + content[1064:]
        if damage != "no data":
            (copy / data.name).write_bytes(content)
        with pytest.raises(CheckpointError, match="no readable checkpoint"):
            read_checkpoint(copy / "model.ckpt")
