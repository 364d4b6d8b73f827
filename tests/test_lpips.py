"""LPIPS with random weights: a reference written out, invariants, and files that do not fit."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from gwainet.errors import CheckpointError
from gwainet.lpips import SMALLEST_SIDE, load_lpips

CPU = torch.device("cpu")
SHAPES = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


@pytest.fixture(scope="module")
def published():
    """Random weights under the published names: AlexNet's of torchvision, and the linear layers'."""
    torch.manual_seed(0)
    alexnet = {"classifier.1.weight": torch.zeros(2, 2)}
    for index, (after, before, kernel) in SHAPES.items():
        alexnet[f"features.{index}.weight"] = torch.randn(after, before, kernel, kernel) / (before * kernel**2) ** 0.5
        alexnet[f"features.{index}.bias"] = torch.randn(after) * 0.1
    linear = {f"lin{place}.model.1.weight": torch.rand(1, SHAPES[i][0], 1, 1) for place, i in enumerate(SHAPES)}
    return alexnet, linear


@pytest.fixture(scope="module")
def files(published, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name, tensors in zip(("alexnet.pth", "alex.pth"), published, strict=True):
        torch.save(tensors, folder / name)
    return [folder / "alexnet.pth", folder / "alex.pth"]


@pytest.fixture(scope="module")
def network(files):
    return load_lpips(files, CPU)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (2, 3, 40, 48, 3), dtype=np.uint8)


def reference(published, a, b):
    """LPIPS of two uint8 pictures, a layer and a place after the other."""
    alexnet, linear = published

    def features(picture):
        x = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1) / 127.5 - 1
        x = torch.stack([(x[0] + 0.030) / 0.458, (x[1] + 0.088) / 0.448, (x[2] + 0.188) / 0.450])[None]
        found = []
        for index, (stride, padding, pooled) in zip(
            SHAPES, ((4, 2, 0), (1, 2, 1), (1, 1, 1), (1, 1, 0), (1, 1, 0)), strict=True
        ):
            if pooled:
                x = F.max_pool2d(x, kernel_size=3, stride=2)
            x = F.conv2d(x, alexnet[f"features.{index}.weight"], alexnet[f"features.{index}.bias"], stride, padding)
            x = x.clamp(min=0)
            found.append(x[0].double().numpy())
        return found

    total = 0.0
    for place, (one, other) in enumerate(zip(features(a), features(b), strict=True)):
        weight = linear[f"lin{place}.model.1.weight"].flatten().double().numpy()
        _, height, width = one.shape
        for y in range(height):
            for x in range(width):
                u, v = one[:, y, x], other[:, y, x]
                u, v = u / (np.sqrt((u**2).sum()) + 1e-10), v / (np.sqrt((v**2).sum()) + 1e-10)
                total += (weight * (u - v) ** 2).sum() / (height * width)
    return total


def test_the_distance_is_the_reference_written_out(network, published, pictures):
    found = network.of_pictures(*pictures)
    expected = [reference(published, a, b) for a, b in zip(*pictures, strict=True)]
    assert found == pytest.approx(expected, rel=1e-4)
    assert len(set(found)) == 3


def test_a_picture_is_at_0_of_itself_both_ways_are_equal_and_more_noise_is_farther(network, pictures):
    a, b = pictures
    assert network.of_pictures(a, a) == [0.0, 0.0, 0.0]
    assert network.of_pictures(a, b) == pytest.approx(network.of_pictures(b, a), rel=1e-6)
    grey = np.full((1, 64, 64, 3), 128, np.uint8)
    noise = np.random.default_rng(1).integers(-100, 100, grey.shape)
    near, far = ((grey + share * noise).astype(np.uint8) for share in (0.1, 1.0))
    assert 0 < network.of_pictures(grey, near)[0] < network.of_pictures(grey, far)[0]


def test_a_batch_counts_each_pair_alone(network, pictures):
    a, b = pictures
    alone = [network.of_pictures(a[i : i + 1], b[i : i + 1])[0] for i in range(3)]
    assert network.of_pictures(a, b) == pytest.approx(alone, rel=1e-5)


def test_the_smallest_side_is_the_smallest(network):
    for side in (SMALLEST_SIDE, SMALLEST_SIDE - 1):
        picture = np.zeros((1, side, 64, 3), np.uint8)
        if side == SMALLEST_SIDE:
            assert network.of_pictures(picture, picture) == [0.0]
        else:
            with pytest.raises(RuntimeError):
                network.of_pictures(picture, picture)


def test_one_file_of_the_package_gives_the_same_network(published, network, pictures, tmp_path):
    alexnet, linear = published
    own = {"scaling_layer.shift": torch.zeros(1), **linear}
    for place, index in enumerate(SHAPES):
        for kind in ("weight", "bias"):
            own[f"net.slice{place + 1}.{index}.{kind}"] = alexnet[f"features.{index}.{kind}"]
    torch.save(own, tmp_path / "lpips.pt")
    save_file(own, tmp_path / "lpips.safetensors")
    for name in ("lpips.pt", "lpips.safetensors"):
        assert load_lpips([tmp_path / name], CPU).of_pictures(*pictures) == network.of_pictures(*pictures)


def test_weights_stay_as_they_are(network):
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_files_that_do_not_fit_are_named_with_what_is_missing(published, files, tmp_path):
    alexnet, linear = published
    with pytest.raises(CheckpointError, match=r"no lin0\.model\.1\.weight or lins\.0.*alex\.pth"):
        load_lpips(files[:1], CPU)
    with pytest.raises(CheckpointError, match=r"no features\.0\.weight or net\.slice1\.0\.weight"):
        load_lpips(files[1:], CPU)
    with pytest.raises(CheckpointError, match=r"absent\.pth does not exist"):
        load_lpips([tmp_path / "absent.pth"], CPU)
    torch.save({**alexnet, **linear, "features.3.weight": torch.zeros(192, 64, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"features\.1\.weight is \(192, 64, 3, 3\).*another network"):
        load_lpips([tmp_path / "other.pth"], CPU)
    torch.save({**alexnet, **linear, "features.0.bias": torch.full((64,), torch.nan)}, tmp_path / "nan.pth")
    with pytest.raises(CheckpointError, match="not finite"):
        load_lpips([tmp_path / "nan.pth"], CPU)


@pytest.mark.parametrize("name", ["text.pth", "text.safetensors"])
def test_what_is_no_file_of_weights_is_said_so(tmp_path, name):
    (tmp_path / name).write_text("no weights")
    with pytest.raises(CheckpointError, match="no file of weights"):
        load_lpips([tmp_path / name], CPU)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="no names with tensors"):
        load_lpips([tmp_path / "list.pth"], CPU)
