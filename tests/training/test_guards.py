"""Memory that runs out: by a limit on this process's address space, in a process of its own."""

import re
import subprocess
import sys
import weakref

import pytest
import torch

from gwainet.errors import TrainingError
from gwainet.training.guards import is_out_of_memory, largest_batch, memory_explained
from gwainet.training.sampling import BatchSampler
from tests.faces import write_faces

CPU = torch.device("cpu")
MB = 2**20


class Sampler(BatchSampler):
    """Has a size of batch and nothing else."""

    def __init__(self, batch_size):
        self.batch_size = batch_size


class Eater:
    """A step that keeps so many bytes an image for its backward, and says how often it was made."""

    def __init__(self, sampler, each):
        self.sampler, self.each, self.weight = sampler, each, torch.ones(1, requires_grad=True)
        self.batches = []

    def step(self):
        self.batches.append(self.sampler.batch_size)
        x = self.weight * torch.ones(self.sampler.batch_size, self.each // 4)
        (x * x).sum().backward()


def test_the_largest_batch_is_what_the_memory_holds_of_one_images_share(monkeypatch):
    sampler = Sampler(64)
    eater = Eater(sampler, 4 * MB)
    monkeypatch.setattr("gwainet.training.guards.available", lambda _device: 200 * MB)
    fits = largest_batch([sampler], eater.step, CPU)
    assert eater.batches == [1, 2]
    assert sampler.batch_size == 64  # as it was
    assert fits is not None
    # x is kept, and what it is made of; the estimate may be careful, not bold
    assert 8 <= fits <= 200 // 4


def test_an_error_that_is_not_of_memory_passes_unchanged():
    with pytest.raises(RuntimeError, match="shape mismatch"), memory_explained([Sampler(4)], int, CPU, ""):
        raise RuntimeError("shape mismatch")
    assert not is_out_of_memory(ValueError("DefaultCPUAllocator: can't allocate memory"))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))


def test_where_not_even_one_image_fits_the_message_says_so():
    def step():
        raise MemoryError("no room")

    with pytest.raises(TrainingError, match=r"no room.*smaller faces"), memory_explained([Sampler(4)], step, CPU, ""):
        step()


@pytest.mark.parametrize(("batch", "advice"), [(2, "about 1 would fit"), (1, "use smaller faces or networks")])
def test_advice_is_below_the_batch_that_did_not_fit(batch, advice):
    sampler = Sampler(batch)

    def step():
        if sampler.batch_size > 1:
            raise MemoryError("no room")

    with pytest.raises(TrainingError, match=advice), memory_explained([sampler], step, CPU, ""):
        raise MemoryError("no room")


def test_while_it_is_measured_the_failed_steps_tensors_are_gone(monkeypatch):
    kept: list[weakref.ref[torch.Tensor]] = []

    def failing():
        tensor = torch.ones(8)
        kept.append(weakref.ref(tensor))
        raise MemoryError("no room")

    def measured(*_):
        assert kept[0]() is None
        return 3

    monkeypatch.setattr("gwainet.training.guards.largest_batch", measured)
    with pytest.raises(TrainingError, match="about 3 would fit"), memory_explained([Sampler(9)], int, CPU, ""):
        failing()


def test_of_several_processes_none_makes_a_step_to_measure(monkeypatch):
    monkeypatch.setattr("gwainet.training.guards.distributed.size", lambda: 2)
    monkeypatch.setattr("gwainet.training.guards.largest_batch", None)
    with (
        pytest.raises(TrainingError, match=r"batch of 8, 4 of it here \(no room\): lower batch_size"),
        memory_explained([Sampler(8)], int, CPU, ""),
    ):
        raise MemoryError("no room")


SCRIPT = """
import resource
import sys
from pathlib import Path

import psutil
import torch

from gwainet.dataset import Faces
from gwainet.nets.model import build_generator
from gwainet.params import Networks, TrainPsnr
from gwainet.recorder import NullRecorder
from gwainet.training.checkpoint import Checkpoints
from gwainet.training.loop import Plan, fit
from gwainet.training.phases import PsnrPhase

torch.set_num_threads(1)
folder, batch = Path(sys.argv[1]), int(sys.argv[2])
cpu = torch.device("cpu")
faces = Faces(folder / "faces")
networks = Networks(width=8, blocks_per_group=1, warp_blocks=1)
settings = TrainPsnr(batch_size=batch, epochs=1000.0, validation_faces=2)
phase = PsnrPhase(build_generator(networks, faces.means, True, 0), faces, settings, cpu)
limit = psutil.Process().memory_info().vms + 500 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
fit(phase, Plan("train_psnr", 2, 100), Checkpoints(folder / "checkpoints", "x", {}), NullRecorder(), cpu)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
def test_a_batch_that_is_too_large_names_one_that_trains(tmp_path):
    write_faces(tmp_path / "faces", identities=10, images=3, height=168, width=144)

    def train(batch):
        command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(batch)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    refused = train(512)
    assert refused.returncode == 1
    said = re.search(
        r"TrainingError: train_psnr: out of memory on cpu with a batch of 512 .*about (\d+) would fit", refused.stderr
    )
    assert said is not None, refused.stderr[-2000:]
    assert 1 <= int(said[1]) < 512
    fitting = train(int(said[1]))
    assert fitting.returncode == 0, fitting.stderr[-2000:]
