"""The pages that the project writes, on a phone and on a desk, by day and by night: each is one file, and enough."""

from pathlib import Path
from typing import Literal

import pytest

pytest.importorskip("playwright", reason="Playwright is not installed")

from playwright.sync_api import Browser

from tests.pages.browser import TEXT, Album, Watch

pytestmark = pytest.mark.system

PAGES = {"data": "check_faces/report.html", "benchmark": "benchmark/benchmark.html"}
SMALLEST = 10  # pixels

# of every element with text of its own that is shown
TEXTS = f"""() => [...document.querySelectorAll("body *")]
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.checkVisibility())
    .map(e => ({{says: e.textContent.trim().slice(0, 40), ...({TEXT})(e)}}))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_window_can_be_read_and_loads_nothing(
    browser: Browser, project: Path, album: Album, name: str, width: int, scheme: Literal["light", "dark"]
):
    address = (project / "reports" / "tiny" / PAGES[name]).as_uri()
    watch = Watch(address)
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = watch.on(context.new_page())
    page.goto(address)
    assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
    for part in page.locator("summary").all():
        part.click()
    texts = page.evaluate(TEXTS)
    assert len(texts) > 100
    assert [text for text in texts if text["size"] < SMALLEST - 0.01] == []
    pictures = page.locator("img")
    assert pictures.count() > 0
    assert pictures.evaluate_all("all => all.filter(one => !one.complete || !one.naturalWidth).length") == 0
    assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
    brightness = page.evaluate("() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (brightness > 128) == (scheme == "light")
    album.keep(page, f"{name}-{width}-{scheme}")
    watch.assert_quiet()
    context.close()
