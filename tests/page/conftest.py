"""A browser on the page of a service of its own; whatever a page does that it must not is found out at the end.

Skipped where no Chromium is installed.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from benchmarks.harness.processes import default_signals
from tests.app.service import Server, serving

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = """
    --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update
    --disable-sync --use-fake-device-for-media-stream --use-fake-ui-for-media-stream
"""
LISTENER = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
"""
expect.set_options(timeout=20_000)


@dataclass
class Watched:
    """A page and what was seen of it."""

    page: Page
    address: str
    problems: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)  # parts of what may stand in the console

    def watch(self) -> None:
        self.page.on("console", lambda message: self._console(message.type, message.text, message.location["url"]))
        self.page.on("pageerror", lambda error: self.problems.append(f"uncaught: {error}"))
        self.page.on("request", lambda request: self._request(request.url))

    def _console(self, kind: str, text: str, url: str) -> None:
        said = f"{kind}: {text} {url}"
        if kind in ("error", "warning") and not any(part in said for part in self.expected):
            self.problems.append(said)

    def _request(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:" + self.address)):
            self.problems.append(f"request to {url}")

    def check(self) -> None:
        self.problems += self.page.evaluate("window.violations ?? []")  # none without JavaScript
        assert self.problems == []


@pytest.fixture(scope="module")  # the pictures of other files would count in drift
def server(tmp_path_factory) -> Iterator[Server]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with serving(tmp_path_factory.mktemp("page"), workers="1") as server:
        yield server


@pytest.fixture(scope="module")  # not longer: its event loop would be in the way of other tests' own
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with default_signals(), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS.split())
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, server) -> Iterator[Callable[..., Watched]]:
    """Opens pages, and checks at the end that none complained, broke its policy or asked another host."""
    opened: list[tuple[Watched, BrowserContext]] = []

    def open_(view: str = "", at: str = server.url("/"), expected: Sequence[str] = (), **options: object) -> Watched:
        options = {"reduced_motion": "reduce", "permissions": ["clipboard-read", "clipboard-write"]} | options
        context = browser.new_context(**options)
        context.add_init_script(LISTENER)
        watched = Watched(context.new_page(), at, expected=[*expected])
        watched.watch()
        opened.append((watched, context))
        watched.page.goto(at + view)
        return watched

    yield open_
    for watched, context in opened:
        watched.check()
        context.close()


@pytest.fixture
def watched(open_page) -> Watched:
    return open_page()


@pytest.fixture
def page(watched) -> Page:
    return watched.page
