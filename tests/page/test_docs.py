"""The API's documentation in a browser: Swagger UI under the page's own header."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.process]
SWAGGERS_OWN = "nested-interactive", "scrollable-region-focusable", "select-name", "heading-order", "landmark-unique"
DARK, LIGHT = "rgb(17, 21, 22)", "rgb(248, 247, 243)"


def test_the_header_leads_back_to_the_page(open_page):
    page = open_page("docs").page
    expect(page.get_by_role("link", name="API", exact=True)).to_have_attribute("aria-current", "page")
    page.get_by_role("link", name="Model", exact=True).click()
    expect(page.locator("#view-model")).to_be_visible()
    page.go_back()
    page.locator(".brand").click()
    expect(page.locator("#view-classify")).to_be_visible()


def test_it_follows_the_colour_scheme(open_page):
    page = open_page("docs", color_scheme="dark").page
    expect(page.locator("html")).to_have_css("background-color", DARK)
    expect(page.locator("#docs .opblock").first).to_be_visible()
    page.emulate_media(color_scheme="light")
    expect(page.locator("html")).not_to_have_class("dark-mode")
    expect(page.locator("body")).to_have_css("background-color", LIGHT)


def test_an_endpoint_can_be_tried(open_page):
    page = open_page("docs").page
    page.get_by_text("Liveness", exact=True).click()
    page.get_by_role("button", name="Try it out").click()
    with page.expect_response("**/health/live") as answered:
        page.get_by_role("button", name="Execute").click()
    assert answered.value.status == 200
    expect(page.locator(".live-responses-table")).to_contain_text("alive")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_axe_finds_nothing_of_ours_and_nothing_scrolls_sideways(open_page, scheme, width):
    page = open_page("docs", color_scheme=scheme, viewport={"width": width, "height": 800}).page
    page.get_by_text("Classify one image").click()
    expect(page.get_by_role("button", name="Try it out")).to_be_visible()
    results = Axe().run(page, options={"rules": {rule: {"enabled": False} for rule in SWAGGERS_OWN}})
    assert results.violations_count == 0, results.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
