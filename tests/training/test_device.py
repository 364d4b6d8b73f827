"""The device that runtime names."""

import pytest
import torch
from torch import nn

from gwainet.errors import ParamsError
from gwainet.nets.folded import FoldedDecoder
from gwainet.nets.wnet import Wnet
from gwainet.params import Runtime
from gwainet.training.device import choose_device, device_facts, fold_for_training
from gwainet.workers import cores


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_cpu_uses_all_cores_or_the_threads_given():
    assert choose_device(Runtime(device="cpu")) == torch.device("cpu")
    assert torch.get_num_threads() == cores()
    choose_device(Runtime(device="cpu", threads=1))
    assert device_facts(torch.device("cpu"))["device.threads"] == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_without_a_device_says_what_to_do_and_auto_takes_the_cpu():
    with pytest.raises(ParamsError, match="no usable CUDA device: use auto or cpu"):
        choose_device(Runtime(device="cuda"))
    assert choose_device(Runtime(device="auto")).type == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_auto_takes_the_gpu():
    device = choose_device(Runtime())
    assert device.type == "cuda"
    assert device_facts(device)["device.name"]


@pytest.mark.parametrize(
    ("mode", "device", "composed"),
    [("auto", "cpu", True), ("auto", "cuda", False), ("on", "cuda", True), ("off", "cpu", False)],
)
def test_decoders_are_composed_where_that_was_measured_or_where_it_is_asked_for(mode, device, composed):
    wnet = Wnet(4, 1)
    fold_for_training([nn.ModuleList([wnet])], Runtime(fold=mode), torch.device(device))
    assert isinstance(wnet.decode, FoldedDecoder) == composed


def test_a_training_with_composed_decoders_takes_the_plain_ones_course():
    losses: dict[str, list[float]] = {}
    for mode in ("on", "off"):
        torch.manual_seed(0)
        wnet = Wnet(4, 1)
        optimiser = torch.optim.Adam(wnet.parameters(), lr=1e-3)
        fold_for_training([wnet], Runtime(fold=mode), torch.device("cpu"))
        low, guide = torch.randn(2, 2, 3, 32, 40)
        losses[mode] = []
        for _ in range(5):
            loss = wnet(low, guide).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses[mode].append(loss.item())
    assert losses["on"] == pytest.approx(losses["off"], rel=1e-5)
    assert losses["on"] != losses["off"]  # the rounding tells that two forms were compared
