"""The page as people use it, in a real browser, on the real service."""

import ast
import csv
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, Route, expect

from app.errors import CODES
from tests.app.conftest import png
from tests.app.service import ROOT, serving, stop

pytestmark = [pytest.mark.browser, pytest.mark.process]
SAMPLES = ROOT / "app" / "page" / "samples"
CAT = (SAMPLES / "cat.png").read_bytes()
MANY = [(path.name, path.read_bytes()) for path in sorted(SAMPLES.glob("*.png"))]
BROKEN = [('notes, "1".txt', b"no picture"), ("cut.png", CAT[:900])]
MADE_TO_FAIL = "Failed to load resource"  # what Chromium says of every answer that is a problem
WIDTHS = {360: 740, 768: 1024, 1440: 900}
GIVE = """
(files, kind) => {
  const transfer = new DataTransfer();
  for (const [name, bytes] of files) transfer.items.add(new File([new Uint8Array(bytes)], name));
  return transfer;
}
"""


def give(page: Page, *files: tuple[str, bytes]) -> None:
    page.set_input_files("#files", [{"name": name, "mimeType": "", "buffer": content} for name, content in files])


def give_sample(page: Page, name: str = "Cat") -> None:
    page.get_by_role("button", name=name, exact=True).click()
    expect_answer(page, f"{name.lower()}.png")


def expect_answer(page: Page, name: str) -> None:
    expect(page.locator("#about")).to_contain_text(name)
    expect(page.locator("#answer")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("#explanation .frame")).not_to_have_class(re.compile("waiting"))


def transfer(page: Page, *files: tuple[str, bytes]):
    return page.evaluate_handle(f"(files) => ({GIVE})(files)", [[name, list(content)] for name, content in files])


def labels(page: Page) -> list[str]:
    return page.locator("#bars button").all_inner_texts()


def test_a_chosen_picture_is_answered_in_full(page):
    give(page, ("my cat.png", CAT))
    expect_answer(page, "my cat.png")
    expect(page.locator("#verdict")).to_contain_text("cat")
    expect(page.locator("#announcement")).to_contain_text("% probable")
    assert len(labels(page)) == 10 and labels(page)[0] == "cat"
    assert page.locator("#picture").evaluate("image => image.naturalWidth") == 32
    shown = page.locator("#times li").all_inner_texts()
    assert [re.split(r"\n", text)[0] for text in shown][:5] == [
        "receive",
        "decode",
        "queue",
        "network",
        "write the answer",
    ]
    assert all(text.endswith(" ms") for text in shown)


def test_bars_come_by_probability_or_in_label_order(page):
    give_sample(page)
    sorted_labels = labels(page)
    page.get_by_text("In label order").click()
    assert labels(page) == sorted(sorted_labels) != sorted_labels


def test_what_the_network_saw_is_shown_with_heat_that_fades_and_for_other_labels(page):
    give_sample(page)
    assert page.locator("#seen").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [32, 32]
    expect(page.locator("#explained")).to_have_text("cat")
    heat = page.locator("#heat")
    first = heat.get_attribute("src")
    page.locator("#strength").fill("20")
    assert heat.evaluate("image => getComputedStyle(image).opacity") == "0.2"
    page.get_by_role("button", name="dog", exact=True).click()
    expect(page.locator("#explained")).to_have_text("dog")
    expect(page.get_by_role("button", name="dog", exact=True)).to_have_attribute("aria-pressed", "true")
    assert heat.get_attribute("src") != first


def test_each_sample_is_answered_and_credited(page):
    for name in ("Airplane", "Bird", "Cat", "Dog", "Frog", "Ship"):
        give_sample(page, name)
        expect(page.locator("#verdict")).to_contain_text(name.lower())
    expect(page.get_by_text("Alex Krizhevsky, 2009")).to_be_visible()
    sizes = {image.size for _, content in MANY for image in [Image.open(io.BytesIO(content))]}
    assert len(MANY) <= 10 and sizes == {(32, 32)}


