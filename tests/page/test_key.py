"""The page of a service that needs a key: it asks, sends the key and keeps it no longer than the tab."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from app.access.key_file import append_key
from tests.app.service import Server, serving
from tests.page.conftest import CHROMIUM
from tests.page.test_page import CAT, MADE_TO_FAIL, MANY, expect_answer, give, give_sample, unfold

pytestmark = [pytest.mark.browser, pytest.mark.process]
STORED = "() => [localStorage.length, document.cookie, Object.values(sessionStorage)]"


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> dict[str, str]:
    file = tmp_path_factory.mktemp("keys") / "keys"
    return {"file": str(file)} | {name: append_key(file, name, rate) for name, rate in (("any", None), ("few", "2"))}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, keys) -> Iterator[Server]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with serving(tmp_path_factory.mktemp("guarded"), workers="1", access="keys", keys_file=keys["file"]) as server:
        yield server


@pytest.fixture
def closed(open_page, guarded):
    """Opens the page of the service that needs a key."""

    def open_(view: str = "", **options: object) -> Page:
        return open_page(view, at=guarded.url("/"), expected=[MADE_TO_FAIL], **options).page

    return open_


def enter(page: Page, key: str) -> None:
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Use this key").click()


def dialog(page: Page):
    return page.get_by_role("dialog", name="This service needs a key")


def test_the_page_asks_once_and_sends_the_key_with_every_request(closed, keys):
    page = closed()
    addresses = []
    page.on("request", lambda request: addresses.append(request.url))
    enter(page, f" {keys['any']} ")
    expect(dialog(page)).to_be_hidden()
    expect(page.locator("#knows")).to_contain_text("airplanes, cars")
    give_sample(page)
    give(page, *MANY)
    expect(page.locator("#batch-title")).to_have_text("6 pictures")
    page.get_by_role("link", name="Model").click()
    expect(page.locator(".tile").first).to_contain_text("ready")
    expect(page.locator(".tile", has_text="Drift")).to_be_visible()
    expect(dialog(page)).to_be_hidden()
    assert page.evaluate(STORED) == [0, "", [keys["any"]]]
    assert page.locator("#key-field").input_value() == ""
    assert len(addresses) > 10 and not any(keys["any"] in address for address in addresses)


def test_a_wrong_key_is_told_and_asked_for_again(closed, keys):
    page = closed()
    expect(page.locator("#key-problem")).to_be_hidden()
    enter(page, "wrong")
    expect(page.locator("#key-problem")).to_have_text("The service does not know this key.")
    enter(page, "schlüssel")
    expect(page.locator("#key-problem")).to_contain_text("letters, digits, hyphens and underscores only")
    page.keyboard.press("Escape")
    give(page, ("it.png", CAT))
    enter(page, keys["any"])
    expect_answer(page, "it.png")


def test_who_has_no_key_is_asked_again_only_for_requests_of_their_own(closed):
    page = closed("#model")
    dialog(page).get_by_role("button", name="Cancel").click()
    expect(page.locator("#card")).to_contain_text("The model card cannot be shown. The service needs a key.")
    expect(page.locator(".tile").first).to_contain_text("ready")
    with page.expect_response("**/metrics"), page.expect_response("**/model/drift"):
        pass  # the view looks again every two seconds
    expect(dialog(page)).to_be_hidden()
    page.get_by_role("link", name="Try it").click()
    give(page, ("it.png", CAT))
    expect(dialog(page)).to_be_visible()
    dialog(page).get_by_role("button", name="Cancel").click()
    expect(page.locator("#verdict")).to_have_text("The service needs a key.")
    expect(page.locator("#small")).to_contain_text("401 · key_required")
    assert page.evaluate(STORED) == [0, "", []]


def test_a_key_stays_when_the_tab_is_loaded_again_and_no_other_tab_has_it(closed, keys):
    page = closed()
    enter(page, keys["any"])
    expect(page.locator("#knows")).to_contain_text("airplane")
    page.reload()
    give_sample(page)
    expect(dialog(page)).to_be_hidden()
    other = page.context.new_page()
    other.goto(page.url)
    expect(dialog(other)).to_be_visible()


def test_the_cards_pictures_are_fetched_with_the_key(closed, keys):
    page = closed("#model")
    enter(page, keys["any"])
    expect(page.locator("#card h2").first).to_contain_text("Model card: cifar10")
    images = page.locator("#card img")
    assert images.count() == 2
    for details in page.locator("#card details").all():
        details.locator("summary").press("Enter")  # a click may miss it when a picture above has just loaded
        expect(details).to_have_attribute("open", "")
    for image in images.all():
        expect(image).to_have_attribute("src", re.compile("^blob:"))
        image.scroll_into_view_if_needed()
        expect(image).to_have_js_property("complete", True)
        assert image.evaluate("image => image.naturalWidth") > 0
    expect(page.get_by_role("link", name="API")).to_be_hidden()


def test_a_key_that_sent_too_much_waits(closed, keys):
    page = closed()
    enter(page, keys["few"])
    expect(page.locator("#knows")).to_contain_text("airplane")
    give(page, *MANY)
    expect(page.locator("#batch-title")).to_have_text("6 pictures")
    give(page, ("it.png", CAT))
    expect_answer(page, "it.png")


@pytest.mark.parametrize("sample", [False, True], ids=["a file", "a sample"])
def test_the_programs_read_the_key_from_the_environment(closed, keys, tmp_path, sample):
    page = closed()
    enter(page, keys["any"])
    expect(page.locator("#knows")).to_contain_text("airplane")
    (tmp_path / "it's, a cat.png").write_bytes(CAT)
    if sample:
        give_sample(page)
    else:
        give(page, ("it's, a cat.png", CAT))
        expect_answer(page, "it's, a cat.png")
    unfold(page)
    curl, python = page.locator("#curl").inner_text(), page.locator("#python").inner_text()
    assert keys["any"] not in page.content()
    environment = os.environ | {"CIFAR10_KEY": keys["any"]}
    for command in (["bash", "-c", curl], [sys.executable, "-c", python]):
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert re.search("['\"]label['\"]: ?['\"]cat['\"]", ended.stdout), ended


def test_the_documentation_sends_the_key_of_the_tab(open_page, keys, tmp_path):
    settings = {"access": "keys", "keys_file": keys["file"], "public": "docs"}
    with serving(tmp_path, workers="1", **settings) as server:
        page = open_page(at=server.url("/"), expected=[MADE_TO_FAIL]).page
        enter(page, keys["any"])
        expect(page.locator("#knows")).to_contain_text("airplane")
        page.get_by_role("link", name="API").click()
        page.get_by_text("The served version's manifest and metrics").click()
        page.get_by_role("button", name="Try it out").click()
        with page.expect_response("**/model") as answered:
            page.get_by_role("button", name="Execute").click()
        assert answered.value.status == 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_dialog(closed, scheme):
    page = closed(color_scheme=scheme, viewport={"width": 360, "height": 740})
    enter(page, "wrong")
    expect(page.locator("#key-problem")).to_be_visible()
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
