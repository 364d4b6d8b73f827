"""The whole generator and its files."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gwainet.errors import CheckpointError
from gwainet.images import upscale
from gwainet.nets.model import (
    Metadata,
    build_generator,
    build_inet,
    build_wnet,
    load_generator,
    load_inet,
    load_into,
    read_weights,
    save_weights,
)
from gwainet.nets.wnet import warp
from gwainet.params import Networks
from gwainet.tensors import Means, network_inputs, to_uint8

MEANS = Means(lr=(0.4, 0.5, 0.6), hr=(0.3, 0.4, 0.5))
SMALL = Networks(width=4, blocks_per_group=1, warp_blocks=1, inet_width=1, inet_features=8)
CPU = torch.device("cpu")


def pictures(height=24, width=16, batch=2, seed=0):
    random = np.random.default_rng(seed)
    low = random.integers(0, 256, (batch, height // 8, width // 8, 3), dtype=np.uint8)
    return low, random.integers(0, 256, (batch, height, width, 3), dtype=np.uint8)


def save(tmp_path, guided=True, kind="generator"):
    generator = build_generator(SMALL, MEANS, guided, seed=1)
    path = tmp_path / "weights.safetensors"
    save_weights(path, generator, Metadata(kind, SMALL, MEANS, 24, 16, guided))
    return generator, path


def test_the_full_generator_has_the_released_graphs_parameters_and_tensors():
    generator = build_generator(Networks(), MEANS, guided=True, seed=0)
    assert sum(p.numel() for p in generator.parameters()) == 4_293_445
    assert len(generator.state_dict()) == 200


@pytest.mark.parametrize("sampler", ["paper", "border"])
def test_gnet_sees_the_guide_that_wnets_flow_has_warped(sampler):
    generator = build_generator(SMALL.model_copy(update={"sampler": sampler}), MEANS, guided=True, seed=0)
    i_lr, (i_lru, i_gi) = torch.randn(1, 3, 3, 2), torch.randn(2, 1, 3, 24, 16)
    made = generator(i_lr, i_lru, i_gi)
    assert generator.wnet is not None
    assert torch.equal(made.omega, generator.wnet(i_lru, i_gi))
    assert torch.equal(made.i_gw, warp(i_gi, made.omega, sampler))
    assert torch.equal(made.i_sr, generator.gnet(i_lr, made.i_gw))
    assert not torch.equal(made.i_gw, i_gi)


@pytest.mark.parametrize("guided", [True, False])
def test_a_file_gives_back_the_same_pictures_with_nothing_beside_it(tmp_path, guided):
    generator, path = save(tmp_path, guided)
    low, guide = pictures()
    loaded = load_generator(path, CPU)
    assert loaded.guided == guided
    assert loaded.means == MEANS
    assert np.array_equal(loaded.super_resolve(low, guide).sr, generator.super_resolve(low, guide).sr)


def test_a_generator_with_zero_flow_leaves_the_guide_as_it_is():
    networks = SMALL.model_copy(update={"zero_flow": True})
    low, guide = pictures()
    made = build_generator(networks, MEANS, guided=True, seed=0).super_resolve(low, guide)
    assert made.warped is not None
    assert np.abs(made.warped.astype(int) - guide).max() <= 1


def test_another_guide_gives_another_picture_and_the_unguided_generator_ignores_it():
    low, guide = pictures()
    other = guide[::-1].copy()
    guided = build_generator(SMALL, MEANS, guided=True, seed=0)
    assert not np.array_equal(guided.super_resolve(low, guide).sr, guided.super_resolve(low, other).sr)
    unguided = build_generator(SMALL, MEANS, guided=False, seed=0)
    assert np.array_equal(unguided.super_resolve(low, guide).sr, unguided.super_resolve(low).sr)
    assert unguided.super_resolve(low).warped is None


def test_the_seed_decides_the_weights():
    first, same, other = (build_wnet(SMALL, seed).conv_flow.weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("low", "guide", "message"),
    [
        ((2, 3, 2), (2, 24, 16, 3), "low-resolution pictures must be"),
        ((2, 3, 2, 3), (2, 24, 24, 3), r"guides must be \(2, 24, 16, 3\)"),
        ((2, 3, 2, 3), None, "needs a guide"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(low, guide, message):
    generator = build_generator(SMALL, MEANS, guided=True, seed=0)
    pictures = [None if shape is None else np.zeros(shape, np.uint8) for shape in (low, guide)]
    with pytest.raises(ValueError, match=message):
        generator.super_resolve(*pictures)  # type: ignore[arg-type]


def test_a_missing_a_damaged_a_foreign_and_a_wrong_file_each_say_what_is_wrong(tmp_path):
    _, path = save(tmp_path, kind="wnet")
    with pytest.raises(CheckpointError, match="does not exist"):
        load_generator(tmp_path / "none.safetensors", CPU)
    with pytest.raises(CheckpointError, match="kind `wnet`, not `generator`"):
        load_generator(path, CPU)
    half = tmp_path / "half.safetensors"
    half.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a complete safetensors file"):
        load_generator(half, CPU)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(1)}, foreign)
    with pytest.raises(CheckpointError, match="metadata"):
        load_generator(foreign, CPU)


def test_weights_of_other_sizes_are_refused_by_name(tmp_path):
    _, path = save(tmp_path)
    tensors, _ = read_weights(path, "generator")
    wider = build_generator(SMALL.model_copy(update={"width": 8}), MEANS, guided=True, seed=0)
    with pytest.raises(CheckpointError, match=r"of another shape: gnet\.gfenet"):
        load_into(wider, tensors, path)
    del tensors["wnet.conv_flow.bias"]
    with pytest.raises(CheckpointError, match=r"missing: wnet\.conv_flow\.bias"):
        load_into(build_generator(SMALL, MEANS, guided=True, seed=0), tensors, path)


def test_a_loaded_inet_is_frozen(tmp_path):
    inet = build_inet(SMALL, 24, 16, seed=0)
    path = tmp_path / "weights.safetensors"
    save_weights(path, inet, Metadata("inet", SMALL, MEANS, 24, 16))
    loaded = load_inet(path, CPU)
    assert not any(p.requires_grad for p in loaded.parameters())
    assert torch.equal(loaded(torch.ones(1, 3, 24, 16)), inet(torch.ones(1, 3, 24, 16)))


@pytest.mark.parametrize("guided", [True, False])
def test_with_the_image_skip_an_untrained_generator_is_bicubic(guided):
    networks = SMALL.model_copy(update={"image_skip": True})
    low, guide = pictures()
    generator = build_generator(networks, MEANS, guided, seed=0).eval()
    made = generator.super_resolve(low, guide if guided else None)
    assert np.array_equal(made.sr, np.stack([upscale(picture) for picture in low]))


def test_the_image_skip_adds_what_srnet_makes_to_bicubic(tmp_path):
    networks = SMALL.model_copy(update={"image_skip": True})
    generator = build_generator(networks, MEANS, guided=True, seed=0)
    torch.nn.init.normal_(generator.gnet.srnet.conv_out.weight, std=0.1)
    i_lr, (i_lru, i_gi) = torch.randn(1, 3, 3, 2), torch.randn(2, 1, 3, 24, 16)
    made = generator(i_lr, i_lru, i_gi)
    mean = torch.tensor(MEANS.lr).view(1, 3, 1, 1)
    assert torch.allclose(made.i_sr - generator.gnet(i_lr, made.i_gw), (i_lru + mean) * 2 - 1, atol=1e-6)
    path = tmp_path / "weights.safetensors"
    save_weights(path, generator, Metadata("generator", networks, MEANS, 24, 16))
    low, guide = pictures()
    assert np.array_equal(
        load_generator(path, CPU).super_resolve(low, guide).sr, generator.super_resolve(low, guide).sr
    )


def test_a_generator_with_an_optional_guide_answers_without_it_as_with_the_mean_colour(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(
        path,
        build_generator(SMALL, MEANS, True, seed=1, guide_optional=True),
        Metadata("generator", SMALL, MEANS, 24, 16, guide_optional=True),
    )
    generator = load_generator(path, CPU)
    low, guide = pictures()
    without = generator.super_resolve(low)
    assert without.warped is None
    inputs = network_inputs(low, MEANS, CPU)
    with torch.inference_mode():
        mean_colour = generator(**inputs, i_gi=torch.zeros_like(inputs["i_lru"]))
    assert np.array_equal(without.sr, to_uint8(mean_colour.i_sr))
    assert not np.array_equal(without.sr, generator.super_resolve(low, guide).sr)


def test_files_of_generators_that_need_their_guide_say_nothing_of_an_optional_one(tmp_path):
    _, path = save(tmp_path)
    assert b"guide_optional" not in path.read_bytes()
    assert not load_generator(path, CPU).guide_optional
    with pytest.raises(ValueError, match="guide_dropout"):
        build_generator(SMALL, MEANS, True, 0)(torch.zeros(1, 3, 3, 2), torch.zeros(1, 3, 24, 16))