def test_pictures_are_taken_from_a_drop(page):
    page.dispatch_event("body", "dragenter", {"dataTransfer": transfer(page, ("dropped.png", CAT))})
    expect(page.locator("#drop")).to_have_class("drop over")
    page.dispatch_event("body", "drop", {"dataTransfer": transfer(page, ("dropped.png", CAT))})
    expect_answer(page, "dropped.png")
    expect(page.locator("#drop")).to_have_class("drop")


def test_pictures_are_taken_from_the_clipboard(page):
    write = """(bytes) => navigator.clipboard.write([
      new ClipboardItem({ "image/png": new Blob([new Uint8Array(bytes)], { type: "image/png" }) }),
    ])"""
    page.bring_to_front()
    page.evaluate(write, list(CAT))
    page.keyboard.press("Control+V")
    expect_answer(page, "image.png")


def test_a_photo_is_taken(page):
    page.get_by_role("button", name="Take a photo").click()
    shoot = page.get_by_role("button", name="Take the photo")
    expect(shoot).to_be_enabled()
    shoot.click()
    expect_answer(page, "photo.jpg")
    assert page.locator("#viewfinder").evaluate("video => video.srcObject") is None


def test_a_camera_that_is_refused_is_explained_and_the_dialog_leaves(page):
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError'); } }"
    )
    page.get_by_role("button", name="Take a photo").click()
    expect(page.locator("#camera-problem")).to_contain_text("not allowed")
    page.keyboard.press("Escape")
    expect(page.locator("#camera")).to_be_hidden()


def altered(page: Page, change: dict) -> None:
    """Let the service answer as it does, but for this."""

    def answer(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, json=response.json() | change)

    page.route("**/predict", answer)


VERDICTS = {
    "This is a cat.": {"verdict": "confident", "novelty": 0.12},
    "This is an airplane.": {"verdict": "confident", "novelty": 0.12, "label": "airplane"},
    "Possibly a cat, but not certain.": {"verdict": "unsure", "novelty": 0.12},
    "Probably none of these ten.": {"verdict": "none_of_these", "novelty": 0.99},
    "cat": {"verdict": None, "novelty": None},
    "This is “oak leaf”.": {"verdict": "confident", "novelty": 0.5, "label": "oak leaf"},
}


def test_the_verdict_is_said_in_words_and_the_probabilities_are_shown_with_every_one(watched):
    page = watched.page
    watched.expected.append(MADE_TO_FAIL)  # there is no explanation of a label that the model does not know
    for said, change in VERDICTS.items():
        altered(page, change)
        give(page, (f"{change['verdict']}.png", CAT))
        expect(page.locator("#verdict")).to_have_text(said)
        expect(page.locator("#bars tr")).to_have_count(10)
        expect(page.locator("#certainty")).to_contain_text("% probable")
        stranger = (
            f"more unusual than {100 * (change['novelty'] or 0):.0f} %" in page.locator("#certainty").inner_text()
        )
        assert stranger == (change["novelty"] is not None)
        page.unroute("**/predict")


def test_of_many_labels_ten_are_shown_and_then_all(watched):
    page = watched.page
    watched.expected.append(MADE_TO_FAIL)
    many = {f"kind {index:03}": 2 ** -(index + 1.0) for index in range(300)}
    altered(page, {"label": "kind 000", "probabilities": many})
    give(page, ("it.png", CAT))
    expect(page.locator("#bars tr")).to_have_count(10)
    page.get_by_role("button", name="Show all 300 labels").click()
    expect(page.locator("#bars tr")).to_have_count(300)
    page.get_by_role("button", name="Show the 10 most probable").click()
    expect(page.locator("#bars tr")).to_have_count(10)


@pytest.mark.parametrize("name", ["photo.png", "it's; my \"cat\", $HOME's — 猫 🐈.png"], ids=["plain", "hostile"])
def test_the_programs_on_the_page_run_as_they_stand(page, tmp_path, name):
    (tmp_path / name).write_bytes(CAT)
    give(page, (name, CAT))
    expect_answer(page, name)
    check_programs(page, tmp_path)


