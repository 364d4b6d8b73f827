"""A walk along MLflow's pages of a store, holding on each what a person must be able to read there, and its picture."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from mlflow import MlflowClient
from mlflow.entities import Run
from playwright.sync_api import Browser, Locator, Page, expect

from gwainet.tracking import TRAINING_PAGES
from tests.pages.browser import TEXT, WAIT, Album, Watch

WIDTH, HEIGHT, TALLEST = 1440, 1000, 4000  # pixels

# MLflow's pages scroll inside, so a picture of a whole one needs a window of its height: what there is to scroll.
REST = """() => Math.max(0, ...[...document.querySelectorAll("*")]
    .filter(e => e.clientHeight > 400 && ["auto", "scroll"].includes(getComputedStyle(e).overflowY))
    .map(e => e.scrollHeight - e.clientHeight))"""
WRONG = re.compile(
    r"something went wrong|error occurred|page not found|404 not found|does not exist|failed to load|no data|"
    r"no chart data|no runs|no models|no versions|no artifacts|unable to",
    re.IGNORECASE,
)


@dataclass
class Tour:
    """One visit of the server at `address`, in a browser that was never there before.

    Each step leaves a screenshot in `album`.
    """

    page: Page
    watch: Watch
    address: str
    experiment: str
    album: Album

    @classmethod
    def begin(cls, browser: Browser, address: str, album: Album) -> "Tour":
        """Open the address that `python -m gwainet ui` prints, and close what greets a first visit."""
        watch = Watch(address)
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", locale="en-GB")
        page = watch.on(context.new_page())
        experiment = MlflowClient(address).get_experiment_by_name("gwainet")
        assert experiment is not None
        tour = cls(page, watch, address, experiment.experiment_id, album)
        page.goto(f"{address}/#/experiments?{TRAINING_PAGES}")
        assistant = page.get_by_role("button", name="Close")
        link = page.get_by_role("link", name="gwainet", exact=True)
        expect(assistant.or_(link).first).to_be_visible(timeout=WAIT)
        expect(link).to_be_visible(timeout=WAIT)
        if assistant.is_visible():
            assistant.click()
        tour._readable(link)
        tour._done("1-experiments")
        return tour

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        """All of it was served by the one server, and nothing failed; what a failed step saw is kept."""
        if kind is not None:
            self.page.screenshot(path=self.album.folder / "failed.png")
        self.page.context.close()
        if kind is None:
            self.watch.assert_quiet()

    # ------------------------------------------------------------ the pages

    def runs(self, parent: str, stages: Sequence[str]) -> None:
        """The experiment's table: executions, and the stages of one of them."""
        self._open(f"experiments/{self.experiment}/runs")
        link = self.page.get_by_role("link", name=parent, exact=True)
        self._readable(link)
        self.page.get_by_role("row").filter(has=link).get_by_role("button").first.click()
        self._widen("Run Name", 90)  # MLflow leaves a child's name 14 letters
        for stage in stages:
            self._readable(self.page.get_by_role("link", name=stage, exact=True))
        self._done("2-runs")

    def parent(self, run: Run, texts: Sequence[str]) -> None:
        """An execution's own page: how it ended, its stages, params and last numbers."""
        self._open(f"experiments/{self.experiment}/runs/{run.info.run_id}", tall=True)
        expect(self.page.get_by_role("heading", name=run.info.run_name)).to_be_visible(timeout=WAIT)
        for text in ("Finished", "Child runs", *texts):
            self._readable(self.page.get_by_text(text, exact=True).first)
        for title, count in (("Metrics", len(run.data.metrics)), ("Parameters", len(run.data.params))):
            self._readable(self.page.get_by_text(f"{title} ({count})"))
        self._done("3-parent")

    def curves(self, run: Run, curves: Sequence[str]) -> None:
        """A training's numbers, drawn over its steps."""
        self._open(f"experiments/{self.experiment}/runs/{run.info.run_id}/model-metrics", tall=True)
        for name in curves:
            card = self._card(name)
            self._readable(card.get_by_text(name, exact=True).first)
            line = card.locator("svg path.js-line").first
            expect(line).to_have_attribute("d", re.compile("L"), timeout=WAIT)  # more than one point
        self._done("4-curves")

    def series(self, name: str, steps: Sequence[int]) -> None:
        """The pictures of each validation, which a slider walks along; call it after `curves`."""
        card = self._card(name)
        card.get_by_role("button").nth(1).click()
        self.page.get_by_role("menuitem", name="Configure").click()
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_role("switch", name="Show run parameters").click()  # MLflow puts them before the picture
        dialog.get_by_role("button", name="Save").click()
        slider = card.get_by_role("slider")
        expect(slider).to_have_attribute("aria-valuemin", str(steps[0]))
        expect(slider).to_have_attribute("aria-valuemax", str(steps[-1]))
        shown = set()
        for step in steps:
            if step != steps[0]:
                slider.press("ArrowRight")
            expect(slider).to_have_attribute("aria-valuenow", str(step))
            picture = card.locator(f'img[src*="step%2B{step}%2B"]')
            self._drawn(picture)
            shown.add(picture.get_attribute("src"))
        assert len(shown) == len(steps)
        card.scroll_into_view_if_needed()
        self._done("5-series")
        card.locator("img").click()  # as large as the window
        self.page.wait_for_function("() => [...document.images].some(i => i.getBoundingClientRect().width > 700)")
        self._done("6-picture")
        self.page.keyboard.press("Escape")

    def benchmark(self, run: Run, texts: Sequence[str]) -> None:
        """The benchmark's page among the run's files."""
        self._open(f"experiments/{self.experiment}/runs/{run.info.run_id}/artifacts/benchmark/benchmark.html")
        frame = self.page.frame_locator("iframe")
        for text in texts:
            expect(frame.get_by_text(text).first).to_be_visible(timeout=WAIT)
        pictures = frame.locator("img")
        assert pictures.count() > 0
        assert pictures.evaluate_all("all => all.every(one => one.complete && one.naturalWidth > 0)")
        self._done("7-benchmark")

    def model(self, name: str, aliases: dict[str, str], texts: Sequence[str]) -> None:
        """The registered model: its versions, and which alias stands where."""
        self._open(f"models/{name}", tall=True)
        expect(self.page.get_by_role("heading", name=name, exact=True)).to_be_visible(timeout=WAIT)
        for number in sorted(set(aliases.values())):
            self._readable(self.page.get_by_role("link", name=f"Version {number}", exact=True))
        for alias, number in aliases.items():
            version = self.page.get_by_role("link", name=f"Version {number}", exact=True)
            row = self.page.get_by_role("row").filter(has=version)
            self._readable(row.get_by_text(re.compile(rf"@\s*{alias}$")).first)
        for text in texts:
            self._readable(self.page.get_by_text(text).first)
        self._done("8-model")

    def version(self, name: str, number: str, alias: str, texts: Sequence[str]) -> None:
        """One version: what it is, where it comes from, and what was decided of it."""
        self._open(f"models/{name}/versions/{number}", tall=True)
        expect(self.page.get_by_role("heading", name=f"Version {number}")).to_be_visible(timeout=WAIT)
        self._readable(self.page.get_by_text(re.compile(rf"@\s*{alias}$")).first)
        self._readable(self.page.get_by_role("link", name="register_model"))
        for text in texts:
            self._readable(self.page.get_by_text(text).first)
        self._done("9-version")

    # ------------------------------------------------------------ steps of a visit

    def _open(self, path: str, tall: bool = False) -> None:
        # what lies below the window is not drawn before it is looked at
        self.page.set_viewport_size({"width": WIDTH, "height": TALLEST if tall else HEIGHT})
        self.page.goto(f"{self.address}/#/{path}?{TRAINING_PAGES}")

    def _card(self, name: str) -> Locator:
        cards = self.page.get_by_test_id("experiment-view-compare-runs-card")
        return cards.filter(has=self.page.get_by_text(name, exact=True))

    def _widen(self, title: str, pixels: int) -> None:
        """Drag the right edge of a table's column."""
        box = self.page.get_by_role("columnheader").filter(has_text=title).first.bounding_box()
        assert box is not None
        edge, middle = box["x"] + box["width"] - 1, box["y"] + box["height"] / 2
        self.page.mouse.move(edge, middle)
        self.page.mouse.down()
        self.page.mouse.move(edge + pixels, middle, steps=5)
        self.page.mouse.up()

    def _readable(self, text: Locator) -> None:
        expect(text).to_be_visible(timeout=WAIT)
        found = text.evaluate(TEXT)
        assert found["width"] > 0, text
        assert found["size"] >= 12, (text, found)
        assert not found["cut"], f"{text} is cut off"

    def _drawn(self, picture: Locator) -> None:
        expect(picture).to_be_visible(timeout=WAIT)
        picture.evaluate("image => image.decode()")  # fails where there is no picture
        assert picture.evaluate("image => image.naturalWidth") > 0

    def _done(self, name: str) -> None:
        """Nothing on the page is wrong or still on its way; keep it."""
        expect(self.page.get_by_text(re.compile("^loading", re.IGNORECASE))).to_have_count(0, timeout=WAIT)
        wrong = WRONG.search(self.page.locator("body").inner_text())
        assert wrong is None, f"{name}: the page says {wrong}"
        self.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        self.page.set_viewport_size({"width": WIDTH, "height": min(TALLEST, HEIGHT + self.page.evaluate(REST))})
        self.album.keep(self.page, name)
