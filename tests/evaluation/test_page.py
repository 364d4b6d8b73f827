"""The benchmark's page: what it says of numbers that are known, and that it loads and runs nothing."""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwainet.dataset import Split
from gwainet.evaluation.measure import Measured
from gwainet.evaluation.page import (
    FACES,
    MOST_BINS,
    TABLE_1,
    benchmark_page,
    choose_examples,
    difference,
    edges_of,
    gains_of,
    outcome,
    signed,
    verdict,
)
from gwainet.evaluation.report import BenchmarkReport, Estimate, ModelReport, make_report
from gwainet.evaluation.slices import SMALLEST_GROUP
from gwainet.evaluation.systems import MODELS, SYSTEMS
from gwainet.params import Params, check_params

PARAMS = check_params({"profile": "tiny", "benchmark": {"splits": ["test"], "bootstrap_samples": 100}})
WEIGHTS = {
    name: ModelReport(file=f"{name}/weights.safetensors", weights_digest=64 * "a", parameters=7, guided=model.guided)
    for name, model in MODELS.items()
}
SCRIPT = "<script>alert(1)</script>"


def estimate(low: float, mean: float, high: float) -> Estimate:
    return Estimate(mean=mean, low=low, high=high)


def measured(people: int, images: int = 2, better: float = 1.0, name: str = "person {}") -> pd.DataFrame:
    """Bicubic has 20 dB plus the image's own, GWAInet `better` more plus a little, everything else 19."""
    count = people * images
    own = np.random.default_rng(0).normal(0, 0.1, count)
    psnr = {"bicubic": np.full(count, 20.0), "gwainet": 20.0 + better + own}
    parts = [
        pd.DataFrame(
            {
                "split": "test",
                "row": np.arange(count),
                "identity": [name.format(i // images) for i in range(count)],
                "source_file": [f"{name.format(i // images)}/{i}.png" for i in range(count)],
                "guide_row": np.arange(count),
                "sharpness": np.arange(count) + 1.0,
                "guide_sharpness": np.arange(count)[::-1] + 1.0,
                "pose_difference": np.arange(count) / 10,
                "skin_tone": np.where(np.arange(count) < images, 60.0, 20.0),  # the first person alone is very light
                "system": system.name,
                "psnr": psnr.get(system.name, np.full(count, 19.0)),
                "psnr_y": 21.0,
                "ssim": 0.5,
                "lr_psnr": 30.0,
            }
        )
        for system in SYSTEMS
    ]
    return pd.concat(parts, ignore_index=True)


def report_of(table: pd.DataFrame, params: Params = PARAMS) -> BenchmarkReport:
    return make_report(params, "p" * 12, "d" * 64, Measured(table, {}, {}, {}), WEIGHTS, None)


def page_of(table: pd.DataFrame, settings: Mapping[str, object] | None = None) -> str:
    split: Split = "test"
    rows = np.unique(np.concatenate(list(choose_examples(gains_of(table, split)).values())))
    random = np.random.default_rng(0)
    crop = random.integers(0, 256, (48, 40, 3), np.uint8)
    pictures = {
        int(row): {"lr": crop[:6, :5], **dict.fromkeys(("guide", "warped_guide", "sr", "gt"), crop)} for row in rows
    }
    return benchmark_page(report_of(table), table, split, pictures, settings or {"a": 1}, "0.1.0", drawn=True)


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.S)))


# ---------------------------------------------------------------- what is said of a difference


@pytest.mark.parametrize(
    ("low", "mean", "high", "says"),
    [
        (0.80, 0.88, 0.95, "A is better than B"),
        (-0.15, -0.12, -0.09, "A is worse than B"),
        (-0.02, 0.01, 0.04, "Undecided whether A is better than B: the interval includes 0"),
        (0.0, 0.1, 0.2, "Undecided whether A is better than B: the interval includes 0"),
        (-0.2, -0.1, 0.0, "Undecided whether A is better than B: the interval includes 0"),
    ],
)
def test_a_verdict_follows_from_the_interval_alone(low, mean, high, says):
    assert verdict("A", "B", estimate(low, mean, high), 60).says == says


def test_few_people_decide_nothing_however_sure_the_interval_looks():
    sure = estimate(1.0, 1.0, 1.0)
    assert outcome(sure, SMALLEST_GROUP) == "better"
    assert outcome(sure, SMALLEST_GROUP - 1) == "too few people"
    assert verdict("A", "B", sure, 1).says == "No verdict whether A is better than B: 1 person is too few to tell"


def test_a_verdict_has_its_figure_with_sign_and_unit():
    assert verdict("A", "B", estimate(0.801, 0.878, 0.951), 60).figure == "+0.88 dB [+0.80, +0.95]"
    assert verdict("A", "B", estimate(-0.15, -0.12, -0.09), 60).figure == "−0.12 dB [−0.15, −0.09]"


def test_a_difference_that_is_decided_never_reads_0():
    figure = difference(estimate(-0.0042, -0.0031, -0.0012), "psnr")
    assert str(figure) == "−0.003 [−0.004, −0.001]"
    assert str(difference(estimate(0.0, 0.0, 0.0), "psnr")) == "0.00 [0.00, 0.00]"


@given(st.floats(-100, 100), st.integers(0, 4))
def test_a_signed_number_reads_back(value, digits):
    text = signed(value, digits)
    assert float(text.replace("−", "-")) == pytest.approx(round(value, digits), abs=10.0**-digits)
    assert "-" not in text


