"""The page as people use it, in a real browser, on the real service."""

import ast
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
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
WATCH_REPEATS = """
window.repeats = 0;
new MutationObserver((changes) => (window.repeats += changes.length))
  .observe(document.getElementById("camera-problem"), { childList: true, characterData: true, subtree: true });
"""
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
    expect(page.locator("#explanation")).not_to_have_attribute("data-state", "waiting")


def unfold(page: Page) -> None:
    page.get_by_text("For developers").click()


def transfer(page: Page, *files: tuple[str, bytes]):
    return page.evaluate_handle(f"(files) => ({GIVE})(files)", [[name, list(content)] for name, content in files])


def labels(page: Page) -> list[str]:
    return page.locator("#bars button").all_inner_texts()


def test_a_chosen_picture_is_answered_in_full(page):
    give(page, ("my cat.png", CAT))
    expect_answer(page, "my cat.png")
    expect(page.locator("#verdict")).to_contain_text("cat")
    expect(page.locator("#announcement")).to_have_text("Looks like a cat. More than 99 % sure.")
    assert len(labels(page)) == 10 and labels(page)[0] == "cat"
    assert page.locator("#picture").evaluate("image => image.naturalWidth") == 32
    unfold(page)
    assert json.loads(page.locator("#json").inner_text())["label"] == "cat"
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
    expect(page.locator("#seen")).to_have_attribute("alt", "The picture in 32×32 pixels, as the network saw it")
    expect(page.locator("#reason")).to_contain_text("What speaks for cat: mostly the ")
    heat = page.locator("#heat")
    first = heat.get_attribute("src")
    page.locator("#strength").fill("20")
    assert heat.evaluate("image => getComputedStyle(image).opacity") == "0.2"
    page.get_by_role("button", name="dog", exact=True).click()
    expect(page.locator("#announcement")).to_contain_text("What speaks for dog: ")
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


LIVE = re.compile("Looks like|Maybe|Probably none")


def test_the_camera_answers_while_it_is_pointed_and_stops_at_a_frame(page):
    asked = requests(page, "predict")
    page.get_by_role("button", name="Live camera").click()
    expect(page.locator("#live")).to_have_text(LIVE)
    with page.expect_request("**/predict"):
        pass  # the next frame
    size = page.locator("#live").evaluate("text => parseFloat(getComputedStyle(text).fontSize)")
    assert size >= 24
    page.get_by_role("button", name="Freeze").click()
    expect(page.locator("#live-status")).to_have_text(LIVE)
    assert page.locator("#viewfinder").evaluate("video => video.paused")
    frozen = len(asked)
    page.get_by_role("button", name="Go on").click()
    with page.expect_request("**/predict"):
        pass
    page.get_by_role("button", name="Show why").click()
    expect_answer(page, "camera.jpg")
    assert page.locator("#viewfinder").evaluate("video => video.srcObject") is None
    assert len(asked) > frozen and not any("seen" in url for url in asked[:frozen])


def test_a_camera_without_a_service_says_so_and_goes_on(watched):
    page = watched.page
    watched.expected.append(MADE_TO_FAIL)
    page.context.set_offline(True)
    page.get_by_role("button", name="Live camera").click()
    expect(page.locator("#camera-problem")).to_contain_text("The service cannot be reached.")
    expect(page.locator("#live")).to_be_empty()
    page.evaluate(WATCH_REPEATS)
    page.wait_for_timeout(3_000)  # another try
    assert page.evaluate("window.repeats") == 0
    page.context.set_offline(False)
    expect(page.locator("#live")).to_have_text(LIVE)
    expect(page.locator("#camera-problem")).to_be_hidden()
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#camera")).to_be_hidden()


def requests(page: Page, part: str) -> list[str]:
    """The addresses of requests to come that have this part, as they are sent."""
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url) if part in request.url else None)
    return urls


def test_a_camera_that_is_refused_is_explained_and_the_dialog_leaves(page):
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError'); } }"
    )
    page.get_by_role("button", name="Live camera").click()
    expect(page.locator("#camera-problem")).to_contain_text("not allowed")
    page.keyboard.press("Escape")
    expect(page.locator("#camera")).to_be_hidden()


