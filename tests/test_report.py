import base64
import json
import re
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gwainet.report import Distribution, Face, counts_chart, data_uri, faces_page, histogram, stage_page


def expectation(name: str, result: str, **more: Any) -> dict[str, Any]:
    held = {"group": "Pictures", "says": f"{name} must hold.", "why": "It matters.", "checked": 12, "offending": 0}
    return {"name": name, "result": result, "examples": [], **held, **more}


def validation(*expectations: dict[str, Any], statistics: bool = True) -> dict[str, Any]:
    states = [item["result"] for item in expectations]
    return {
        "profile": "demo",
        "passed": set(states) <= {"held", "warned"},
        "counts": {state: states.count(state) for state in ("held", "failed", "warned", "not checked")},
        "expectations": list(expectations),
        "source": "folder",
        "height": 48,
        "width": 40,
        "images": {"train": 1234, "validation": 8, "test": 8},
        "identities": {"train": 300, "validation": 2, "test": 2},
        "found": 1253,
        "rejected": {"not a picture": 3},
        "dropped": {},
        "digest": "d" * 64,
        "source_digest": "e" * 64,
        "statistics": {
            "means": [{"file": "hr.npy", "channel": "red", "recorded": 0.5, "recomputed": None}],
            "mean_brightness": 101.26,
            "images_per_identity": {"2": 3, "4": 1},
            "near_duplicates": {"correlation": 0.85, "guides": 8, "pairs_of_a_person": 90, "across_splits": 0},
        }
        if statistics
        else None,
        "labels": {"identity": "off", "measured": False},
        "drift": None,
    }


FACE = Face(
    "Ann <script>alert(1)</script>",
    "row 3",
    (("low resolution", np.full((6, 5, 3), 90, np.uint8)), ("crop", np.full((48, 40, 3), 120, np.uint8))),
)
FAILED = expectation(
    "not_black", "failed", offending=7, examples=[{"row": 3, "identity": "Ann & Bo <b>", "source_file": None}]
)


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.S)))


def test_a_page_loads_nothing_and_runs_nothing():
    page = faces_page(validation(expectation("sizes", "held"), FAILED), [FACE], {"not_black": [FACE]})
    targets = re.findall(r'(?:src|href|action|data|poster)="([^"]*)"', page)
    assert targets
    assert all(target.startswith(("data:", "#")) for target in targets)
    assert not re.search(r"https?:|@import|url\(|<script|<iframe|<object", page)
    assert "default-src 'none'" in page


def test_a_page_suits_phones_and_dark_screens():
    page = faces_page(validation(expectation("sizes", "held")))
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert "@media (prefers-color-scheme: dark)" in page
    assert "@media (max-width: 640px)" in page


def test_a_kept_contract_is_told_in_one_line():
    text = text_of(faces_page(validation(expectation("sizes", "held"), expectation("means", "held"))))
    assert "The contract holds All 2 expectations hold." in text
    assert "sizes must hold. It matters. sizes Holds 12 checked" in text
    assert "1,234 images of 300 people" in text
    assert "not a picture 3" in text


def test_a_broken_contract_shows_the_offenders():
    page = faces_page(validation(expectation("sizes", "held"), FAILED), [], {"not_black": [FACE]})
    text = text_of(page)
    assert "The contract does not hold 1 of 2 expectations failed. Every later stage is stopped." in text
    assert "7 offend of 12 checked" in text
    assert "Ann &amp; Bo &lt;b&gt;" in text
    assert "missing" in text
    assert "and 6 more" in text
    assert page.count('src="data:image/png') == 2


def test_rules_that_could_not_be_checked_are_counted():
    page = faces_page(validation(FAILED, expectation("means", "not checked"), statistics=False))
    text = text_of(page)
    assert "1 of 2 expectations failed, 1 could not be checked because the files do not fit together." in text
    assert "Distributions" not in text


def test_what_only_warns_is_told_and_stops_nothing():
    warned = expectation("labels", "warned", offending=3, examples=[{"row": 3}])
    page = faces_page(validation(expectation("sizes", "held"), warned), [], {"labels": [FACE]})
    text = text_of(page)
    assert "The contract holds 1 of 2 expectations hold, and 1 only warns. Training may start." in text
    assert "3 to look at of 12 checked" in text
    assert 'href="#labels"' in page
    assert page.count('src="data:image/png') == 2


def test_what_a_rule_allows_for_is_shown():
    allowed = expectation("guides", "held", offending=2, examples=[{"row": 3}, {"row": 4}])
    page = faces_page(validation(allowed), [], {"guides": [FACE]})
    assert "Holds 12 checked, 2 allowed for" in text_of(page)
    assert page.count('src="data:image/png') == 2


def test_near_duplicates_and_labels_are_counted():
    content = validation(expectation("sizes", "held"))
    text = text_of(faces_page(content))
    assert "Fixed guides that are near-duplicates of their target 8" in text
    assert "not looked at ( check_faces.identity is off)" in text
    content["labels"] = {"identity": "on", "measured": True, "doubtful": 3, "images": 1200, "identities": 115}
    assert "Labels doubted 3 of 1,200 images described, of 115 people" in text_of(faces_page(content))


