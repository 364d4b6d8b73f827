"""The system's Chromium, and what is held against any page that it shows."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, FloatRect, Page, Response, Route, sync_playwright

WAIT = 60_000  # milliseconds: on a busy machine MLflow's first page takes 10 seconds
COMMONEST = 0.985  # of a screenshot's pixels at most have one colour: a table of three rows leaves much paper
FEWEST_COLOURS = 64

# MLflow asks who is logged in, which a server without logins does not know
HARMLESS = ("/ajax-api/2.0/mlflow/users/current",)

# Where an element's text lies, whether something that it is in cuts it off sideways, and how large it reads: letters in
# a drawing are scaled with it.
TEXT = """element => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const box = range.getBoundingClientRect();
    let cut = false;
    for (let around = element; around; around = around.parentElement) {
        if (getComputedStyle(around).overflowX === "visible") continue;
        const edge = around.getBoundingClientRect();
        cut ||= box.left < edge.left - 1 || box.right > edge.right + 1;
    }
    const scale = element instanceof SVGGraphicsElement ? element.getScreenCTM().a : 1;
    return {cut, size: parseFloat(getComputedStyle(element).fontSize) * scale, width: box.width};
}"""


def find_chromium() -> str | None:
    """The system's own: none is ever downloaded."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextmanager
def open_browser(executable: str) -> Iterator[Browser]:
    """Without a window, and as root without a sandbox, which Chromium then refuses."""
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watch:
    """What a page asked for and complained of."""

    own: str  # what addresses begin with that it may load
    outside: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def on(self, page: Page) -> Page:
        """Watch a page, and let it reach nobody else."""
        page.set_default_timeout(WAIT)
        page.route("**/*", self._route)
        page.on("response", self._response)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        return page

    def _route(self, route: Route) -> None:
        if route.request.url.startswith((self.own, "data:", "blob:")):
            route.continue_()
        else:
            self.outside.append(route.request.url)
            route.abort()

    def _response(self, response: Response) -> None:
        if response.status >= 400 and not response.url.endswith(HARMLESS):
            self.failed.append(f"{response.status} {response.url}")

    def _console(self, message: ConsoleMessage) -> None:
        # what failed to load is in `failed`; the other is Chromium's word for a layout that took two passes
        if message.type == "error" and not any(
            part in message.text for part in ("Failed to load resource", "ResizeObserver loop")
        ):
            self.errors.append(message.text)

    def assert_quiet(self) -> None:
        """It asked nobody else, got all it asked for, and its scripts did not fail."""
        assert (self.outside, self.failed, self.errors) == ([], [], [])


@dataclass(frozen=True)
class Album:
    """Keeps screenshots in a folder."""

    folder: Path

    def keep(self, page: Page, name: str, clip: Any = None, **options: Any) -> Path:
        """Of the whole page, or of `clip`, a rectangle; refuses one that shows next to nothing."""
        path = self.folder / f"{name}.png"
        self.folder.mkdir(parents=True, exist_ok=True)
        place: FloatRect | None = clip
        data = page.screenshot(full_page=clip is None, clip=place, animations="disabled", **options)
        path.write_bytes(data)
        assert_shows_something(Image.open(BytesIO(data)).convert("RGB"), name)
        return path


def assert_shows_something(picture: Image.Image, name: str = "") -> None:
    """Not nearly one colour."""
    colours = picture.getcolors(picture.width * picture.height)
    assert colours is not None
    share = max(count for count, _ in colours) / (picture.width * picture.height)
    assert share < COMMONEST, f"{name}: {share:.1%} of the screenshot has one colour"
    assert len(colours) >= FEWEST_COLOURS, f"{name}: the screenshot has {len(colours)} colours"