def altered(page: Page, change: dict) -> None:
    """Let the service answer as it does, but for this."""

    def answer(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, json=response.json() | change)

    page.route("**/predict?*", answer)


UNSURE = {"cat": 0.61, "dog": 0.3, "frog": 0.09}
VERDICTS = [
    ({"verdict": "confident"}, "Looks like a cat.", "More than 99 % sure"),
    ({"verdict": "confident", "label": "airplane", "confidence": 0.97}, "Looks like an airplane.", "97 % sure"),
    (
        {"verdict": "unsure", "confidence": 0.61, "probabilities": UNSURE},
        "Maybe a cat.",
        "Not sure cat: 61 %, dog: 30 %.",
    ),
    (
        {"verdict": "none_of_these"},
        "Looks like a cat, but unlike the pictures it learned from.",
        "Unusual Do not rely on this answer.",
    ),
    (
        {"verdict": "none_of_these", "label": "bird", "confidence": 0.41},
        "Probably none of the ten things it knows. Closest: bird.",
        "Unusual bird: 41 %.",
    ),
    ({"verdict": None, "confidence": 0.5}, "Looks like a cat.", "50 % sure."),
    ({"verdict": "confident", "label": "oak leaf", "confidence": 0.9}, "Looks like “oak leaf”.", "90 % sure"),
]


def test_verdict_and_confidence_are_one_answer_in_words(watched):
    page = watched.page
    watched.expected.append(MADE_TO_FAIL)  # there is no explanation of a label that the model does not know
    for number, (change, headline, judgement) in enumerate(VERDICTS):
        altered(page, change)
        give(page, (f"{number}.png", CAT))
        expect_answer(page, f"{number}.png")
        expect(page.locator("#verdict")).to_have_text(headline)
        expect(page.locator(".judgement")).to_have_text(judgement)
        colour = page.locator(".best .fill").evaluate("fill => getComputedStyle(fill).backgroundColor")
        grey = page.locator("tr:not(.best) .fill").first.evaluate("fill => getComputedStyle(fill).backgroundColor")
        assert (colour == grey) == (change["verdict"] == "none_of_these")
        page.unroute("**/predict?*")


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
    unfold(page)
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


def refuse(page: Page, code: str) -> None:
    """From now on, let every prediction be answered with this problem."""
    status, _ = CODES[code]
    document = {"code": code, "detail": "so it is", "status": status, "title": "T", "request_id": "abc-1"}
    kind = "application/problem+json"
    page.unroute("**/predict?*")
    page.route("**/predict?*", lambda route: route.fulfill(status=status, content_type=kind, body=json.dumps(document)))


def test_every_error_is_put_in_words_and_stands_in_the_place_of_its_picture(watched):
    page = watched.page
    watched.expected.append(MADE_TO_FAIL)
    give_sample(page)
    headlines = {}
    for code, (status, _) in CODES.items():
        refuse(page, code)
        give(page, (f"{code}.png", CAT))
        if status == 401:
            page.locator("#key-cancel").click()
        expect(page.locator("#small")).to_have_text(f"{status} · {code} · request abc-1")
        expect(page.locator("#detail")).to_have_text("So it is.")
        expect(page.locator("#about")).to_contain_text(f"{code}.png")
        expect(page.locator("#picture")).to_be_visible()
        for part in ("#bars", "#explanation", ".developers", "#cancel"):
            expect(page.locator(part)).to_be_hidden()
        headlines[code] = page.locator("#verdict").inner_text()
        expect(page.locator("#announcement")).to_have_text(f"{code}.png: {headlines[code]} So it is.")
        may_pass = status in (408, 429, 500, 503, 504)
        expect(page.get_by_role("button", name="Try again")).to_have_count(int(may_pass))
    assert "T" not in headlines.values() and len(set(headlines.values())) >= len(CODES) - 2


def test_what_may_pass_can_be_tried_again(watched):
    watched.expected.append(MADE_TO_FAIL)
    refuse(watched.page, "internal")
    give(watched.page, ("it.png", CAT))
    again = watched.page.get_by_role("button", name="Try again")
    expect(again).to_be_visible()
    watched.page.unroute("**/predict?*")
    again.click()
    assert watched.page.evaluate("document.activeElement.id") == "verdict"
    expect_answer(watched.page, "it.png")
    expect(watched.page.locator("#verdict")).to_have_text("Looks like a cat.")


