from typing import Any

import numpy as np
import pandas as pd
import pytest

from gwainet.identity import IDENTITY_METRIC
from gwainet.params import LargestLoss, Promotion
from gwainet.promotion.decision import Contender, Verdict, decide, per_image, same_faces

PEOPLE, IMAGES = 40, 3
SEEDS = range(10)


def contender(title: str = "models:/faces/2", seed: int = 1, seconds: float = 0.01, **shifts: float) -> Contender:
    """A model whose figures are those of the same 120 faces, with noise of its own and shifted by `shifts`."""
    faces = np.random.default_rng(0)
    own = np.random.default_rng(seed)
    count = PEOPLE * IMAGES
    psnr = faces.normal(25.0, 2.0, count)
    hard = faces.normal(0.0, 0.1, count)
    figures = {
        "psnr": psnr,
        "ssim": 0.7 + psnr / 500,
        "lr_psnr": psnr + 10,
        IDENTITY_METRIC: 0.9 + hard / 10,
        "guide_gain": 1.0 + hard,
        "gain_over_bicubic": 1.5 + hard,
    }
    spread = {"psnr": 0.1, "ssim": 0.001, "lr_psnr": 0.1, IDENTITY_METRIC: 0.002, "guide_gain": 0.05}
    table = pd.DataFrame(
        {
            "identity": np.repeat([f"person_{i}" for i in range(PEOPLE)], IMAGES),
            "source_file": [f"{i}.png" for i in range(count)],
            "guide_row": np.arange(count)[::-1],
            **{
                name: value + own.normal(0, spread.get(name, 0.05), count) + shifts.get(name, 0.0)
                for name, value in figures.items()
            },
        },
        index=pd.RangeIndex(count, name="row"),
    )
    return Contender(title, guided=True, faces=table, seconds=seconds)


def changed(one: Contender, **columns: Any) -> Contender:
    return Contender(one.title, one.guided, one.faces.assign(**columns), one.seconds)


def settings(**values: Any) -> Promotion:
    return Promotion(bootstrap_samples=500, **values)


def refused(verdict: Verdict) -> set[str]:
    assert verdict.passed == (not verdict.reasons)
    return {check.name for check in verdict.checks if check.passed is False}


