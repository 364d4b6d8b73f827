"""Two models are trained once, one deliberately worse: which of them becomes champion, in both orders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from ruamel.yaml import YAML

from gwainet import promotion
from gwainet.__main__ import run_stage
from gwainet.params import Params, load_params
from gwainet.promotion.decision import Verdict
from gwainet.stages import STAGES
from tests.tracking.conftest import client, migrated, root  # noqa: F401  fixtures

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]  # two models are trained, and judged 30 times

NOTHING = {"epochs": 0.0, "validate_every": 1000, "validation_faces": 8}
PROFILE: dict[str, Any] = {
    "fetch_faces": {
        "source": "drawn",
        "drawn": {"people": 160, "photos": [3, 3], "supersampling": 1, "validation": 0.1, "test": 0.25},
    },
    "prepare_faces": {"crop": {"top": 61, "left": 49, "height": 96, "width": 80}},
    "networks": {
        "width": 8,
        "blocks_per_group": 1,
        "warp_blocks": 1,
        "zero_flow": True,
        "zero_fusion": True,
        "encoder_gain": "he",
        "critic_width": 2,
        "inet_width": 1,
        "inet_features": 8,
    },
    "pretrain_inet": NOTHING,
    "pretrain_wnet": NOTHING,
    "train_psnr": {
        "batch_size": 4,
        "learning_rate": 1e-3,
        "wnet_learning_rate_factor": 0.05,
        "validate_every": 200,
        "validation_faces": 16,
    },
    "train_adversarial": {
        "schedule": [{"epochs": 0.0, "learning_rate": 1e-4}],
        "validate_every": 1000,
        "validation_faces": 8,
    },
    "train_baselines": {"epochs": 0.0, "critic_epochs": 0.0, "narrow": 32},
    "benchmark": {"splits": ["test"], "grid_faces": 1},
    "register_model": {"name": "faces"},
    # networks of one size take equally long; so small ones as here, on a busy machine, not surely within a quarter
    "promotion": {"largest_latency_ratio": 3.0},
    "runtime": {"device": "cpu"},
}
EPOCHS = {"better": 8.0, "worse": 1.0}


@pytest.fixture
def trained(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Params]:  # noqa: F811
    """A project with both models registered: version 1 is the better, version 2 the worse, version 3 the better again.

    Version 3 has version 1's weights, with another report, so that it is a version of its own: a tie.
    """
    monkeypatch.setenv("GWAINET_PIPELINE_KEY", "promotion")
    (root / "data" / "source" / "tiny").mkdir(parents=True)
    path = root / "params.yaml"
    with path.open("w") as file:
        YAML(typ="safe").dump({"profile": "tiny", "base": {}, "profiles": {"tiny": PROFILE}}, file)

    def make(names: list[str], *settings: str) -> None:
        for name in names:
            for variant in STAGES[name].variants or (None,):
                few = ["train_psnr.epochs=0.1"] if variant == "banet" else []  # not what is promoted
                run_stage(STAGES[name], variant, path, None, [*settings, *few], root)

    names = list(STAGES)
    trains = names[names.index("train_psnr") :]
    make(names[: names.index("train_psnr")])
    make(trains, f"train_psnr.epochs={EPOCHS['better']}")
    make(["train_psnr", "train_adversarial"], f"train_psnr.epochs={EPOCHS['worse']}")
    make(["benchmark", "register_model"])
    make(["train_psnr", "train_adversarial"], f"train_psnr.epochs={EPOCHS['better']}")
    make(["benchmark", "register_model"], "benchmark.seed=1")
    return lambda *settings: load_params(path, None, list(settings))


def test_the_better_is_taken_the_worse_refused_and_a_tie_is_no_win_over_ten_seeds(
    trained: Callable[..., Params],
    root: Path,  # noqa: F811
    client: MlflowClient,  # noqa: F811
):
    def judge(challenger: str, champion: str, seed: int) -> Verdict:
        client.set_registered_model_alias("faces", "champion", champion)
        outcome = promotion.promote(trained(f"promotion.seed={seed}"), root, challenger, yes=False, reason="")
        assert outcome.verdict is not None
        assert outcome.refused == (not outcome.verdict.passed)
        return outcome.verdict

    for seed in range(10):
        assert judge("1", "2", seed).reasons == []
        refused = judge("2", "1", seed)
        assert any(reason.startswith("psnr: it is worse") for reason in refused.reasons)
        tied = judge("3", "1", seed)
        assert [reason.split(":")[0] for reason in tied.reasons] == ["psnr"]
        assert "no gain above 0 is shown: +0 [+0, +0]" in tied.reasons[0]
        assert tied.measured == promotion.SAME_PEOPLE

    for alias in ("champion", "challenger"):
        client.delete_registered_model_alias("faces", alias)
    first = promotion.promote(trained(), root, "1", yes=True, reason="the first")
    assert first.promoted
    assert not promotion.promote(trained(), root, "2", yes=True, reason="").promoted
    aliases = client.get_registered_model("faces").aliases
    assert {alias: str(number) for alias, number in aliases.items()} == {"champion": "1"}  # numbers in SQLite