def busy_twice(page: Page, address: str) -> list[str]:
    """Answer the next two requests with 503, and return the addresses of all, as they come."""
    asked: list[str] = []
    document = {"code": "overloaded", "detail": "busy", "status": 503, "title": "T", "request_id": "abc-1"}

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) > 2:
            route.continue_()
            return
        kind, headers = "application/problem+json", {"Retry-After": "1"}
        route.fulfill(status=503, content_type=kind, headers=headers, body=json.dumps(document))

    page.route(address, answer)
    return asked


@pytest.mark.parametrize("address", ["**/predict?*", "**/explain?*"])
def test_a_busy_service_is_waited_out(watched, address):
    watched.expected.append(MADE_TO_FAIL)
    asked = busy_twice(watched.page, address)
    give_sample(watched.page)
    expect(watched.page.locator("#verdict")).to_have_text("Looks like a cat.")
    expect(watched.page.locator("#explanation")).to_have_attribute("data-state", "shown")
    assert len(asked) == 3


def test_while_the_answer_is_awaited_the_picture_is_shown_and_it_can_be_cancelled(open_page):
    page = open_page(viewport={"width": 360, "height": 740}).page
    page.route("**/predict?*", lambda route: None)
    give(page, ("slow.png", CAT))
    expect(page.locator("#verdict")).to_have_text("Looking…")
    expect(page.locator("#verdict")).to_be_in_viewport()
    expect(page.locator("#picture")).to_be_in_viewport()
    expect(page.locator("#announcement")).to_have_text("Looking at slow.png…")
    with page.expect_event("requestfailed") as failed:
        page.get_by_role("button", name="Cancel").click()
    assert "predict" in failed.value.url
    expect(page.locator("#answer")).to_be_hidden()
    expect(page.locator("#announcement")).to_have_text("Cancelled.")
    assert focused(page) == "files"


