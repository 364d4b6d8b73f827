"""Engines change how a step is computed, not what it is."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gwainet.dataset import Faces
from gwainet.errors import ParamsError
from gwainet.nets.folded import fold
from gwainet.nets.wnet import Wnet, sampling_grid
from gwainet.params import Runtime
from gwainet.training.engine import PLAIN, Engine, choose_engine, take_up
from gwainet.training.feeds import bytes_of
from gwainet.training.phases import AdversarialPhase, PsnrPhase, TrainingPhase
from gwainet.training.rates import set_rates
from gwainet.training.sampling import BatchSampler
from tests.faces import write_faces
from tests.training.made import PHASES, make_phase

CPU = torch.device("cpu")
STEPS = 4


@pytest.fixture(scope="module", name="faces")
def _faces(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    return Faces(write_faces(tmp_path_factory.mktemp("faces") / "faces", identities=10, images=3))


def trained(
    phase: TrainingPhase, engine: Engine, steps: int = STEPS
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """Losses of every step, and the weights after the last."""
    if getattr(phase, "engine", None) is not engine:
        phase.use(engine)
    rows = [{name: value.item() for name, value in phase.step(step).items()} for step in range(steps)]
    return rows, torch.nn.ModuleDict(phase.modules).state_dict()


@pytest.mark.parametrize("data", ["device", "ahead"])
@pytest.mark.parametrize("name", PHASES)
def test_where_the_data_lie_changes_no_bit_of_a_training(faces: Faces, name: str, data: Any):
    plain = trained(make_phase(name, faces, CPU), PLAIN)
    made = trained(make_phase(name, faces, CPU), Engine(data=data))
    assert made[0] == plain[0]
    assert all(torch.equal(made[1][key], value) for key, value in plain[1].items())


@pytest.mark.parametrize("data", ["host", "device"])
def test_critic_batches_answered_at_once_are_those_answered_one_by_one(faces: Faces, data: Any):
    plain = trained(make_phase("adversarial", faces, CPU), PLAIN)
    made = trained(make_phase("adversarial", faces, CPU), Engine(data=data, joint=True))
    for row, expected in zip(made[0], plain[0], strict=True):
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", PHASES)
def test_channels_last_changes_rounding_alone(faces: Faces, name: str):
    plain = trained(make_phase(name, faces, CPU), PLAIN)
    made = trained(make_phase(name, faces, CPU), Engine(channels_last=True))
    for row, expected in zip(made[0], plain[0], strict=True):
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", PHASES)
def test_bfloat16_takes_nearly_the_same_first_step_and_leaves_weights_and_losses_float32(faces: Faces, name: str):
    phases = make_phase(name, faces, CPU), make_phase(name, faces, CPU)
    plain, _ = trained(phases[0], PLAIN, steps=1)
    phases[1].use(Engine(precision="bfloat16"))
    made = phases[1].step(0)
    assert {value.dtype for value in made.values()} == {torch.float32}
    assert {value.dtype for module in phases[1].modules.values() for value in module.parameters()} == {torch.float32}
    values = {key: value.item() for key, value in made.items()}
    assert values != plain[0]  # it was bfloat16
    # the losses of random networks; sums of large cancelling parts (the critic's margin) have an absolute error
    assert values == pytest.approx(plain[0], rel=0.03, abs=0.01)


@pytest.mark.parametrize("composed", [False, True])
def test_under_bfloat16_the_flow_is_float32_and_rounds_no_coordinate(composed: bool):
    torch.manual_seed(0)
    wnet = Wnet(8, 1)
    if composed:
        fold(wnet, live=(0, 0))
    low, guide = torch.randn(2, 1, 3, 168, 144)
    with torch.autocast("cpu", torch.bfloat16):
        omega = wnet(low, guide)
    assert omega.dtype == torch.float32
    # neighbours of bfloat16 near the border are half a pixel apart: float32 resolves far less than that
    rounded = sampling_grid(omega).to(torch.bfloat16).float()
    assert ((sampling_grid(omega) - rounded).abs()[..., 0] * 143 / 2).max() > 0.1
    assert sampling_grid(omega).unique().numel() > 40_000


def test_the_penalty_of_a_bfloat16_training_is_the_float32_one(faces: Faces):
    phases = [make_phase("adversarial", faces, CPU) for _ in range(2)]
    made = []
    for phase, engine in zip(phases, (PLAIN, Engine(precision="bfloat16")), strict=True):
        assert isinstance(phase, AdversarialPhase)
        phase.use(engine)
        phase.ready(0)
        made.append(phase.critic_update(torch.zeros(4, 3, 48, 40), phase.feed.batch().i_gt, 0)["penalty"])
    assert made[0].item() == made[1].item()


class Recording(TorchDispatchMode):
    """What a CUDA graph does, on the CPU: operations and the tensors they read and wrote, to be done once more.

    A number that the host computed stays what it was, and so does a choice that it made: a step whose host part takes
    part in the updates is told from one that can be captured.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, made))
        return made

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, made in self.calls:
                again = func(*args, **kwargs)
                for new, old in zip(tree_leaves(again), tree_leaves(made), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


@pytest.mark.parametrize("engine", [Engine(data="device"), Engine(data="ahead"), Engine(data="device", joint=True)])
@pytest.mark.parametrize("name", PHASES)
def test_a_recorded_step_replayed_is_the_next_step(faces: Faces, name: str, engine: Engine):
    phases = [make_phase(name, faces, CPU) for _ in range(2)]
    for phase in phases:
        phase.use(engine)
        for optimiser in phase.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = torch.tensor(group["lr"])  # as on a GPU
    eager, captured = phases
    for step in range(2):
        eager.step(step)
        captured.step(step)
    captured.ready(2)
    with Recording() as recording:
        made = captured.update()
    names = {str(func) for func, *_ in recording.calls}
    assert not names & {"aten._local_scalar_dense.default", "aten.is_nonzero.default", "aten.nonzero.default"}
    expected = eager.step(2)
    for step in range(3, 70):  # across a block of draws
        captured.ready(step)
        recording.replay()
        expected = eager.step(step)
    assert {key: value.item() for key, value in made.items()} == {key: value.item() for key, value in expected.items()}
    states = [torch.nn.ModuleDict(phase.modules).state_dict() for phase in phases]
    assert all(torch.equal(states[1][key], value) for key, value in states[0].items())


@pytest.mark.system
@pytest.mark.parametrize("folded", ["off", "on"])
@pytest.mark.parametrize("name", ["wnet", "psnr", "adversarial"])
def test_compiled_networks_take_the_plain_ones_steps(faces: Faces, name: str, folded: Any):
    plain = trained(make_phase(name, faces, CPU), PLAIN)
    phase = make_phase(name, faces, CPU)
    runtime = Runtime(data="device", joint_critic_batches="on", compile="on", fold=folded)
    made = trained(phase, take_up(phase, runtime, CPU, faces))
    for row, expected in zip(made[0], plain[0], strict=True):
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert list(made[1]) == list(plain[1])  # names of a checkpoint


def test_a_cpu_gets_the_plain_engine_and_the_log_says_so(faces: Faces, capsys: pytest.CaptureFixture[str]):
    assert choose_engine(Runtime(), CPU, faces) == PLAIN
    said = "".join(capsys.readouterr())
    for choice in ("data host", "precision float32", "channels_last False", "compiled False", "graphed False"):
        assert choice in said


def test_what_is_asked_for_is_taken(faces: Faces):
    runtime = Runtime(data="device", precision="bfloat16", channels_last="on", compile="on", joint_critic_batches="on")
    engine = choose_engine(runtime, CPU, faces)
    assert engine.arrays is not None
    assert engine.facts() == {
        "engine.data": "device",
        "engine.precision": "bfloat16",
        "engine.channels_last": True,
        "engine.compiled": True,
        "engine.graphed": False,
        "engine.joint": True,
    }


def test_a_cuda_graph_on_a_cpu_is_refused(faces: Faces):
    with pytest.raises(ParamsError, match="cuda_graph is on, but this training runs on a CPU: use auto"):
        choose_engine(Runtime(cuda_graph="on"), CPU, faces)


def test_compiling_without_a_compiler_is_refused_before_it_fails(faces: Faces, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ParamsError, match=r"no C\+\+ compiler .*CXX\): use auto"):
        choose_engine(Runtime(compile="on"), CPU, faces)
    assert not choose_engine(Runtime(), CPU, faces).compiled


def test_a_cuda_graph_of_pages_that_the_host_reads_is_refused(faces: Faces, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gwainet.training.engine.available", lambda _device: 2**34)
    gpu = torch.device("cuda", 0)
    with pytest.raises(ParamsError, match="whose pages no graph can read"):
        choose_engine(Runtime(cuda_graph="on", data="host"), gpu, faces)
    assert not choose_engine(Runtime(data="host"), gpu, faces).graphed
    assert not choose_engine(Runtime(data="ahead"), gpu, faces, processes=2).graphed
    assert choose_engine(Runtime(data="ahead"), gpu, faces).graphed
    with pytest.raises(ParamsError, match="2 processes train together"):
        choose_engine(Runtime(cuda_graph="on", data="ahead"), gpu, faces, processes=2)


def test_faces_that_do_not_fit_are_read_ahead(faces: Faces, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gwainet.training.engine.available", lambda _device: 2 * bytes_of(faces) - 1)
    gpu = torch.device("cuda", 0)
    assert choose_engine(Runtime(), gpu, faces).data == "ahead"
    with pytest.raises(ParamsError, match=r"runtime\.data is device, but the faces have"):
        choose_engine(Runtime(data="device"), gpu, faces)


def test_scores_of_a_bfloat16_training_are_float32(faces: Faces):
    """Far from 0 bfloat16 tells few numbers apart."""
    phase = make_phase("adversarial", faces, CPU)
    assert isinstance(phase, AdversarialPhase)
    torch.nn.init.constant_(phase.critic.fc.bias, 300.0)
    phase.use(Engine(precision="bfloat16"))
    phase.ready(0)
    assert phase._judged(phase.feed.batch().i_gt).unique().numel() == 4


def test_what_a_step_returns_keeps_no_graph_of_gradients(faces: Faces):
    for name in PHASES:
        assert not any(value.requires_grad for value in make_phase(name, faces, CPU).step(0).values())


def test_decoders_are_not_looked_at_where_steps_are_recorded(faces: Faces):
    phase = make_phase("adversarial", faces, CPU)
    engine = take_up(phase, Runtime(fold="on", compile="on", device="cpu"), CPU, faces)
    assert engine.compiled
    decoders: list[Any] = [
        module.decode for module in phase.modules["generator"].modules() if hasattr(module, "decode")
    ]
    assert decoders
    assert all(decoder.frozen == 0 and decoder.live == (0, 0) for decoder in decoders)


GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


class TestOnAGpu:
    """What a CPU cannot show; written without a GPU at hand."""

    pytestmark = GPU
    device = torch.device("cuda")

    @pytest.mark.parametrize("data", ["device", "ahead"])
    @pytest.mark.parametrize("name", PHASES)
    def test_a_captured_step_takes_the_eager_ones_course(self, faces: Faces, name: str, data: Any):
        plain = trained(make_phase(name, faces, self.device), PLAIN, steps=12)
        made = trained(make_phase(name, faces, self.device), Engine(data=data, graphed=True), steps=12)
        for row, expected in zip(made[0], plain[0], strict=True):
            assert row == pytest.approx(expected, rel=1e-2, abs=1e-4)

    @pytest.mark.parametrize("name", PHASES)
    def test_the_automatic_engine_takes_the_course_of_bfloat16(self, faces: Faces, name: str):
        phase = make_phase(name, faces, self.device)
        engine = take_up(phase, Runtime(), self.device, faces)
        assert (engine.data, engine.precision, engine.graphed, engine.joint) == ("device", "bfloat16", True, True)
        made, weights = trained(phase, engine, steps=12)
        plain, _ = trained(make_phase(name, faces, self.device), Engine(precision="bfloat16"), steps=12)
        for row, expected in zip(made, plain, strict=True):
            assert row == pytest.approx(expected, rel=0.1, abs=0.03)
        assert all(value.isfinite().all() for value in weights.values())

    @pytest.mark.parametrize("data", ["device", "ahead"])
    def test_batches_are_the_cpus_to_the_bit(self, faces: Faces, data: Any):
        of: dict[str, Any] = {"horizontal_flip": True, "guide_dropout": 0.2, "other_guides": 0.2}
        plain = PLAIN.feed(BatchSampler(faces, 4, 3, "critic", **of), CPU, 2)
        feed = Engine(data=data).feed(BatchSampler(faces, 4, 3, "critic", **of), self.device, 2)
        for step in (0, 1, 64, 200):
            plain.ready(step)
            feed.ready(step)
            for one, other in zip(feed.joint(), plain.joint(), strict=True):
                assert torch.equal(one.cpu(), other)

    def test_a_rate_that_changes_after_the_capture_counts(self, faces: Faces, monkeypatch: pytest.MonkeyPatch):
        phase = make_phase("psnr", faces, self.device)
        phase.use(Engine(data="device", graphed=True))
        for step in range(6):
            phase.step(step)
        before = {name: value.clone() for name, value in phase.modules["generator"].named_parameters()}
        monkeypatch.setattr(phase.rates, "set", lambda _step: set_rates(phase.optimisers.values(), 0.0))
        phase.step(6)
        for name, value in phase.modules["generator"].named_parameters():
            assert torch.equal(value, before[name])


def test_phases_begin_with_the_plain_engine(faces: Faces):
    phase = make_phase("psnr", faces, CPU)
    assert isinstance(phase, PsnrPhase)
    assert phase.engine is PLAIN
