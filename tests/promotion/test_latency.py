import torch

from gwainet.nets.model import build_generator
from gwainet.params import Networks
from gwainet.promotion.latency import WARM_UP, seconds_per_image
from tests.tracking.models import MEANS


def test_models_answer_in_turn_and_the_larger_takes_longer():
    torch.set_num_threads(1)
    sizes = {"small": Networks(width=4, blocks_per_group=1, warp_blocks=1), "large": Networks(width=64)}
    asked: list[str] = []
    generators = {name: build_generator(networks, MEANS, True, 0).eval() for name, networks in sizes.items()}
    for name, generator in generators.items():
        generator.register_forward_hook(lambda *_, name=name: asked.append(name))
    seconds = seconds_per_image(generators, 48, 40, rounds=4)
    assert 0 < seconds["small"] < seconds["large"]
    turns = WARM_UP + 4
    assert asked == (["large", "small", "small", "large"] * turns)[: 2 * turns]  # neither is always the first


def test_a_model_without_a_guide_is_measured_too():
    networks = Networks(width=4, blocks_per_group=1, warp_blocks=1)
    models = {"guided": build_generator(networks, MEANS, True, 0), "banet": build_generator(networks, MEANS, False, 0)}
    assert set(seconds_per_image(models, 16, 16, rounds=1)) == {"guided", "banet"}