def test_an_explanation_that_fails_says_so_in_its_place_and_can_be_tried_again(watched):
    page = watched.page
    watched.expected.append(MADE_TO_FAIL)
    page.route("**/explain?*", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    give_sample(page)
    expect(page.locator("#reason")).to_contain_text("No heat map. The service did not answer.")
    expect(page.locator("#verdict")).to_have_text("Looks like a cat.")
    expect(page.locator("#seen")).to_be_visible()
    page.unroute("**/explain?*")
    page.locator("#heat-again").click()
    assert page.evaluate("document.activeElement.id") == "verdict"
    expect(page.locator("#reason")).to_contain_text("What speaks for cat: mostly the")
    expect(page.locator("#heat")).to_be_visible()


def test_an_error_of_the_page_itself_is_shown_too(page):
    page.evaluate("() => { window.FormData = class { constructor() { throw new Error('no memory'); } }; }")
    give(page, ("it.png", CAT))
    expect(page.locator("#verdict")).to_have_text("Something went wrong on this page.")
    expect(page.locator("#detail")).to_have_text("No memory.")


def test_a_service_without_explanations_shows_what_it_saw(watched):
    page = watched.page
    watched.expected.append(MADE_TO_FAIL)
    page.route("**/explain?*", lambda route: route.fulfill(status=404, body=""))
    give_sample(page)
    expect(page.locator("#explanation")).to_have_attribute("data-state", "absent")
    expect(page.locator("#seen")).to_be_visible()
    expect(page.locator("#strength")).to_be_hidden()


def photo(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


RECORD = """
() => {
  const send = window.fetch;
  window.sent = [];
  window.fetch = (path, options) => {
    window.sent.push(...["file", "files"].flatMap((field) => options?.body?.getAll(field) ?? []));
    return send(path, options);
  };
}
"""
SENT = """
() => Promise.all(window.sent.map(async (file) => {
  const { width, height } = await createImageBitmap(file).catch(() => ({}));
  return { bytes: file.size, size: [width, height] };
}))
"""


def test_a_large_picture_is_made_smaller_and_sent_once(page):
    page.evaluate(RECORD)
    content = photo(2000, 1000)
    give(page, ("large.jpg", content))
    expect_answer(page, "large.jpg")
    page.get_by_role("button", name="dog", exact=True).click()
    expect(page.locator("#reason")).to_contain_text("What speaks for dog")
    first, *others = page.evaluate(SENT)
    assert first["size"] == [1024, 512] and first["bytes"] < len(content) / 2
    assert [other["size"] for other in others] == [[32, 32]] * 2 and all(other["bytes"] < 10_000 for other in others)
    expect(page.locator("#about")).to_contain_text("MB, sent as ")


@pytest.mark.parametrize("name", ["small.png", "unreadable.heic"])
def test_a_picture_that_is_small_or_that_the_browser_cannot_read_is_sent_as_it_is(watched, name):
    watched.expected.append(MADE_TO_FAIL)
    watched.page.evaluate(RECORD)
    content = CAT if name == "small.png" else b"\0\0\0\x18ftypheic" + bytes(300_000)
    give(watched.page, (name, content))
    expect(watched.page.locator("#answer")).to_have_attribute("aria-busy", "false")
    assert watched.page.evaluate(SENT)[0]["bytes"] == len(content)


def test_the_region_of_a_map_is_put_in_words(page):
    found = page.evaluate(
        """async () => {
          const { region } = await import("./page/js/answer/region.js");
          const map = (weigh) => Array.from({ length: 9 }, (_, y) => Array.from({ length: 12 }, (_, x) => weigh(x, y)));
          return [map((x, y) => +(x < 4 && y < 3)), map((x) => +(x > 3)), map(() => 1), map(() => 0),
            map((x, y) => (x > 3 && x < 8 && y > 2 && y < 6 ? 1 : 0.1))].map(region);
        }"""
    )
    assert found == [
        "mostly the top left",
        "mostly the top, the top right and the centre",
        "many parts of the picture",
        "many parts of the picture",
        "mostly the centre",
    ]


OTHER_LABELS = [f"leaf {number}" for number in range(3)]


def test_the_page_follows_the_manifest_of_another_model(open_page):
    page = open_page().page

    def answer(route: Route) -> None:
        response = route.fetch()
        manifest = response.json()["manifest"] | {"labels": OTHER_LABELS}
        document = response.json() | {"manifest": manifest, "input": {"height": 48, "width": 64}}
        route.fulfill(response=response, json=document)

    page.route("**/model", answer)
    page.reload()
    expect(page.locator("#knows")).to_contain_text("It knows three things: “leaf 0”, “leaf 1” and “leaf 2”.")
    expect(page.locator("#knows")).to_contain_text("64×48 pixels")
    expect(page.locator("#samples")).to_be_hidden()
    expect(page.get_by_text("CIFAR-10")).to_have_count(1)  # in the hidden credit
    expect(page.locator("#credit")).to_be_hidden()


def test_without_javascript_there_is_a_command_line_that_works(open_page, server, tmp_path):
    page = open_page(java_script_enabled=False).page
    command = page.locator("pre.code").inner_text()
    assert command == f"curl -F file=@photo.jpg {server.url('/predict')}"
    expect(page.get_by_text("Choose pictures")).to_be_hidden()
    assert "Your pictures are not stored" in page.locator("main noscript p").last.inner_text()


NO_PICTURES = {
    "notes.txt": (b"Dear diary, this is no picture.", "31 bytes cannot be read"),
    "cut.png": (CAT[:900], "That picture cannot be used."),
    "empty.png": (b"", "That is not a picture"),
}


def test_what_is_no_picture_gets_the_services_own_words(watched):
    watched.expected.append(MADE_TO_FAIL)
    give_sample(watched.page)
    for name, (content, text) in NO_PICTURES.items():
        give(watched.page, (name, content))
        expect(watched.page.locator("#answer")).to_contain_text(text)
        expect(watched.page.locator("#about")).to_contain_text(name)


def test_an_answer_that_is_not_the_services_is_said_to_be_so(watched):
    watched.expected.append(MADE_TO_FAIL)
    watched.page.route("**/predict?*", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    give(watched.page, ("it.png", CAT))
    expect(watched.page.locator("#answer")).to_contain_text("The response has status 502 and no explanation")


def test_a_service_with_small_limits_and_then_stopped(open_page, tmp_path):
    with serving(tmp_path, workers="1", max_body_bytes="30000", max_files="4", drain_seconds="0") as small:
        watched = open_page(at=small.url("/"))
        page = watched.page
        watched.expected.append(MADE_TO_FAIL)
        give_sample(page)
        give(page, ("large.png", png(side=400)))
        expect(page.locator("#verdict")).to_have_text(re.compile(r"^This picture has \d+ kB; at most 30 kB\.$"))
        give(page, *MANY, ("large.png", png(side=400)))  # halved until each part fits
        expect(page.locator("#batch-title")).to_have_text("7 pictures")
        expect(page.locator("#results .failed")).to_have_count(1)
        expect(page.locator("#results .failed")).to_contain_text(
            re.compile(r"This picture has \d+ kB; at most 30 kB\.")
        )
        stop(small)
        give(page, ("later.png", CAT))
        expect(page.locator("#answer")).to_contain_text("The service cannot be reached.")
        give(page, *MANY)
        expect(page.locator("#results .failed")).to_have_count(6)
        expect(page.get_by_role("button", name="Try 6 again")).to_be_visible()


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
    expect(page.locator("#card .plot svg")).to_have_count(6)


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
          const { buckets, between, quantile } = await import("./page/js/model/scrape.js");
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


def answered(page: Page) -> None:
    """A table with a problem in it, and an answer with all its parts."""
    give(page, *MANY, *BROKEN)
    expect(page.locator("#results .failed")).to_have_count(1)
    give(page, ("cat.png", CAT))
    expect_answer(page, "cat.png")
    unfold(page)


def unusual(page: Page) -> None:
    altered(page, {"verdict": "none_of_these"})
    page.route("**/explain?*", lambda route: route.fulfill(status=502, body=""))
    give(page, ("unusual.png", CAT))
    expect_answer(page, "unusual.png")
    page.unroute("**/explain?*")
    page.unroute("**/predict?*")


def looking(page: Page) -> None:
    page.route("**/predict?*", lambda route: None)
    give(page, ("slow.png", CAT))
    expect(page.locator("#cancel")).to_be_visible()
    page.unroute("**/predict?*")


def failed(page: Page) -> None:
    refuse(page, "internal")
    give(page, ("it.png", CAT))
    expect(page.locator("#retry")).to_be_visible()
    page.unroute("**/predict?*")


def camera(page: Page) -> None:
    page.get_by_role("button", name="Live camera").click()
    expect(page.locator("#live")).to_have_text(LIVE)


def leave_camera(page: Page) -> None:
    page.get_by_role("button", name="Close").click()


STATES = {
    "start": lambda page: None,
    "answered": answered,
    "unusual": unusual,
    "looking": looking,
    "failed": failed,
    "camera": camera,
    "closed": leave_camera,
    "model": lambda page: model_view(page),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_state_is_accessible_and_nothing_scrolls_sideways(open_page, width, scheme):
    watched = open_page(viewport={"width": width, "height": WIDTHS[width]}, color_scheme=scheme)
    watched.expected.append(MADE_TO_FAIL)
    page, axe = watched.page, Axe()
    for name, reach in STATES.items():
        reach(page)
        results = axe.run(page)
        assert results.violations_count == 0, name + results.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert small_targets(page) == [], name


def small_targets(page: Page) -> list[str]:
    """The visible controls outside the card with a side below 44 px; labels stand for their inputs."""
    controls = "button, summary, .top nav a, .brand, .button, .segments span, input[type=range]"
    return page.evaluate(
        """(controls) => [...document.querySelectorAll(controls)]
          .filter((control) => control.checkVisibility())
          .map((control) => [control.getBoundingClientRect(), control.id || control.textContent.trim()])
          .filter(([{ width, height }]) => Math.min(width, height) < 43.9).map(([, name]) => name)""",
        controls,
    )


LUMINANCE = """
(colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map((value) => value / 255)
    .map((value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_controls_and_bars_stand_out_from_what_is_behind_them(open_page, scheme):
    page = open_page(color_scheme=scheme).page
    give_sample(page)

    def luminance(selector: str, colour: str) -> float:
        found = page.locator(selector).first.evaluate(f"(element) => getComputedStyle(element).{colour}")
        return page.evaluate(LUMINANCE, found)

    for front, behind in {
        ("#point", "borderTopColor"): (".drop", "backgroundColor"),
        ("#drop", "borderTopColor"): ("body", "backgroundColor"),
        (".best .fill", "backgroundColor"): (".bar", "backgroundColor"),
        ("tr:not(.best) .fill", "backgroundColor"): (".bar", "backgroundColor"),
        (".segments :checked + span", "borderTopColor"): (".segments", "backgroundColor"),
    }.items():
        low, high = sorted((luminance(*front), luminance(*behind)))
        assert (high + 0.05) / (low + 0.05) >= 3, front


def test_bars_are_seen_in_forced_colours(open_page):
    page = open_page(forced_colors="active").page
    give_sample(page)
    colours = [
        page.locator(name).first.evaluate("element => getComputedStyle(element).backgroundColor")
        for name in (".best .fill", ".bar")
    ]
    assert colours[0] != colours[1]


def model_view(page: Page) -> None:
    page.route("**/model/drift", lambda route: route.fulfill(json=DRIFT))
    page.get_by_role("link", name="Model").click()
    expect(page.locator("#card h2").first).to_contain_text("Model card")
    page.get_by_text("Drift, feature by feature").click()


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
    assert focused(page) == "folder"
    press("Tab")
    assert focused(page) == "Live camera"
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
    expect(page.locator("#reason")).to_contain_text("What speaks for airplane")


ENLARGE = "document.documentElement.style.fontSize = '200%'"


@pytest.mark.parametrize("width", [320, 360, 768])
def test_with_text_of_twice_the_size_nothing_scrolls_sideways(open_page, width):
    page = open_page(viewport={"width": width, "height": WIDTHS.get(width, 568)}).page
    page.evaluate(ENLARGE)

    def check(state: str) -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= width, state

    check("first sight")
    give_sample(page)
    unfold(page)
    check("answer")
    give(page, *MANY)
    expect(page.locator("#batch-title")).to_have_text("6 pictures")
    check("table")
    page.get_by_role("button", name="dog.png").click()
    expect_answer(page, "dog.png")
    page.locator("#truth").select_option("cat")
    check("row")
    page.get_by_role("button", name="Back").click()
    check("corrected")
    page.get_by_role("button", name="Live camera").click()
    expect(page.locator("#live-detail")).not_to_be_empty()
    reading, buttons = (page.locator(f"#camera {part}").bounding_box() for part in (".reading", ".choices"))
    assert reading["y"] + reading["height"] <= buttons["y"]
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Model").click()
    expect(page.locator("#card h2").first).to_be_visible()
    page.get_by_text("Drift, feature by feature").click()
    check("model")


def test_a_change_of_the_view_is_announced(page):
    page.get_by_role("link", name="Model").click()
    expect(page.locator("#announcement")).to_have_text("Glimpse: the model and its service")
    page.go_back()
    expect(page.locator("#announcement")).to_have_text("Glimpse: what is in the picture?")


def test_a_strange_file_name_does_not_turn_the_line_around(page):
    give(page, ("evil\u202egpj.png", CAT))
    expect(page.locator("#about bdi")).to_have_text("evil\u202egpj.png")
    expect(page.locator("#about")).to_contain_text(" · ")


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
    unfold(page)
    assert prefix + "predict" in page.locator("#curl").inner_text()
    page.get_by_role("link", name="Model").click()
    expect(page.locator("#card h2").first).to_contain_text("Model card")
    expect(page.locator(".tile").first).to_contain_text("ready")
    assert page.locator("#card img").first.get_attribute("src").startswith(prefix + "model/report/")


def test_the_page_promises_that_nothing_is_kept_and_keeps_nothing(page):
    expect(page.get_by_text("Your pictures are not stored").last).to_be_visible()
    give_sample(page)
    databases = "(await indexedDB.databases()).length"
    kept = f"async () => [localStorage.length, sessionStorage.length, document.cookie, {databases}]"
    assert page.evaluate(kept) == [0, 0, "", 0]
