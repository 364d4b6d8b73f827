"""The loop: steps, the best weights, patience, resuming."""

import signal

import pytest
import torch
from PIL import Image

from gwainet.errors import TrainingError
from gwainet.recorder import NullRecorder
from gwainet.training.checkpoint import Checkpoints
from gwainet.training.loop import Plan, fit
from gwainet.training.sampling import BatchSampler

CPU = torch.device("cpu")


class Kept(NullRecorder):
    """Keeps the numbers that were recorded."""

    def __init__(self):
        self.rows = []

    def metrics(self, values, step=0):
        self.rows.append((step, dict(values)))


class Quadratic:
    """Pulls one weight towards 3 with Adam; the validation number peaks at step `peak`."""

    def __init__(self, peak=10**9, die_at=None, nan_at=None):
        self.model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.model.weight)
        self.modules: dict[str, torch.nn.Module] = {"model": self.model}
        self.optimisers: dict[str, torch.optim.Optimizer] = {"model": torch.optim.Adam(self.model.parameters(), lr=0.1)}
        self.samplers: list[BatchSampler] = []
        self.peak, self.die_at, self.nan_at, self.steps = peak, die_at, nan_at, []
        self.weights = {0: 0.0}

    def step(self, step):
        if step == self.die_at:
            raise KeyboardInterrupt
        self.steps.append(step)
        loss = (self.model.weight - 3).square().sum()
        self.optimisers["model"].zero_grad()
        loss.backward()
        self.optimisers["model"].step()
        self.weights[step + 1] = self.model.weight.item()
        return {"loss": loss * (float("nan") if step == self.nan_at else 1)}

    def validate(self):
        assert not self.model.training
        return {"score": -abs(max(self.weights) - self.peak)}

    def samples(self):
        return Image.new("RGB", (4, 4))

    def gains(self):
        return None


def checkpoints(tmp_path):
    return Checkpoints(tmp_path, "stage", {})


def test_all_steps_run_once_and_the_last_weights_stay(tmp_path):
    phase = Quadratic()
    outcome = fit(phase, Plan("x", 7, validate_every=3), checkpoints(tmp_path), NullRecorder(), CPU)
    assert phase.steps == list(range(7))
    assert [row["step"] for row in outcome.validations] == [0, 3, 6, 7]
    assert phase.model.weight.item() == phase.weights[7]
    assert outcome.kept_step == outcome.steps == 7
    assert phase.model.training


def test_the_best_validated_weights_are_kept(tmp_path):
    phase = Quadratic(peak=6)
    outcome = fit(phase, Plan("x", 12, validate_every=3, best="score"), checkpoints(tmp_path), NullRecorder(), CPU)
    assert outcome.kept_step == 6
    assert phase.model.weight.item() == phase.weights[6]
    assert outcome.validation == {"score": 0}


def test_training_stops_after_patience_validations_without_a_new_best(tmp_path):
    phase = Quadratic(peak=4)
    plan = Plan("x", 100, validate_every=2, best="score", patience=3)
    outcome = fit(phase, plan, checkpoints(tmp_path), NullRecorder(), CPU)
    assert outcome.steps == 4 + 3 * 2
    assert phase.model.weight.item() == phase.weights[4]


def test_a_tie_keeps_the_earlier_weights(tmp_path):
    phase = Quadratic()
    phase.validate = lambda: {"score": 1.0}
    outcome = fit(phase, Plan("x", 4, validate_every=2, best="score"), checkpoints(tmp_path), NullRecorder(), CPU)
    assert outcome.kept_step == 0
    assert phase.model.weight.item() == 0.0


