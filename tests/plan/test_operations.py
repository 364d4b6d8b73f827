"""Operations and parameters: the paper's networks by their closed forms, steps by what their passes must take."""

import pytest

from gwainet.dataset import Faces
from gwainet.nets.inet import CONVOLUTIONS
from gwainet.params import Networks, Params, check_params
from gwainet.plan.operations import Network, Step, count_networks, count_step
from gwainet.plan.rehearsal import write_noise

HEIGHT, WIDTH = 168, 144
H, W = HEIGHT // 8, WIDTH // 8


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    return write_noise(tmp_path_factory.mktemp("noise"), HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def networks(faces: Faces) -> dict[str, Network]:
    return {network.name: network for network in count_networks(Networks(), faces)}


def conv(before: int, after: int, height: int, width: int, kernel: int = 3) -> int:
    """Multiply-adds of a convolution with so many pixels of output."""
    return before * after * kernel**2 * height * width


def residual_blocks(count: int) -> int:
    return count * 2 * conv(64, 64, H, W)


def encoder(channels: int) -> int:
    """Three downscaling blocks, each a convolution at the full size and one at half of it (Table 2)."""
    total = 0
    for level, before in enumerate((channels, 64, 64)):
        height, width = HEIGHT >> level, WIDTH >> level
        total += conv(before, 64, height, width) + conv(64, 64, height // 2, width // 2)
    return total


UPSCALE = sum(conv(64, 256, H << level, W << level) for level in range(3))


def test_the_forward_of_every_network_is_the_closed_form_of_its_convolutions(networks: dict[str, Network]):
    macs = {name: network.macs for name, network in networks.items()}
    after = 2 * conv(64, 64, H, W)  # the convolution before the blocks and the one after
    assert macs["Wnet"] == encoder(6) + residual_blocks(8) + after + UPSCALE + conv(64, 2, HEIGHT, WIDTH)
    assert macs["GFEnet"] == encoder(3) + conv(64, 64, H, W) + residual_blocks(12)
    ends = conv(3, 64, H, W) + conv(64, 64, H, W) + conv(64, 3, HEIGHT, WIDTH)
    assert macs["SRnet"] == residual_blocks(16) + ends + UPSCALE
    assert macs["fusion"] == 3 * conv(128, 64, H, W)
    assert macs["generator"] == macs["Wnet"] + macs["GFEnet"] + macs["SRnet"] + macs["fusion"]
    sides = [(84, 72), (42, 36), (21, 18), (11, 9)]  # rounded up (N1)
    channels = [(3, 64), (64, 128), (128, 256), (256, 512)]
    critic = sum(conv(*c, *side, kernel=5) for c, side in zip(channels, sides, strict=True))
    assert macs["Cnet"] == critic + 11 * 9 * 512
    total, before, height, width = 0, 3, HEIGHT, WIDTH
    for count, multiple in zip(CONVOLUTIONS["vgg16"], (1, 2, 4, 8, 8), strict=True):
        for _ in range(count):
            total += conv(before, 64 * multiple, height, width)
            before = 64 * multiple
        height, width = -(-height // 2), -(-width // 2)
    assert macs["Inet"] == total + before * height * width * 4096 + 2 * 4096**2


def test_parameters_are_the_papers(networks: dict[str, Network]):
    parameters = {name: network.parameters for name, network in networks.items()}
    assert parameters["Wnet"] == 1_297_154
    assert parameters["SRnet"] == 1_665_283
    assert parameters["generator"] == 4_293_445  # as in the released graph (N15)
    assert parameters["generator"] == sum(parameters[name] for name in ("Wnet", "GFEnet", "SRnet", "fusion"))
    assert parameters["Cnet"] == 4_357_249
    assert parameters["Inet"] == 111_200_065 - 4097  # without the pair head


def params(**sections: object) -> Params:
    return check_params({"profile": "x", "networks": {"inet_layout": "table2"}, **sections})


def giga(faces: Faces, stage: str, variant: str | None = None, **settings: object) -> float:
    """FLOPs of one step in units of 1e9, for each image of its batch of 2."""
    step = count_step(stage, variant, params(**{stage: {"batch_size": 2, **settings}}), faces)
    return step.macs * 2 / 2 / 1e9


def test_the_steps_of_the_pretrainings_and_the_psnr_phase_take_what_an_independent_count_gave(faces: Faces):
    """Counted before this code was written, layer by layer: a forward and the two products of its backward."""
    assert giga(faces, "pretrain_wnet") == pytest.approx(12.46, abs=0.01)
    assert giga(faces, "train_psnr", "guided") == pytest.approx(28.76, abs=0.01)
    assert giga(faces, "pretrain_inet") == pytest.approx(2 * 38.33, abs=0.02)  # a pair is two images


def test_a_critic_update_has_the_generators_forward_and_the_gradient_of_the_penaltys_gradient(
    faces: Faces, networks: dict[str, Network]
):
    one = giga(faces, "train_adversarial", "gwanet", critic_updates=1)
    six = giga(faces, "train_adversarial", "gwanet", critic_updates=6)
    critic_update = (six - one) / 5
    critic, first = (2 * macs / 1e9 for macs in (networks["Cnet"].macs, conv(3, 64, 84, 72, kernel=5)))
    # real and fake: forward and two products backward, but no gradient of the pictures
    plain = 2 * (3 * critic - first)
    # penalty: forward, gradient of the picture; of that, two products
    penalty = 4 * critic
    expected = 2 * networks["generator"].macs / 1e9 + plain + penalty
    assert critic_update == pytest.approx(expected, rel=1e-4)  # the linear layer's double backward is shorter
    assert one - critic_update == pytest.approx(32.65, abs=0.01)  # the generator's own update
    identity = giga(faces, "train_adversarial", "gwainet", critic_updates=1) - one
    assert identity == pytest.approx(71.07 - 32.65, abs=0.02)


def test_the_updates_of_a_step_are_the_optimisers_own(faces: Faces):
    def updates(stage: str, variant: str | None) -> dict[str, int]:
        return count_step(stage, variant, params(), faces).updates

    assert updates("pretrain_inet", None) == {"inet": 1}
    assert updates("train_psnr", "banet") == {"generator": 1}
    assert updates("train_adversarial", "banet") == {"critic": 5, "generator": 1}


def test_operations_grow_as_the_batch_does(faces: Faces):
    def step(batch_size: int) -> Step:
        return count_step("train_psnr", "guided", params(train_psnr={"batch_size": batch_size}), faces)

    assert step(48).macs == 16 * step(3).macs
