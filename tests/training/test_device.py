"""The device that runtime names."""

import pytest
import torch

from gwainet.errors import ParamsError
from gwainet.params import Runtime
from gwainet.training.device import choose_device, device_facts
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