@pytest.mark.parametrize("best", [None, "score"])
def test_an_interrupted_training_continues_to_the_same_weights_and_curves(tmp_path, best):
    plan = Plan("x", 20, validate_every=4, best=best, checkpoint_seconds=0.0)
    whole, whole_recorder = Quadratic(peak=8), Kept()
    expected = fit(whole, plan, checkpoints(tmp_path / "a"), whole_recorder, CPU)

    with pytest.raises(KeyboardInterrupt):
        fit(Quadratic(peak=8, die_at=13), plan, checkpoints(tmp_path / "b"), NullRecorder(), CPU)
    again, again_recorder = Quadratic(peak=8), Kept()
    again.weights |= {13: 0.0}  # the fake score looks at the steps made
    outcome = fit(again, plan, checkpoints(tmp_path / "b"), again_recorder, CPU)

    assert again.steps == list(range(13, 20))
    assert torch.equal(again.model.weight, whole.model.weight)
    assert outcome.curves == expected.curves
    assert outcome.validations == expected.validations
    assert sorted(again_recorder.rows, key=str) == sorted(whole_recorder.rows, key=str)


def test_a_phase_of_no_steps_leaves_its_weights_and_writes_readable_tables(tmp_path):
    phase = Quadratic()
    outcome = fit(phase, Plan("x", 0, validate_every=3), checkpoints(tmp_path), NullRecorder(), CPU)
    assert phase.steps == []
    assert phase.model.weight.item() == 0.0
    assert list(outcome.tables()[0].columns) == ["step"]


def test_a_loss_that_is_not_finite_stops_with_its_name_and_step(tmp_path):
    with pytest.raises(TrainingError, match=r"^x: loss is not finite at step 6: .*There was no checkpoint yet"):
        fit(Quadratic(nan_at=5), Plan("x", 20, validate_every=50), checkpoints(tmp_path), NullRecorder(), CPU)


def test_curves_of_long_trainings_are_means_over_blocks(tmp_path):
    phase = Quadratic()
    outcome = fit(phase, Plan("x", 1000, validate_every=5000), checkpoints(tmp_path), NullRecorder(), CPU)
    assert [row["step"] for row in outcome.curves] == list(range(2, 1001, 2))
    first = sum((phase.weights[step] - 3) ** 2 for step in (0, 1)) / 2
    assert outcome.curves[0]["loss"] == pytest.approx(first, rel=1e-5)


def test_the_steps_after_the_last_whole_block_are_drawn_and_checked_too(tmp_path):
    plan = Plan("x", 1001, validate_every=5000)
    outcome = fit(Quadratic(), plan, checkpoints(tmp_path), NullRecorder(), CPU)
    assert [row["step"] for row in outcome.curves[-2:]] == [1000, 1001]
    checkpoints(tmp_path).remove()
    with pytest.raises(TrainingError, match="not finite at step 1001"):
        fit(Quadratic(nan_at=1000), plan, checkpoints(tmp_path), NullRecorder(), CPU)


def test_a_training_killed_after_its_patience_ended_is_not_continued(tmp_path):
    plan = Plan("x", 100, validate_every=2, best="score", patience=3, checkpoint_seconds=0.0)
    first = fit(Quadratic(peak=4), plan, checkpoints(tmp_path), NullRecorder(), CPU)
    again = Quadratic(peak=4)
    outcome = fit(again, plan, checkpoints(tmp_path), NullRecorder(), CPU)  # its stage did not finish: nothing removed
    assert again.steps == []
    assert outcome.steps == first.steps == 10


class Signalled(Quadratic):
    """Gets a signal in the middle of a step, and a second one if `twice`."""

    def __init__(self, number, at, twice=False):
        super().__init__()
        self.number, self.at, self.twice = number, at, twice

    def step(self, step):
        losses = super().step(step)
        if step == self.at:
            for _ in range(1 + self.twice):
                signal.raise_signal(self.number)
        return losses


