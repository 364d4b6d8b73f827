"""The plan says what the trainings do: compared with trainings that ran."""

import json
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pandas as pd
import pytest
import torch
from rich.console import Console

from gwainet.baselines import phases as baselines
from gwainet.dataset import Batch
from gwainet.errors import DataError
from gwainet.nets.model import SuperResolver
from gwainet.params import Params, check_params, load_params
from gwainet.people.dataset import PARTITION, split_sizes, write_people
from gwainet.plan import Estimate, ProfilePlan, Sizes, as_dict, data_sizes, make_plan
from gwainet.plan.rehearsal import rehearse, settings_of, write_noise
from gwainet.plan.table import show
from gwainet.plan.timing import MOST, time_phase
from gwainet.training import phases
from gwainet.training.sampling import BatchSampler, PairSampler
from tests.faces import write_faces
from tests.training_params import NETWORKS, TRAINING, Project, make_project, metrics

PROJECT = Path(__file__).parents[2]
CPU = torch.device("cpu")
ORDER = [
    ("pretrain_inet", None),
    ("pretrain_wnet", None),
    ("train_psnr", "guided"),
    ("train_psnr", "banet"),
    ("train_adversarial", "gwainet"),
    ("train_adversarial", "gwanet"),
    ("train_adversarial", "banet"),
    ("train_baselines", "srcnn"),
    ("train_baselines", "vdsr"),
    ("train_baselines", "edsr"),
    ("train_baselines", "srresnet"),
    ("train_baselines", "srgan"),
    ("train_baselines", "waveletsrnet"),
    ("train_baselines", "cascade"),
    ("train_baselines", "tdae_style"),
    ("train_baselines", "gfrnet"),
    ("train_baselines", "gfrnet_landmarks"),
]


def tiny(**changes: Any) -> Params:
    """What `tests.training_params.Project` trains with."""
    crop = {"height": 48, "width": 40}
    runtime = {"device": "cpu", "threads": 1}
    values = {"profile": "tiny", "networks": NETWORKS, **TRAINING, "prepare_faces": {"crop": crop}, "runtime": runtime}
    return check_params({**values, **changes})


@pytest.fixture
def project(tmp_path: Path) -> Project:
    torch.set_num_threads(1)
    return make_project(tmp_path)


def test_the_plan_counts_what_real_trainings_then_do(project: Project, monkeypatch: pytest.MonkeyPatch):
    """Steps, updates, targets, rates and validations of every stage, counted while it trains."""
    plan = make_plan(tiny(), project.root)
    updates: list[int] = []  # of each optimiser
    targets: dict[int, int] = {}  # of each stream of batches
    rates: list[float] = []
    adam, batch, anchors = phases.adam, BatchSampler.batch, PairSampler.rows

    def watched_adam(*arguments: Any) -> torch.optim.Adam:
        optimiser, place = adam(*arguments), len(updates)
        updates.append(0)

        def count(*_: object) -> None:
            updates[place] += 1
            rate = optimiser.param_groups[0]["lr"]
            if rate not in rates:
                rates.append(rate)

        optimiser.register_step_post_hook(count)
        return optimiser

    def watched_batch(sampler: BatchSampler, number: int, device: torch.device) -> Batch:
        made = batch(sampler, number, device)
        targets[sampler.stream] = targets.get(sampler.stream, 0) + len(made.i_gt)
        return made

    def watched_pairs(sampler: PairSampler, number: int) -> Any:
        made = anchors(sampler, number)
        targets[sampler.anchors.stream] = targets.get(sampler.anchors.stream, 0) + len(made[0])
        return made

    monkeypatch.setattr(phases, "adam", watched_adam)
    monkeypatch.setattr(baselines, "adam", watched_adam)
    monkeypatch.setattr(BatchSampler, "batch", watched_batch)
    monkeypatch.setattr(PairSampler, "rows", watched_pairs)
    for (stage, variant), planned in zip(ORDER, plan.trainings, strict=True):
        updates.clear()
        targets.clear()
        rates.clear()
        out = project.run(stage, variant)
        assert planned.name == (f"{stage}@{variant}" if variant else stage)
        assert planned.steps == metrics(out)["steps"] > 0
        assert sorted(planned.updates.values()) == sorted(updates)
        if stage == "train_baselines":  # all its parts are updated on the same batches
            assert max(planned.targets.values()) == targets[0]
            assert len(targets) == 1
        else:
            assert sorted(planned.targets.values()) == sorted(targets.values())
        assert [rate.learning_rate for rate in planned.learning_rates] == rates
        assert planned.learning_rates[-1].until == planned.steps
        assert planned.validations == len(pd.read_csv(out / "validation.csv"))
        assert planned.validation_faces == len(project.faces.targets("validation"))
        if stage == "train_adversarial":
            assert planned.updates["critic"] == metrics(out)["critic_updates"]
        assert planned.epochs == {part: count / 15 for part, count in planned.targets.items()}