BETTER: dict[str, Any] = {"psnr": 0.3, "ssim": 0.004}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_better_model_is_taken_and_the_worse_refused_with_the_right_reasons_in_both_orders(seed: int):
    better, worse = contender("models:/faces/2", 1, **BETTER), contender("models:/faces/1", 2)
    taken = decide(better, worse, settings(seed=seed))
    assert taken.passed
    assert taken.reasons == []
    (psnr,) = [check for check in taken.checks if check.name == "psnr"]
    assert psnr.difference is not None
    assert psnr.difference.low > 0.2
    other = decide(worse, better, settings(seed=seed))
    assert not other.passed
    assert refused(other) == {"psnr", "ssim"}
    assert all("it is worse" in reason for reason in other.reasons)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_planted_tie_is_no_win_in_either_order(seed: int):
    one = contender("models:/faces/1", 1)
    same = Contender("models:/faces/2", one.guided, one.faces.copy(), one.seconds)
    verdict = decide(same, one, settings(seed=seed))
    assert refused(verdict) == {"psnr"}
    assert "no gain above 0 is shown: +0 [+0, +0]" in verdict.reasons[0]
    # different pictures, equally good: what each gains on some people it loses on as many others
    flip = np.where(np.arange(PEOPLE * IMAGES) // IMAGES % 2, 0.2, -0.2)
    noisy = changed(same, psnr=one.faces["psnr"] + flip)
    for a, b in ((noisy, one), (one, noisy)):
        assert "psnr" in refused(decide(a, b, settings(seed=seed)))


def test_the_interval_is_that_of_the_known_shift():
    one = contender()
    shifted = changed(one, psnr=one.faces["psnr"] + 0.25)
    (psnr,) = [check for check in decide(shifted, one, settings()).checks if check.name == "psnr"]
    assert psnr.difference is not None
    assert (psnr.difference.mean, psnr.difference.low, psnr.difference.high) == (0.25, 0.25, 0.25)
    assert psnr.challenger == pytest.approx(shifted.faces["psnr"].mean(), abs=1e-6)
    assert decide(shifted, one, settings(least_gain=0.24)).passed
    assert refused(decide(shifted, one, settings(least_gain=0.25))) == {"psnr"}


@pytest.mark.parametrize(
    ("metric", "largest"),
    [("ssim", 0.002), ("lr_psnr", 0.5), (IDENTITY_METRIC, 0.005), ("guide_gain", 0.1)],
)
def test_a_gain_in_psnr_does_not_buy_a_larger_loss_elsewhere_than_is_tolerated(metric: str, largest: float):
    champion = contender()
    for share, passes in ((0.9, True), (1.1, False)):
        figures = {"psnr": champion.faces["psnr"] + 1, metric: champion.faces[metric] - share * largest}
        verdict = decide(changed(champion, **figures), champion, settings())
        assert refused(verdict) == (set() if passes else {metric})
    wide = settings(largest_loss=LargestLoss(**{metric: largest * 2}))
    assert decide(changed(champion, **figures), champion, wide).passed


def test_another_metric_may_be_the_one_to_gain_and_psnr_must_then_not_lose():
    champion = contender()
    gained = changed(champion, **{IDENTITY_METRIC: champion.faces[IDENTITY_METRIC] + 0.02})
    assert refused(decide(gained, champion, settings())) == {"psnr"}
    asked = settings(primary=IDENTITY_METRIC)
    assert decide(gained, champion, asked).passed
    blurred = changed(gained, psnr=champion.faces["psnr"] - 0.06)
    assert refused(decide(blurred, champion, asked)) == {"psnr"}


def test_a_metric_that_was_not_measured_is_refused_but_the_optional_one():
    champion, better = contender(seed=2), contender(seed=1, **BETTER)
    for missing in ("ssim", "lr_psnr", "psnr"):
        without = Contender(better.title, True, better.faces.drop(columns=missing), better.seconds)
        verdict = decide(without, champion, settings())
        assert missing in refused(verdict)
        assert f"{missing}: not measured of {better.title}" in verdict.reasons
    optional = Contender(champion.title, True, champion.faces.drop(columns=IDENTITY_METRIC), champion.seconds)
    verdict = decide(better, optional, settings())
    assert verdict.passed
    (identity,) = [check for check in verdict.checks if check.name == IDENTITY_METRIC]
    assert identity.passed is None
    assert IDENTITY_METRIC in refused(decide(better, optional, settings(primary=IDENTITY_METRIC)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_figure_that_is_no_number_is_refused_and_counted(value: float):
    champion, better = contender(seed=2), contender(seed=1, **BETTER)
    spoilt = better.faces["psnr"].to_numpy().copy()
    spoilt[[3, 7]] = value
    verdict = decide(changed(better, psnr=spoilt), champion, settings())
    assert refused(verdict) == {"psnr"}
    assert "no finite value on 2 of 120 images" in verdict.reasons[0]
    assert refused(decide(better, changed(champion, ssim=np.nan), settings())) == {"ssim"}


def test_too_few_people_decide_nothing_however_many_images_and_however_large_the_gain():
    few = 29 * IMAGES
    better, champion = contender(seed=1, psnr=5.0), contender(seed=2)
    short, other = (Contender(c.title, True, c.faces.iloc[:few], c.seconds) for c in (better, champion))
    verdict = decide(short, other, settings())
    assert refused(verdict) == {"test people"}
    assert (verdict.images, verdict.identities) == (87, 29)
    assert "29 test people are too few" in verdict.reasons[0]
    assert decide(short, other, settings(least_people=29)).passed


def test_nothing_is_compared_on_different_faces_people_or_guides():
    better, champion = contender(seed=1, **BETTER), contender(seed=2)
    others = {
        "identity": champion.faces["identity"].replace("person_0", "somebody"),
        "source_file": champion.faces["source_file"] + "x",
        "guide_row": champion.faces["guide_row"] + 1,
    }
    for column, values in others.items():
        assert refused(decide(better, changed(champion, **{column: values}), settings())) == {"same faces"}
    for part in (champion.faces.iloc[1:], champion.faces.set_axis(champion.faces.index + 1), champion.faces.iloc[:0]):
        assert not same_faces(better.faces, part)
    verdict = decide(better, Contender("models:/faces/1", True, champion.faces.iloc[3:], 0.01), settings())
    assert [check.name for check in verdict.checks] == ["test people", "same faces"]


def test_without_a_champion_the_model_must_beat_bicubic_and_use_its_guide():
    first = decide(contender(), None, settings())
    assert first.passed
    assert first.champion is None
    assert [check.name for check in first.checks] == ["test people", "PSNR over bicubic", "use of its guide"]
    assert refused(decide(contender(gain_over_bicubic=-1.5), None, settings())) == {"PSNR over bicubic"}
    assert refused(decide(contender(guide_gain=-1.0), None, settings())) == {"use of its guide"}
    assert refused(decide(contender(), None, settings(least_gain_over_bicubic=1.6))) == {"PSNR over bicubic"}


def test_what_no_challenger_may_lack_is_asked_for_beside_a_champion_too():
    better, champion = contender(seed=1, **BETTER, guide_gain=-1.05), contender(seed=2, guide_gain=-1.05)
    assert refused(decide(better, champion, settings())) == {"use of its guide"}


def test_a_model_without_a_guide_is_refused_unless_none_is_asked_for():
    champion, better = contender(seed=2), contender(seed=1, **BETTER)
    faces = better.faces.drop(columns="guide_gain").assign(guide_row=-1)
    unguided = Contender(better.title, False, faces, better.seconds)
    verdict = decide(unguided, champion, settings())
    assert refused(verdict) == {"use of its guide"}
    assert "it takes no guide" in verdict.reasons[0]
    assert decide(unguided, champion, settings(least_guide_gain=None)).passed


def test_a_slower_model_is_refused():
    champion = contender(seed=2, seconds=0.010)
    fast, slow = (contender(seed=1, seconds=seconds, **BETTER) for seconds in (0.0124, 0.0126))
    assert decide(fast, champion, settings()).passed
    verdict = decide(slow, champion, settings())
    assert refused(verdict) == {"ms per image"}
    assert "1.26 times as long" in verdict.reasons[0]


def test_a_slice_that_loses_is_found_and_named_though_the_mean_gains():
    champion = contender(seed=2)
    people = np.repeat(np.arange(PEOPLE), IMAGES)
    for column, values, name in (
        ("skin_tone", np.where(people < 12, -40.0, 60.0), "skin_tone: dark"),
        ("sharpness", people / PEOPLE, "sharpness: low"),
    ):
        psnr = champion.faces["psnr"] + np.where(people < 12, -0.6, 1.0)
        sliced = changed(champion, **{column: values, "psnr": psnr})
        verdict = decide(sliced, changed(champion, **{column: values}), settings())
        assert refused(verdict) == {f"worst slice ({name})"}
        assert decide(sliced, champion, settings(largest_loss=LargestLoss(worst_slice=0.7))).passed
    # a slice of few people is not judged
    alone = np.where(people < 9, -40.0, 60.0)
    verdict = decide(changed(champion, skin_tone=alone, psnr=psnr + 1), champion, settings())
    assert "worst slice (skin_tone: very_light)" in {check.name for check in verdict.checks}


def test_tables_without_slices_say_that_none_was_judged():
    verdict = decide(contender(seed=1, **BETTER), contender(seed=2), settings())
    (worst,) = [check for check in verdict.checks if check.name == "worst slice"]
    assert worst.passed is None


def test_the_figures_of_an_image_are_read_from_the_benchmarks_rows():
    rows = [
        (split, row, f"p{row}", f"{row}.png", guide, system, psnr)
        for split in ("validation", "test")
        for row in (5, 4)
        for system, guide, psnr in (
            ("bicubic", -1, 20.0 + row),
            ("gwanet", row + 1, 22.0 + 2 * row),
            ("gwanet-r", row + 2, 21.0),
            ("banet", -1, 21.0 + row),
        )
    ]
    columns = ["split", "row", "identity", "source_file", "guide_row", "system", "psnr"]
    table = pd.DataFrame(rows, columns=columns)
    guided = per_image(table, "gwanet")
    assert guided.index.tolist() == [4, 5]
    assert guided["guide_gain"].tolist() == [9.0, 11.0]
    assert guided["gain_over_bicubic"].tolist() == [6.0, 7.0]
    assert guided["guide_row"].tolist() == [5, 6]
    plain = per_image(table, "banet")
    assert "guide_gain" not in plain
    assert plain["gain_over_bicubic"].tolist() == [1.0, 1.0]
    assert same_faces(guided, plain)
    assert per_image(table, "absent").empty
    assert per_image(table[table["split"] == "validation"], "gwanet").empty