@pytest.fixture
def terminable():
    """SIGTERM raises, as the command line and tracked runs let it; SIGINT too, even for tests that run behind `&`."""

    def handle(number, frame):
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, handle), signal.signal(signal.SIGINT, signal.default_int_handler)
    yield handle
    for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_lets_the_step_end_and_saves_it_and_nothing_is_lost(tmp_path, terminable, number, error):
    plan = Plan("x", 1000, validate_every=400)  # a point of the curves every second step; no checkpoint is due
    whole_recorder, again_recorder = Kept(), Kept()
    expected = fit(whole := Quadratic(), plan, checkpoints(tmp_path / "a"), whole_recorder, CPU)
    with pytest.raises(error):
        fit(first := Signalled(number, 432), plan, checkpoints(tmp_path / "b"), NullRecorder(), CPU)
    assert first.steps[-1] == 432
    assert signal.getsignal(signal.SIGTERM) is terminable
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    outcome = fit(again := Quadratic(), plan, checkpoints(tmp_path / "b"), again_recorder, CPU)
    assert again.steps[0] == 433
    assert torch.equal(again.model.weight, whole.model.weight)
    assert outcome.curves == expected.curves
    assert sorted(again_recorder.rows, key=str) == sorted(whole_recorder.rows, key=str)


def test_a_second_signal_ends_the_step_at_once(tmp_path, terminable):
    with pytest.raises(SystemExit):
        fit(Signalled(signal.SIGTERM, 5, twice=True), Plan("x", 20, 50), checkpoints(tmp_path), NullRecorder(), CPU)
    assert checkpoints(tmp_path).load(CPU) is None
    assert signal.getsignal(signal.SIGTERM) is terminable


def test_a_signal_that_is_ignored_stops_nothing(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        outcome = fit(Signalled(signal.SIGINT, 5), Plan("x", 20, 50), checkpoints(tmp_path), NullRecorder(), CPU)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert outcome.steps == 20


class Broken(Quadratic):
    """Its weight becomes infinite in a step whose loss was still finite."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def step(self, step):
        made = super().step(step)
        if step == self.at:
            self.model.weight.data.fill_(torch.inf)
        return made


def test_weights_that_are_not_finite_never_take_a_good_checkpoints_place(tmp_path):
    plan = Plan("x", 20, validate_every=50, checkpoint_seconds=0.0)
    with pytest.raises(
        TrainingError, match=r"weights of the model are not finite after step 6: .*checkpoint of step 5"
    ):
        fit(Broken(5), plan, checkpoints(tmp_path), NullRecorder(), CPU)
    state = checkpoints(tmp_path).load(CPU)
    assert state is not None
    assert state["outcome"]["steps"] == 5
    assert state["modules"]["model"]["weight"].isfinite().all()


def test_losses_that_are_not_finite_since_the_curves_last_point_are_not_saved(tmp_path):
    # a point of the curves every 2 steps, a checkpoint at each: the sums are looked at between the points, too
    plan = Plan("x", 1000, validate_every=5000, checkpoint_seconds=0.0)
    with pytest.raises(TrainingError, match=r"loss is not finite at step 7: .*checkpoint of step 6 is kept"):
        fit(Quadratic(nan_at=6), plan, checkpoints(tmp_path), NullRecorder(), CPU)


def test_a_loss_beyond_its_limit_has_exploded(tmp_path):
    plan = Plan("x", 1000, validate_every=5000, limits={"loss": 8.0, "other": 1.0})
    with pytest.raises(TrainingError, match=r"loss has exploded: 8\.\S+ in the mean between steps 1 and 2, where 8"):
        fit(Quadratic(), plan, checkpoints(tmp_path), NullRecorder(), CPU)


def test_a_training_that_never_became_better_says_so(tmp_path, capsys):
    fit(Quadratic(peak=0), Plan("x", 6, 3, best="score"), checkpoints(tmp_path / "a"), NullRecorder(), CPU)
    assert "score was never better than before the first step" in capsys.readouterr().err
    fit(Quadratic(peak=6), Plan("x", 6, 3, best="score"), checkpoints(tmp_path / "b"), NullRecorder(), CPU)
    assert "never better" not in capsys.readouterr().err