def test_the_programs_for_a_sample_need_no_file(page, tmp_path):
    give_sample(page)
    check_programs(page, tmp_path)


def check_programs(page: Page, folder: Path) -> None:
    python, curl = (page.locator(name).inner_text() for name in ("#python", "#curl"))
    ran = subprocess.run([sys.executable, "-c", python], cwd=folder, capture_output=True, text=True, timeout=60)
    assert ast.literal_eval(ran.stdout)["label"] == "cat", ran.stderr
    page.locator("[data-copies=curl]").click()
    expect(page.locator("[data-copies=curl]")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == curl
    if not shutil.which("curl"):
        assert shlex.split(curl)[0] == "curl"
        return
    ran = subprocess.run(curl, shell=True, cwd=folder, capture_output=True, text=True, timeout=60)
    assert json.loads(ran.stdout)["label"] == "cat", ran.stderr


def names(page: Page) -> list[str]:
    return page.locator("#results th").all_inner_texts()


def test_several_pictures_become_a_table_that_can_be_sorted(page):
    give(page, *MANY, *BROKEN)
    expect(page.locator("#batch-title")).to_have_text("8 pictures, 2 without an answer")
    expect(page.locator("#announcement")).to_have_text("8 pictures, 2 without an answer")
    given = [name for name, _ in MANY + BROKEN]
    assert names(page) == given
    expect(page.locator("#results .failed")).to_have_count(2)
    expect(page.locator("#results .failed").first).to_contain_text("That is not a picture the service can read.")
    expect(page.locator("#results .failed").first).to_contain_text("unsupported_image · request ")
    page.get_by_role("button", name="Label").click()
    assert names(page) == given  # the labels of these are their names; what has none comes last
    page.get_by_role("button", name="Label").click()
    assert names(page) == [*reversed(given[:6]), *given[6:]]
    page.get_by_role("button", name="Confidence").click()
    expect(page.locator("th[aria-sort]")).to_have_text("Confidence")
    expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")
    shares = [float(re.sub("[^0-9.]", "", text)) for text in page.locator("#results td:nth-child(4)").all_inner_texts()]
    assert len(shares) == 6 and shares == sorted(shares, reverse=True)


def test_a_row_opens_the_whole_answer_and_the_table_stays(page):
    give(page, *MANY)
    page.get_by_role("button", name="frog.png").click()
    expect_answer(page, "frog.png")
    expect(page.locator("#results tr")).to_have_count(6)


def test_the_table_is_downloaded_as_csv(page):
    give(page, *MANY, *BROKEN)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert download.value.suggested_filename == "predictions.csv"
    lines = list(csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8"), newline="")))
    assert [line["file"] for line in lines] == [name for name, _ in MANY + BROKEN]
    for line in lines[:6]:
        assert line["label"] == line["file"].removesuffix(".png") and line["problem"] == ""
        shares = {name: float(value) for name, value in line.items() if name.startswith("probability_")}
        assert len(shares) == 10 and sum(shares.values()) == pytest.approx(1, abs=1e-3)
        assert float(line["confidence"]) == shares[f"probability_{line['label']}"]
    assert lines[6]["label"] == "" and "not a picture" in lines[6]["problem"]


def test_more_pictures_than_one_request_takes_are_sent_in_several(page):
    sent = []
    page.on("request", lambda request: sent.append(request) if request.url.endswith("/predict/batch") else None)
    give(page, *((f"{index}.png", png(index)) for index in range(150)))
    expect(page.locator("#batch-title")).to_have_text("150 pictures")
    assert len(sent) == 3 and names(page) == [f"{index}.png" for index in range(150)]


def refuse(page: Page, code: str) -> None:
    """From now on, let every prediction be answered with this problem."""
    status, _ = CODES[code]
    document = {"code": code, "detail": "so it is", "status": status, "title": "T", "request_id": "abc-1"}
    kind = "application/problem+json"
    page.unroute("**/predict")
    page.route("**/predict", lambda route: route.fulfill(status=status, content_type=kind, body=json.dumps(document)))


def test_every_error_is_put_in_words_and_leaves_the_page_as_it_was(watched):
    page = watched.page
    watched.expected.append(MADE_TO_FAIL)
    give_sample(page)
    headlines = {}
    for code, (status, _) in CODES.items():
        refuse(page, code)
        give(page, (f"{code}.png", CAT))
        if status == 401:
            page.get_by_role("button", name="Cancel").click()
        notice = page.locator("#alert")
        expect(notice).to_contain_text(f"{status} · {code} · request abc-1")
        expect(notice).to_contain_text("So it is.")
        headlines[code] = notice.locator(".headline").inner_text()
        expect(page.locator("#about")).to_contain_text("cat.png")
        expect(page.locator("#bars tr")).to_have_count(10)
        may_pass = status in (408, 429, 500, 503, 504)
        expect(notice.get_by_role("button", name="Try again")).to_have_count(int(may_pass))
        notice.get_by_role("button", name="Dismiss").click()
        expect(notice).to_be_hidden()
    assert "T" not in headlines.values() and len(set(headlines.values())) >= len(CODES) - 2


def test_what_may_pass_can_be_tried_again(watched):
    watched.expected.append(MADE_TO_FAIL)
    refuse(watched.page, "overloaded")
    give(watched.page, ("it.png", CAT))
    again = watched.page.get_by_role("button", name="Try again")
    expect(again).to_be_visible()
    watched.page.unroute("**/predict")
    again.click()
    expect_answer(watched.page, "it.png")
    expect(watched.page.get_by_role("alert")).to_be_hidden()


NO_PICTURES = {
    "notes.txt": (b"Dear diary, this is no picture.", "31 bytes cannot be read"),
    "cut.png": (CAT[:900], "That picture cannot be used."),
    "empty.png": (b"", "That is not a picture"),
}


def test_what_is_no_picture_gets_the_services_own_words(watched):
    watched.expected.append(MADE_TO_FAIL)
    give_sample(watched.page)
    for name, (content, said) in NO_PICTURES.items():
        give(watched.page, (name, content))
        expect(watched.page.get_by_role("alert")).to_contain_text(said)
        expect(watched.page.locator("#about")).to_contain_text("cat.png")


def test_an_answer_that_is_not_the_services_is_said_to_be_so(watched):
    watched.expected.append(MADE_TO_FAIL)
    watched.page.route("**/predict", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    give(watched.page, ("it.png", CAT))
    expect(watched.page.get_by_role("alert")).to_contain_text("The response has status 502 and no explanation")


def test_a_service_with_small_limits_and_then_stopped(open_page, tmp_path):
    with serving(tmp_path, workers="1", max_body_bytes="30000", max_files="4", drain_seconds="0") as small:
        watched = open_page(at=small.url("/"))
        page = watched.page
        watched.expected.append(MADE_TO_FAIL)
        give_sample(page)
        give(page, ("large.png", png(side=400)))
        expect(page.get_by_role("alert")).to_contain_text("That is more than the service accepts.")
        expect(page.get_by_role("alert")).to_contain_text("the limit is 30,000")
        give(page, *MANY, ("large.png", png(side=400)))  # halved until each part fits
        expect(page.locator("#batch-title")).to_have_text("7 pictures, 1 without an answer")
        expect(page.locator("#results .failed")).to_contain_text("too_large")
        stop(small)
        give(page, ("later.png", CAT))
        expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached.")
        give(page, *MANY)
        expect(page.locator("#batch-title")).to_have_text("6 pictures, 6 without an answer")
        expect(page.get_by_role("button", name="Try 6 again")).to_be_visible()
        expect(page.locator("#about")).to_contain_text("cat.png")
        assert page.locator("#bars tr").count() == 10


def test_rows_that_were_not_reached_can_be_tried_again(watched):
    page = watched.page
    watched.expected.append(MADE_TO_FAIL)
    page.context.set_offline(True)
    give(page, *MANY)
    expect(page.locator("#results .failed")).to_have_count(6)
    page.context.set_offline(False)
    page.get_by_role("button", name="Try 6 again").click()
    expect(page.locator("#batch-title")).to_have_text("6 pictures")
    expect(page.locator("#results .failed")).to_have_count(0)


DRIFT = {
    "status": "watch",
    "features": {"mean_red": {"psi": 0.12, "status": "watch"}, "n": {"psi": None, "status": "ok"}},
}


def test_the_second_view_shows_live_health_and_the_card(open_page):
    watched = open_page("#model", permissions=[])
    page = watched.page
    tiles = page.locator("#health")
    expect(tiles).to_contain_text("ready")
    for _ in range(5):
        page.request.post(watched.address + "predict", data=CAT)
    expect(tiles.locator(".tile", has_text="p50").locator("dd")).to_have_text(re.compile(r"^[\d.,]+ ms$"))
    expect(tiles.locator(".tile", has_text="p99").locator("dd")).to_have_text(re.compile(r"^[\d.,]+ ms$"))
    expect(tiles.locator(".tile", has_text="Requests/s").locator("dd")).to_have_text(re.compile(r"^[1-9\d]*\.?\d+$"))
    expect(tiles.locator(".tile", has_text="Drift").locator("dd")).to_have_text("too few yet")
    expect(page.locator("#window")).to_contain_text("pictures in the last hour")
    expect(page.locator("#card h2").first).to_contain_text("Model card: cifar10")
    images = page.locator("#card img")
    assert images.count() > 3
    for image in images.all():
        image.scroll_into_view_if_needed()
        expect(image).to_have_js_property("complete", True)
        assert image.evaluate("image => image.naturalWidth") > 0


def test_a_service_that_does_not_watch_for_drift_has_no_word_of_it(watched):
    watched.expected.append(MADE_TO_FAIL)
    watched.page.route("**/model/drift", lambda route: route.fulfill(status=404, body=""))
    watched.page.get_by_role("link", name="Model").click()
    expect(watched.page.locator(".tile")).to_have_count(4)
    expect(watched.page.locator("#drift")).to_be_hidden()


def test_drift_is_shown_feature_by_feature(open_page):
    watched = open_page()
    watched.page.route("**/model/drift", lambda route: route.fulfill(json=DRIFT))
    watched.page.get_by_role("link", name="Model").click()
    expect(watched.page.locator(".tile", has_text="Drift").locator("dd")).to_have_text("a little")
    watched.page.get_by_text("Drift, feature by feature").click()
    expect(watched.page.locator("#features")).to_contain_text("mean red")
    expect(watched.page.locator("#features")).to_contain_text("0.120")


def test_a_service_that_stops_is_seen_in_the_second_view(open_page):
    watched = open_page("#model")
    watched.expected += [MADE_TO_FAIL]
    expect(watched.page.locator(".tile").first).to_contain_text("ready")
    watched.page.context.set_offline(True)
    expect(watched.page.locator(".tile").first).to_contain_text("not reached")
    expect(watched.page.locator("#card h2").first).to_be_visible()


def test_quantiles_are_those_between_two_scrapes(page):
    found = page.evaluate(
        """async () => {
          const { buckets, between, quantile } = await import("./page/js/scrape.js");
          const text = (a, b, c) => [["0.1", a], ["0.2", b], ["+Inf", c]].map(([le, n]) =>
            `cifar10_request_seconds_bucket{le="${le}",route="/predict",status="200"} ${n}\\n` +
            `cifar10_request_seconds_bucket{le="${le}",route="/metrics",status="200"} 1000`).join("\\n");
          const counted = between(buckets(text(10, 10, 10)), buckets(text(20, 28, 30)));
          const restarted = between(buckets(text(10, 10, 10)), buckets(text(1, 1, 1)));
          return [counted.at(-1)[1], quantile(0.25, counted), quantile(0.5, counted), quantile(0.7, counted),
            quantile(0.99, counted), quantile(0.5, restarted), restarted.length];
        }"""
    )
    assert found == [20, pytest.approx(0.05), pytest.approx(0.1), pytest.approx(0.15), pytest.approx(0.2), None, 0]


def everything(page: Page) -> None:
    """An answer, a table with a problem in it, and an error, all at once."""
    give(page, *MANY, *BROKEN)
    expect(page.locator("#batch-title")).to_contain_text("2 without an answer")
    give_sample(page)
    give(page, ("notes.txt", b"no picture"))
    expect(page.get_by_role("alert")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_either_view(open_page, scheme):
    watched = open_page(color_scheme=scheme)
    watched.expected += [MADE_TO_FAIL]
    page, axe = watched.page, Axe()
    for name, reach in {
        "start": lambda: None,
        "answer": lambda: everything(page),
        "model": lambda: model_view(page),
    }.items():
        reach()
        results = axe.run(page)
        assert results.violations_count == 0, name + results.generate_report()


def model_view(page: Page) -> None:
    page.route("**/model/drift", lambda route: route.fulfill(json=DRIFT))
    page.get_by_role("link", name="Model").click()
    expect(page.locator("#card h2").first).to_contain_text("Model card")
    page.get_by_text("Drift, feature by feature").click()


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_scrolls_sideways(open_page, width):
    watched = open_page(viewport={"width": width, "height": WIDTHS[width]}, color_scheme="dark")
    watched.expected += [MADE_TO_FAIL]
    page = watched.page
    for reach in (lambda page: None, everything, model_view):
        reach(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def focused(page: Page) -> str:
    return page.evaluate("(document.activeElement.innerText || document.activeElement.id || '').trim()")


def test_all_of_it_can_be_done_with_the_keyboard(page):
    press = page.keyboard.press
    press("Tab")
    assert focused(page) == "Skip to the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    press("Enter")
    press("Tab")
    assert focused(page) == "files"  # Enter opens the browser's own dialog
    ring = page.locator("label[for=files]").evaluate("label => getComputedStyle(label).outlineStyle")
    assert ring == "solid"
    press("Tab")
    assert focused(page) == "Take a photo"
    for _ in range(3):
        press("Tab")
    press("Enter")
    expect_answer(page, "cat.png")
    for _ in range(4):
        press("Tab")
    assert focused(page) == "strength"
    press("ArrowLeft")
    assert page.locator("#strength").input_value() == "74"
    press("Tab")
    press("ArrowRight")
    assert labels(page) == sorted(labels(page))
    press("Tab")
    press("Enter")
    expect(page.locator("#explained")).to_have_text("airplane")


def test_it_works_behind_a_prefix_that_a_proxy_strips(open_page, server):
    prefix = server.url("/behind/cifar10/")
    watched = open_page(at=server.url("/"))
    page = watched.page

    def strip(route: Route) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace("/behind/cifar10", "", 1)))

    page.route(prefix + "**", strip)
    page.goto(prefix)
    watched.address = prefix
    give_sample(page)
    assert prefix + "predict" in page.locator("#curl").inner_text()
    page.get_by_role("link", name="Model").click()
    expect(page.locator("#card h2").first).to_contain_text("Model card")
    expect(page.locator(".tile").first).to_contain_text("ready")
    assert page.locator("#card img").first.get_attribute("src").startswith(prefix + "model/report/")


def test_the_page_promises_that_nothing_is_kept_and_keeps_nothing(page):
    expect(page.get_by_text("Pictures are not stored")).to_be_visible()
    give_sample(page)
    databases = "(await indexedDB.databases()).length"
    kept = f"async () => [localStorage.length, sessionStorage.length, document.cookie, {databases}]"
    assert page.evaluate(kept) == [0, 0, "", 0]
