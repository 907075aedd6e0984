"""The model card in a browser, at its own address and in the page: its plots can be read on every screen."""

import json
import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.process]
WIDTHS = [360, 768, 1440]
SMALLEST = 11  # pixels: the smallest text of a plot
MADE_TO_FAIL = "Failed to load resource"
NOT_READY = {"status": 503, "code": "not_ready", "title": "Service Unavailable", "detail": "No model is loaded."}
TEXT_SIZES = """
() => [...document.querySelectorAll(".plot text")].map((text) =>
  parseFloat(getComputedStyle(text).fontSize) * text.ownerSVGElement.getScreenCTM().a)
"""
OUTSIDE = """
() => [...document.querySelectorAll(".plot text")].filter((text) => {
  const [drawn, box] = [text.getBoundingClientRect(), text.closest("svg").getBoundingClientRect()];
  return drawn.left < box.left - 1 || drawn.right > box.right + 1;
}).map((text) => text.textContent)
"""
SHIFTS = """
window.shifted = 0;
new PerformanceObserver((list) => {
  for (const { value } of list.getEntries()) window.shifted += value;
}).observe({ type: "layout-shift", buffered: true });
"""


def unfold(page: Page) -> None:
    for summary in page.locator("summary").all():
        summary.click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_plots_can_be_read_and_axe_finds_nothing(open_page, width, scheme):
    page = open_page("model/card", viewport={"width": width, "height": 800}, color_scheme=scheme).page
    expect(page.locator(".plot svg")).to_have_count(6)
    assert min(page.evaluate(TEXT_SIZES)) >= SMALLEST
    assert page.evaluate(OUTSIDE) == []
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def test_the_confusion_matrix_of_ten_classes_needs_no_scrolling_on_a_phone(open_page):
    page = open_page("model/card", viewport={"width": 360, "height": 740}).page
    box = page.get_by_role("region", name="Confusion matrix")
    assert box.evaluate("box => box.scrollWidth <= box.clientWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_plots_have_the_systems_colours_where_these_are_forced(open_page, scheme):
    page = open_page("model/card", forced_colors="active", color_scheme=scheme).page
    text = page.locator(".plot text").first
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for mark, colour in ((text, "fill"), (page.locator(".plot polyline.network").first, "stroke")):
        assert mark.evaluate(f"mark => getComputedStyle(mark).{colour}") != background
    assert text.evaluate("mark => getComputedStyle(mark).fill") == page.evaluate(
        "getComputedStyle(document.querySelector('h1')).color"
    )


def test_pictures_of_images_are_loaded_when_they_are_opened(open_page):
    watched = open_page("model/card")
    images = watched.page.locator("img")
    assert images.count() == 2
    unfold(watched.page)
    for image in images.all():
        image.scroll_into_view_if_needed()
        expect(image).not_to_have_js_property("naturalWidth", 0)


def test_the_card_appears_when_the_service_is_ready(open_page):
    watched = open_page()
    watched.expected.append(MADE_TO_FAIL)
    page, answer = watched.page, json.dumps(NOT_READY)
    refuse = {
        "status": 503,
        "content_type": "application/problem+json",
        "body": answer,
        "headers": {"Retry-After": "1"},
    }
    page.route("**/model/card", lambda route: route.fulfill(**refuse))
    page.get_by_role("link", name="Model").click()
    expect(page.locator("#card")).to_contain_text("It appears here when the service has it.")
    page.unroute("**/model/card")
    expect(page.locator("#card h2").first).to_contain_text("Model card: cifar10")


def test_a_card_that_never_comes_is_not_asked_for_again(open_page):
    watched = open_page()
    watched.expected.append(MADE_TO_FAIL)
    watched.page.route("**/model/card", lambda route: route.fulfill(status=404, body=""))
    watched.page.get_by_role("link", name="Model").click()
    expect(watched.page.locator("#card")).to_contain_text("The model card cannot be shown.")
    expect(watched.page.locator("#card")).not_to_contain_text("It appears here")


@pytest.mark.parametrize("width", WIDTHS)
def test_health_arrives_without_moving_the_card(open_page, width):
    watched = open_page(viewport={"width": width, "height": 800})
    page = watched.page
    page.add_init_script(SHIFTS)
    page.route("**/metrics", lambda route: time.sleep(0.3) or route.continue_())  # after the card
    page.goto(watched.address + "#model")
    page.reload()
    expect(page.locator("#card h2").first).to_be_visible()
    expect(page.locator(".tile.good dd")).to_have_text("ready")
    expect(page.locator("#features tr")).not_to_have_count(0)
    assert page.evaluate("window.shifted") < 0.02