def test_a_stage_without_epochs_costs_nothing(project: Project):
    changes = {
        "pretrain_inet": {"epochs": 0.0},
        "train_adversarial": {"schedule": []},
        "train_baselines": {"epochs": 0.0, "critic_epochs": 0.0, "narrow": 32},
    }
    plan = make_plan(tiny(**changes), project.root, seconds=0.1)
    for planned in plan.trainings:
        if planned.name.startswith(("pretrain_inet", "train_adversarial", "train_baselines")):
            assert (planned.steps, planned.macs, planned.validations, planned.updates) == (0, 0, 0, {})
            assert (planned.timing, planned.seconds) == (None, None)


def test_the_operations_of_a_profile_are_those_of_its_trainings(project: Project):
    plan = make_plan(tiny(), project.root)
    for planned in plan.trainings:
        assert planned.step_macs == planned.macs // planned.steps > 0
        if not planned.name.startswith("train_baselines@gfrnet"):  # whose first steps are other ones
            assert planned.macs == planned.steps * planned.step_macs
    assert plan.macs == sum(planned.macs for planned in plan.trainings)
    with_inet, without = (p.step_macs for p in plan.trainings if p.name.endswith(("gwainet", "gwanet")))
    assert with_inet > without


SOURCES = {"drawn": True, "celeba": True, "folder": False, "pairs": False}


@pytest.mark.parametrize(("source", "trained"), SOURCES.items())
def test_landmarks_lead_no_step_of_a_source_that_brings_none(source: str, trained: bool):
    params = tiny(fetch_faces={"source": source})
    led, without = (
        phases.total_steps(settings_of(params, "train_baselines", system), 15)
        for system in ("gfrnet_landmarks", "gfrnet")
    )
    assert without > 0
    assert led == (without if trained else 0)


# ---------------------------------------------------------------- the data's size


def test_prepared_faces_are_counted_and_an_option_goes_before_them(project: Project):
    sizes = data_sizes(tiny(), project.root, None)
    assert (sizes.train, sizes.validation) == (15, 6)
    assert data_sizes(tiny(), project.root, 500) == Sizes(500, None, "--images")


def test_guides_of_pairs_are_no_targets(tmp_path: Path):
    write_faces(tmp_path / "data" / "tiny" / "faces", images=4, guides="fixed")
    sizes = data_sizes(tiny(), tmp_path, None)
    assert sizes.train == 2 * 4  # 4 people of 8, half of their pictures
    assert sizes.validation == 2 * 2


def test_celebas_size_is_that_of_its_data_contract(tmp_path: Path):
    params = load_params(PROJECT / "params.yaml", "celeba")
    assert data_sizes(params, tmp_path, None) == Sizes(162_734, 19_862, "check_faces.images")


def test_drawn_people_are_counted_before_they_are_drawn(tmp_path: Path):
    params = tiny(fetch_faces={"source": "drawn", "drawn": {"people": 12, "photos": [2, 4], "supersampling": 1}})
    write_people(params.fetch_faces.drawn, tmp_path, workers=1)
    drawn = [int(line.split()[1]) for line in (tmp_path / PARTITION).read_text().splitlines()]
    assert split_sizes(params.fetch_faces.drawn) == (drawn.count(0), drawn.count(1), drawn.count(2))
    assert data_sizes(params, tmp_path, None) == Sizes(drawn.count(0), drawn.count(1), "fetch_faces.drawn")