def test_drift_is_told_with_both_medians():
    content = validation(expectation("sizes", "held"))
    assert "no other accepted data set is known" in text_of(faces_page(content))
    shift = {"statistic": "sharpness", "median_before": 124.3, "median_now": 60.25, "distance": 0.4321, "moved": 64.1}
    content["drift"] = {
        "digest": "f" * 64,
        "images_before": 8242,
        "images_now": 2047,
        "limit": 0.1,
        "statistics": [shift | {"unit": "grey levels"}, shift | {"unit": "x", "statistic": "border", "distance": 0.05}],
    }
    text = text_of(faces_page(content))
    assert "8,242 images then, 2,047 now; digest ffffffffffff" in text
    assert "sharpness 124.3 60.25 64.1 grey levels 0.432 drift" in text
    assert "border 124.3 60.25 64.1 x 0.050 Moved by" in text


def test_a_distribution_has_its_words_its_chart_and_its_extremes():
    chart = histogram([0, 3, 1, 0], [0, 64, 128, 192, 256], "images", "sharpness")
    one = Distribution(
        "Sharpness", "Blur lowers it", "grey levels", chart, 12.5, (3.0, 99.0), "The most blurred", [FACE]
    )
    page = faces_page(validation(expectation("sizes", "held")), distributions=[one])
    text = text_of(page)
    assert "Sharpness, grey levels Blur lowers it. Median 12.5, nine in ten between 3 and 99." in text
    assert "The most blurred" in text
    assert "3 images with sharpness 64 to 128" in page


def test_what_names_say_is_text_and_never_markup():
    page = faces_page(validation(expectation("sizes", "held")), [FACE])
    assert "<script>" not in page
    assert "Ann &lt;script&gt;" in page


def test_the_same_content_gives_the_same_bytes():
    content = validation(FAILED, expectation("means", "held"))
    again = json.loads(json.dumps(content))
    assert faces_page(content, [FACE], {"not_black": [FACE]}) == faces_page(again, [FACE], {"not_black": [FACE]})


@pytest.mark.parametrize(("shape", "size"), [((48, 40, 3), (40, 48)), ((320, 160, 3), (80, 160))])
def test_pictures_are_embedded_and_large_ones_scaled_down(shape, size):
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    head, data = data_uri(picture).split(",")
    assert head == "data:image/png;base64"
    image = Image.open(BytesIO(base64.b64decode(data)))
    assert image.size == size
    if image.size == shape[1::-1]:
        assert np.array_equal(np.asarray(image), picture)


def test_a_picture_may_lose_a_little_to_take_little_space_and_always_gives_the_same_bytes():
    ramp = np.linspace(0, 255, 144).astype(np.uint8)
    picture = np.repeat(np.broadcast_to(ramp, (168, 144))[..., None], 3, axis=2)
    head, data = data_uri(picture, 168, quality=90).split(",")
    assert head == "data:image/webp;base64"
    image = Image.open(BytesIO(base64.b64decode(data)))
    assert image.size == (144, 168)
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - picture).mean() < 3
    assert data_uri(picture, 168, quality=90) == f"{head},{data}"


def test_bars_below_0_are_marked_and_0_is_labelled():
    chart = histogram([1, 2, 3, 0, 5, 1, 1, 1], [-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6, 0.8, 1.0], "images", "a gain of")
    assert [bar.low for bar in chart.bars] == [True] * 3 + [False] * 5
    assert "0" in [label for _, label in chart.ticks]
    assert [x for x, label in chart.ticks if label == "0"] == [pytest.approx(chart.width * 3 / 8)]


def test_bars_are_as_high_as_their_counts():
    chart = histogram([0, 3, 1, 0], [0, 64, 128, 192, 256], "images", "mean brightness")
    assert chart.highest == 3
    assert [bar.height for bar in chart.bars] == [0, 150, 50, 0]
    assert all(bar.y + bar.height == chart.height for bar in chart.bars)
    assert chart.bars[1].says == "3 images with mean brightness 64 to 128"
    assert [label for _, label in chart.ticks] == ["0", "64", "128", "192", "256"]


def test_numbers_without_a_count_have_an_empty_bar():
    chart = counts_chart({2: 3, 4: 1}, "people", "images")
    assert [bar.says for bar in chart.bars] == [
        "3 people with 2 images",
        "0 people with 3 images",
        "1 people with 4 images",
    ]
    assert [label for _, label in chart.ticks] == ["2", "3", "4"]


def test_a_wide_range_of_numbers_shares_bars_and_loses_no_count():
    counts = {number: number % 7 for number in range(2, 531)}
    chart = counts_chart(counts, "people", "images")
    assert len(chart.bars) <= 32
    assert len(chart.ticks) <= 8
    assert sum(int(bar.says.split()[0]) for bar in chart.bars) == sum(counts.values())
    assert all(bar.x >= 0 and bar.x + bar.width <= chart.width for bar in chart.bars)


def test_a_stages_page_has_its_facts_and_picture_and_links_an_address_alone():
    facts = {"A <b>": "x", "steps": 1234, "final.psnr": 20.123456789}
    linked = stage_page("train_psnr", "https://mlflow.example.com/#/runs/1", facts, FACE.pictures[0][1])
    assert 'href="https://mlflow.example.com/#/runs/1"' in linked
    assert '<td>final.psnr</td><td class="number">20.1235</td>' in linked
    assert ">1234<" in linked
    assert "<td>A &lt;b&gt;</td>" in linked
    assert linked.count("data:image/png;base64,") == 1
    plain = stage_page("train_psnr", "MLflow: `make ui`", {})
    assert "MLflow: `make ui`" in plain
    assert 'href="http' not in plain
    assert "<img" not in plain
    assert "<table" not in plain