# ---------------------------------------------------------------- faces and bins


def test_faces_are_the_largest_gains_the_middle_and_the_least_worst_first():
    gains = pd.Series(np.random.default_rng(0).permutation(41) / 10, index=np.arange(100, 141))
    chosen = choose_examples(gains)
    ranked = {kind: gains[rows].to_numpy().tolist() for kind, rows in chosen.items()}
    assert ranked["best"] == [place / 10 for place in range(40, 30, -1)]
    assert ranked["median"] == [place / 10 for place in range(25, 15, -1)]
    assert ranked["worst"] == [place / 10 for place in range(10)]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=80))
def test_any_number_of_faces_gives_faces_and_none_twice_where_there_are_three(values):
    chosen = choose_examples(pd.Series(values))
    rows = [row for part in chosen.values() for row in part]
    assert all(1 <= len(part) <= FACES for part in chosen.values())
    assert len(values) < 3 or len(rows) == len(set(rows))


@given(st.lists(st.floats(-60, 60), min_size=1, max_size=50))
def test_bins_hold_every_gain_and_0_parts_those_that_lose(values):
    edges = edges_of(values)
    assert 1 <= len(edges) - 1 <= MOST_BINS
    assert edges[0] <= min(values) <= max(values) <= edges[-1]
    assert np.histogram(values, edges)[0].sum() == len(values)
    assert 0 in edges or edges[0] > 0 or edges[-1] < 0


# ---------------------------------------------------------------- the page


def test_the_page_opens_with_verdicts_computed_from_the_numbers():
    text = text_of(page_of(measured(people=20)))
    assert re.search(r"GWAInet is better than bicubic upscaling \+[01]\.\d\d dB \[\+", text)
    assert "GWAInet is better than BAnet, the model without a guide:" in text
    assert "on the same 40 faces of 20 people of the test split" in text
    assert "40 of 40" in text
    losing = text_of(page_of(measured(people=20, better=-0.5)))
    assert "GWAInet is worse than bicubic upscaling" in losing
    tied = text_of(page_of(measured(people=20, better=0.0)))
    assert "Undecided whether GWAInet is better than bicubic upscaling: the interval includes 0" in tied


def test_the_page_makes_no_claim_on_few_people():
    text = text_of(page_of(measured(people=3)))
    assert "No verdict whether GWAInet is better than bicubic upscaling: 3 people are too few to tell" in text
    assert " better " not in re.sub(r"whether .*? better|Better or worse", "", text).replace("higher is better", "")


def test_a_small_group_is_marked_beside_groups_that_are_not():
    page = page_of(measured(people=20))
    rows = {
        re.findall(r'<th scope="row">(.*?)</th>', row)[0]: text_of(row)
        for row in re.findall(r"<tr.*?</tr>", page[page.index('id="slices"') :], flags=re.S)
        if 'scope="row"' in row and "chip" in row
    }
    assert "too few people" in rows["very light"]
    assert " 2 1 " in rows["very light"]  # images, people
    assert "better" in rows["tan"]
    assert " 38 19 " in rows["tan"]
    assert "undefined" not in rows


def test_the_papers_table_is_verbatim_and_marked_as_quoted():
    page = page_of(measured(people=4))
    section = page[page.index('id="paper"') : page.index('id="differences"')]
    text = text_of(section)
    assert "Quoted, not measured here" in text
    for row in TABLE_1:
        assert " ".join(row) in text
    assert TABLE_1[-1] == ("Ours (Full-GWAInet)", "25.57", "27.11")
    assert "https://arxiv.org/abs/1906.07078" in section


def test_the_page_loads_nothing_and_runs_nothing():
    page = page_of(measured(people=12))
    assert "default-src 'none'" in page
    assert all(target.startswith("data:") for target in re.findall(r'src="([^"]*)"', page))
    links = set(re.findall(r'href="([^"#][^"]*)"', page))
    assert links == {"data:,", "https://arxiv.org/abs/1906.07078"}
    assert not re.search(r"@import|url\(|<script|<iframe|<object|<link rel=\"(?!icon)| on\w+=", page)


def test_names_are_text_and_never_markup():
    page = page_of(measured(people=12, name=SCRIPT + "{}"), {"benchmark.splits": [SCRIPT], "a": SCRIPT})
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_every_picture_has_a_text_and_every_table_a_caption_and_headings_with_a_scope():
    page = page_of(measured(people=12))
    pictures = re.findall(r"<img[^>]*>", page)
    assert len(pictures) == 6 * 24  # of 24 faces three times eight
    assert all(re.search(r'alt="[^"]+"', picture) for picture in pictures)
    assert page.count("<table") == page.count("<caption>")
    assert all("scope=" in heading for heading in re.findall(r"<th[ >][^>]*", page))


def test_the_page_tells_how_to_make_it_again():
    page = page_of(measured(people=4), {"benchmark.seed": 3})
    text = text_of(page)
    assert "dvc exp run -S profile=tiny" in text
    assert "python -m gwainet benchmark --profile tiny" in text
    assert "data/source/tiny" not in text  # drawn people need no photos
    assert "d" * 64 in text
    assert "benchmark.seed 3" in text


def test_the_same_content_gives_the_same_page():
    assert page_of(measured(people=12)) == page_of(measured(people=12))