@pytest.mark.parametrize(
    "changes",
    [
        {"fetch_faces": {"source": "pairs"}},
        {"fetch_faces": {"source": "pairs"}, "check_faces": {"images": {"train": 100}}},  # half of them guides
        {"fetch_faces": {"source": "folder"}},
        {"prepare_faces": {"max_identities": 5}},
        {"prepare_faces": {"min_images": 5}},
    ],
)
def test_a_size_that_nothing_tells_is_asked_for(tmp_path: Path, changes: dict[str, Any]):
    with pytest.raises(DataError, match="give --images N"):
        data_sizes(check_params({"profile": "x", **changes}), tmp_path, None)


# ---------------------------------------------------------------- the papers' profiles


def test_the_plan_of_celeba_is_section_4_2(tmp_path: Path):
    plan = make_plan(load_params(PROJECT / "params.yaml", "celeba"), tmp_path)
    steps = {planned.name: planned.steps for planned in plan.trainings}
    assert steps["pretrain_inet"] == 0
    assert steps["pretrain_wnet"] == 50_854
    assert steps["train_psnr@guided"] == steps["train_psnr@banet"] == 203_418
    (adversarial,) = (planned for planned in plan.trainings if planned.name == "train_adversarial@gwanet")
    assert adversarial.updates == {"critic": 5 * 244_101, "generator": 244_101}
    assert [(rate.until, rate.learning_rate) for rate in adversarial.learning_rates] == [
        (162_734, 1e-4),
        (244_101, 5e-5),
    ]
    assert (adversarial.beta1, adversarial.beta2, adversarial.epsilon) == (0.5, 0.9, 1e-8)
    assert adversarial.epochs == {"critic": pytest.approx(30, abs=1e-3), "generator": pytest.approx(6, abs=1e-3)}


def test_the_plan_of_pairs_is_section_4_2(tmp_path: Path):
    plan = make_plan(load_params(PROJECT / "params.yaml", "pairs"), tmp_path, images=18_000)
    steps = {planned.name: planned.steps for planned in plan.trainings}
    assert steps["pretrain_inet"] == 27_000  # 12 epochs at batch 8
    assert steps["pretrain_wnet"] == 0
    assert steps["train_psnr@guided"] == 45_000  # at most 120 epochs at batch 48
    assert steps["train_adversarial@gwainet"] == 9_000  # 8 epochs at batch 16
    (inet,) = (network for network in plan.networks if network.name == "Inet")
    assert inet.parameters == 182_503_233 - 4097  # the pair head is not kept


# ---------------------------------------------------------------- time


def test_times_are_of_real_steps_and_the_estimate_is_steps_and_validations(project: Project):
    plan = make_plan(tiny(), project.root, seconds=3.0)
    for planned in plan.trainings:
        timing = planned.timing
        assert timing is not None
        assert planned.seconds is not None
        assert 0 < timing.step_low <= timing.step_seconds <= timing.step_high
        assert timing.face_seconds > 0
        validations = planned.validations * (6 + 6) * timing.face_seconds  # 6 faces, and 6 of the sample picture
        assert planned.seconds.about == pytest.approx(planned.steps * timing.step_seconds + validations)
        assert planned.seconds.low <= planned.seconds.about <= planned.seconds.high
    assert plan.device is not None
    assert plan.seconds is not None
    assert plan.seconds.about == pytest.approx(sum(p.seconds.about for p in plan.trainings if p.seconds))


def test_further_seeds_count_in_the_totals_and_not_in_the_lines(tmp_path: Path):
    one = make_plan(tiny(), tmp_path, images=100)
    three = make_plan(tiny(train_baselines=TRAINING["train_baselines"] | {"more_seeds": [1, 2]}), tmp_path, images=100)
    others = [planned for planned in one.trainings if planned.name.startswith("train_baselines@")]
    assert [planned.macs for planned in three.trainings] == [planned.macs for planned in one.trainings]
    assert sum(planned.macs for planned in others) > 0
    assert three.macs - one.macs == 2 * sum(planned.macs for planned in others)
    text = StringIO()
    show(three, Console(file=text, width=200))
    assert "Each of train_baselines is trained 3 times (more_seeds)" in " ".join(text.getvalue().split())


def test_further_seeds_of_ours_count_too_each_stage_by_its_own(tmp_path: Path):
    one = make_plan(tiny(), tmp_path, images=100)
    seeds = {"train_psnr": [1, 2, 3], "train_adversarial": [1]}
    changed = {stage: TRAINING[stage] | {"more_seeds": more} for stage, more in seeds.items()}
    several = make_plan(tiny(**changed), tmp_path, images=100)
    more = {stage: sum(t.macs for t in one.trainings if t.name.startswith(f"{stage}@")) for stage in seeds}
    assert several.macs - one.macs == 3 * more["train_psnr"] + more["train_adversarial"]
    times = {planned.name.partition("@")[0]: planned.times for planned in several.trainings}
    assert times == {"pretrain_inet": 1, "pretrain_wnet": 1, "train_psnr": 4, "train_adversarial": 2} | {
        "train_baselines": 1
    }
    text = StringIO()
    show(several, Console(file=text, width=200))
    shown = " ".join(text.getvalue().split())
    assert "Each of train_psnr is trained 4 times (more_seeds)" in shown
    assert "Each of train_adversarial is trained 2 times (more_seeds)" in shown


def test_without_seconds_a_small_batch_is_scaled_up(tmp_path: Path):
    params = tiny(train_psnr={"batch_size": 12})
    timing = time_phase("train_psnr", "guided", params, write_noise(tmp_path, 48, 40), CPU, seconds=0.0)
    assert (timing.batch_size, timing.steps) == (1, 1)
    generous = time_phase("train_psnr", "guided", params, write_noise(tmp_path, 48, 40), CPU, seconds=20.0)
    assert (generous.batch_size, generous.steps) == (12, MOST)


@pytest.mark.parametrize(("stage", "variant"), ORDER)
def test_a_rehearsed_phase_has_the_networks_and_the_batch_of_its_stage(tmp_path: Path, stage: str, variant: str | None):
    phase = rehearse(stage, variant, tiny(), write_noise(tmp_path, 48, 40), CPU)(3)
    losses = {name: value.item() for name, value in phase.step(0).items()}
    assert all(value == value for value in losses.values())
    if stage == "train_adversarial":
        assert (losses["identity"] > 0) == (variant == "gwainet")
    generator = phase.modules.get("generator")
    if stage == "train_baselines":
        assert isinstance(generator, SuperResolver)
        assert generator.guided == (variant in ("gfrnet", "gfrnet_landmarks"))
    elif generator is not None:
        assert generator.guided == (variant != "banet")


# ---------------------------------------------------------------- printed


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> ProfilePlan:
    return make_plan(tiny(), tmp_path_factory.mktemp("plan"), images=162_734, seconds=0.0)


@pytest.mark.parametrize("width", [100, 80, 60])
def test_tables_fit_the_terminal_and_lose_no_digit(plan: ProfilePlan, width: int):
    text = StringIO()
    show(plan, Console(file=text, width=width))
    lines = text.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert "…" not in text.getvalue()
    if width >= 80:
        for planned in plan.trainings:
            for count in (planned.steps, *planned.updates.values(), *planned.targets.values()):
                assert any(f"{count:,}" in line for line in lines)
        for column in ("parameters", "updates", "epochs", "learning rate", "validations", "all steps"):
            assert any(column in line for line in lines), column
    assert "e+" not in text.getvalue()
    assert "about" in text.getvalue()
    assert not re.search(r"\(\S+ to", text.getvalue())  # a single timed step has no spread


def test_a_measured_spread_is_printed_and_long_times_have_no_exponent(plan: ProfilePlan):
    text = StringIO()
    minutes = replace(plan, seconds=Estimate(118 * 60, 110 * 60, 131 * 60))
    show(minutes, Console(file=text, width=100))
    assert "about 120 min" in text.getvalue()
    assert "(110 to 130)" in text.getvalue()


def test_the_dictionary_is_json_with_every_number(plan: ProfilePlan):
    read = json.loads(json.dumps(as_dict(plan), allow_nan=False))
    assert read["trainings"][-1]["updates"] == plan.trainings[-1].updates
    assert read["sizes"] == {"train": 162_734, "validation": None, "origin": "--images"}
    assert read["seconds"] == {"about": ANY, "low": ANY, "high": ANY}


def test_estimates_add_up():
    assert Estimate(1, 0.5, 2) + Estimate(10, 9, 12) == Estimate(11, 9.5, 14)
