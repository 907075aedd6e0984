"""Many pictures at once: the table, what is beside it, accuracy, corrections and downloads."""

import csv
import io
import re
import zipfile
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.app.conftest import png
from tests.page.test_page import (
    BROKEN,
    CAT,
    MADE_TO_FAIL,
    MANY,
    RECORD,
    SENT,
    WIDTHS,
    expect_answer,
    focused,
    give,
    photo,
    small_targets,
)
from training.data.image_folder import load_images

pytestmark = [pytest.mark.browser, pytest.mark.process]
LABELS = [name.removesuffix(".png") for name, _ in MANY]  # what the network calls them, too


def names(page: Page) -> list[str]:
    return page.locator("#results tr:not([hidden]) th").all_text_contents()


def title(page: Page, text: str) -> None:
    expect(page.locator("#batch-title")).to_have_text(text)


def button(page: Page, name: str):
    return page.get_by_role("button", name=name)


def choose(page: Page, name: str) -> None:
    page.locator("#filters label", has_text=re.compile(rf"^{name}")).click()


def downloaded(page: Page, name: str) -> Path:
    with page.expect_download() as download:
        button(page, name).click()
    return download.value.path()


def lines(page: Page) -> list[dict[str, str]]:
    text = downloaded(page, "Download CSV").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two pictures in folders of their classes, one in another's, one outside, a damaged one, and other files."""
    content = dict(MANY)
    root = tmp_path / "my pictures"
    for path, data in {
        "Cats/2.png": content["cat.png"],
        "Cats/10.png": content["dog.png"],
        "ship/a.png": content["ship.png"],
        "b.png": content["frog.png"],
        "ship/cut.png": CAT[:900],
        "ship/._a.png": b"\0\5\26\7",
        "notes.txt": b"Dear diary",
        "Cats/.DS_Store": b"\0",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


PATHS = ["b.png", "Cats/2.png", "Cats/10.png", "ship/a.png", "ship/cut.png"]


def give_folder(page: Page, folder: Path) -> None:
    page.set_input_files("#folder", folder)
    title(page, "5 pictures")


def drop(page: Page, *paths: Path) -> None:
    """Drop files and folders as a person does, not as a script can."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 200, "data": data})


@pytest.mark.parametrize("way", [give_folder, drop])
def test_a_folder_keeps_its_paths_and_its_other_files_are_counted(page, folder, way):
    way(page, folder)
    title(page, "5 pictures")
    assert names(page) == [f"my pictures/{path}" for path in PATHS]
    expect(page.locator("#left-out")).to_have_text("3 other files left out, not named like a picture.")
    found = lines(page)
    assert [line["file"] for line in found] == [f"my pictures/{path}" for path in PATHS]
    assert [line["label"] for line in found] == ["frog", "cat", "dog", "ship", ""]
    assert [line["true_label"] for line in found] == ["", "cat", "cat", "ship", "ship"]
    assert "cannot be used" in found[4]["problem"]


def test_the_workbench_is_loaded_before_it_is_needed(page):
    with page.expect_response("**/js/batch/batch.js"):
        page.reload()


def test_a_workbench_that_could_not_be_loaded_is_loaded_when_it_is_needed(tolerant):
    page = tolerant
    page.route("**/js/batch/*", lambda route: route.abort())
    page.reload()
    give(page, *MANY)
    expect(page.locator("#verdict")).to_have_text("A part of this page could not be loaded.")
    expect(page.locator("#batch")).to_be_hidden()
    page.unroute("**/js/batch/*")
    button(page, "Try again").click()
    title(page, f"{len(MANY)} pictures")
    expect(page.locator("#answer")).to_be_hidden()


def test_a_folder_without_pictures_says_so(page, tmp_path):
    (tmp_path / "notes").mkdir()
    for name in ("a.txt", "b.svg"):
        (tmp_path / "notes" / name).write_text("no picture")
    page.set_input_files("#folder", tmp_path / "notes")
    title(page, "0 pictures")
    expect(page.locator("#left-out")).to_contain_text("2 other files")
    expect(button(page, "Download CSV")).to_be_disabled()


def test_the_table_is_sorted_by_any_column(page):
    given = [name for name, _ in MANY]
    give(page, *MANY, *BROKEN)
    title(page, "7 pictures")
    by_path = sorted([*given, "cut.png"])
    assert names(page) == by_path
    expect(page.locator("#results .failed")).to_contain_text("That picture cannot be used.")
    button(page, "Answer").click()
    assert names(page) == [*given, "cut.png"]  # the labels are the names; what has none comes last
    button(page, "Answer").click()
    assert names(page) == [*reversed(given), "cut.png"]
    button(page, "How sure").click()
    expect(page.locator("th[aria-sort]")).to_have_text("How sure")
    expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")
    shares = [float(line["confidence"]) for line in lines(page) if line["label"]]
    assert [name.removesuffix(".png") for name in names(page)[:6]] == [
        label for _, label in sorted(zip(shares, LABELS, strict=True), reverse=True)
    ]
    assert [line["file"] for line in lines(page)] == by_path


def altered(page: Page, change: dict[str, dict]) -> None:
    """Let the service answer as it does, but change the predictions of some labels."""

    def answer(route) -> None:
        response = route.fetch()
        results = response.json()["results"]
        for result in results:
            if "prediction" in result:
                result["prediction"] |= change.get(result["prediction"]["label"], {})
        route.fulfill(response=response, json={"results": results})

    page.route("**/predict/batch", answer)


def test_counts_filter_the_table(page):
    altered(
        page,
        {label: {"verdict": "confident"} for label in LABELS}
        | {"dog": {"verdict": "unsure"}, "frog": {"verdict": "none_of_these"}},
    )
    give(page, *MANY, *BROKEN)
    title(page, "7 pictures")
    said = "7 pictures: 4 sure, 1 not sure, 1 unusual, 1 failed."
    expect(page.locator("#announcement")).to_have_text(said)
    filters = page.locator("#filters label:not([hidden])")
    assert [re.sub(r"\s+", " ", text) for text in filters.all_inner_texts()] == [
        "All 7",
        "Sure 4",
        "Not sure 1",
        "Unusual 1",
        "Failed 1",
    ]
    for name, kept in {
        "Not sure": ["dog.png"],
        "Unusual": ["frog.png"],
        "Failed": ["cut.png"],
        "Sure": ["airplane.png", "bird.png", "cat.png", "ship.png"],
    }.items():
        choose(page, name)
        assert names(page) == kept
        expect(page.locator("#announcement")).to_have_text(re.compile(rf"^{len(kept)} pictures? shown\.$"))
    choose(page, "All")
    assert len(names(page)) == 7


def test_a_row_opens_beside_the_table_arrows_walk_and_the_focus_returns(page):
    press = page.keyboard.press
    give(page, *MANY)
    title(page, "6 pictures")
    button(page, "frog.png").focus()
    press("ArrowUp")
    assert focused(page) == "dog.png"
    press("End")
    press("ArrowDown")  # there is no further one
    assert focused(page) == "ship.png"
    press("Home")
    press("ArrowDown")
    press("Enter")
    expect_answer(page, "bird.png")
    assert focused(page).startswith("Back")  # what is done with a picture follows
    table, answer = (page.locator(name).bounding_box() for name in ("#batch", "#answer"))
    assert table["x"] + table["width"] <= answer["x"]
    expect(page.locator("#position")).to_have_text("2 of 6")
    press("ArrowRight")
    expect_answer(page, "cat.png")
    expect(page.locator("#results [aria-current]")).to_contain_text("cat.png")
    press("ArrowLeft")
    press("ArrowLeft")
    press("ArrowLeft")  # there is none before the first
    expect_answer(page, "airplane.png")
    expect(button(page, "Previous picture")).to_have_attribute("aria-disabled", "true")
    button(page, "Next picture").click()
    expect_answer(page, "bird.png")
    assert page.evaluate("document.activeElement.id") == "next"
    page.locator("#truth").focus()
    press("Escape")
    expect(page.locator("#answer")).to_be_hidden()
    assert focused(page) == "bird.png"
    expect(page.locator("#results [aria-current]")).to_have_count(0)


@pytest.fixture
def tolerant(watched) -> Page:
    """A page whose requests may fail."""
    watched.expected.append(MADE_TO_FAIL)
    return watched.page


def test_arrows_walk_what_a_filter_leaves(tolerant, folder):
    page = tolerant
    give_folder(page, folder)
    choose(page, "Wrong")
    assert names(page) == ["my pictures/Cats/10.png"]
    button(page, "10.png").click()
    expect(page.locator("#about")).to_contain_text("my pictures/Cats/10.png · ")
    expect(page.locator("#position")).to_have_text("1 of 1")
    choose(page, "All")
    expect(page.locator("#position")).to_have_text("3 of 5")
    page.keyboard.press("Escape")
    choose(page, "Failed")
    button(page, "cut.png").click()
    expect(page.locator("#answer")).to_contain_text("That picture cannot be used.")
    expect(page.locator("#correction")).to_be_hidden()


def test_a_cancelled_answer_returns_to_its_row(page):
    give(page, *MANY)
    title(page, "6 pictures")
    page.route("**/predict?*", lambda route: None)
    button(page, "dog.png").click()
    button(page, "Cancel").click()
    expect(page.locator("#pager")).to_be_hidden()
    assert focused(page) == "dog.png"


def test_a_picture_of_its_own_leaves_the_table_open(page):
    give(page, *MANY)
    title(page, "6 pictures")
    button(page, "dog.png").click()
    expect_answer(page, "dog.png")
    give(page, ("other.png", CAT))
    expect_answer(page, "other.png")
    expect(page.locator("#results [aria-current]")).to_have_count(0)
    expect(button(page, "Next picture")).to_be_hidden()
    expect(page.locator("#correction")).to_be_hidden()
    button(page, "Back").click()
    expect(page.locator("#answer")).to_be_hidden()
    assert len(names(page)) == 6


def test_more_pictures_than_one_request_takes_are_sent_in_several(page):
    sent = []
    page.on("request", lambda request: sent.append(request) if request.url.endswith("/predict/batch") else None)
    give(page, *((f"{index}.png", png(index)) for index in range(150)))
    title(page, "150 pictures")
    assert [len(request.response().json()["results"]) for request in sent] == [8, 16, 32, 64, 30]
    assert names(page) == [f"{index}.png" for index in range(150)]


def test_photos_are_made_smaller_before_they_are_sent(page):
    page.evaluate(RECORD)
    give(page, ("large.jpg", photo(2000, 1000)), ("cat.png", CAT))
    title(page, "2 pictures")
    assert [file["size"] for file in page.evaluate(SENT)] == [[32, 32], [1024, 512]]
    for image, width in zip(page.locator("#results img").all(), (32, 128), strict=True):  # that it draws quickly
        expect(image).to_have_js_property("naturalWidth", width)


def test_rows_that_were_not_reached_can_be_tried_again(tolerant):
    tolerant.wait_for_load_state("networkidle")
    tolerant.context.set_offline(True)
    give(tolerant, *MANY)
    expect(tolerant.locator("#results .failed")).to_have_count(6)
    tolerant.context.set_offline(False)
    button(tolerant, "Try 6 again").focus()
    tolerant.keyboard.press("Enter")
    expect(tolerant.locator("#results .failed")).to_have_count(0)
    expect(tolerant.locator("#resend")).to_be_hidden()
    assert focused(tolerant) == "6 pictures"


def test_sending_can_be_stopped_and_goes_on_later(page):
    held = []
    page.route("**/predict/batch", lambda route: held.append(route))
    give(page, *((f"{index}.png", png(index)) for index in range(200)))
    title(page, "0 of 200 pictures")
    while not held:
        page.wait_for_timeout(10)
    held[0].continue_()
    title(page, "8 of 200 pictures")
    expect(page.locator("#announcement")).to_have_text("Looking at 200 pictures…")
    button(page, "Stop").click()
    page.unroute("**/predict/batch")
    expect(page.locator("#announcement")).to_have_text("Stopped. 8 of 200 pictures.")
    title(page, "8 of 200 pictures")
    expect(page.locator("#results .waiting")).to_have_count(192)
    button(page, "Go on with 192").click()
    expect(page.locator("#results .waiting")).to_have_count(0)
    title(page, "200 pictures")
    expect(page.locator("#resend")).to_be_hidden()


def test_folders_named_like_classes_give_accuracy_and_a_confusion_matrix(page, folder):
    give_folder(page, folder)
    expect(page.locator("#score")).to_contain_text("66.7 % right")
    expect(page.locator("#score")).to_contain_text("2 of 3 pictures")
    expect(page.locator("#score")).to_contain_text("95 % interval: 20.8 to 93.9 %")  # Wilson's
    page.get_by_text("What was mixed up with what").click()
    rows = page.locator("#matrix tr").all_inner_texts()
    assert [row.split() for row in rows] == [["cat", "dog", "ship"], ["cat", "1", "1", "0"], ["ship", "0", "0", "1"]]
    cell = button(page, "1 picture: cat, called dog")
    cell.click()
    expect(cell).to_have_attribute("aria-pressed", "true")
    assert names(page) == ["my pictures/Cats/10.png"]
    choose(page, "All")
    expect(cell).to_have_attribute("aria-pressed", "false")
    assert len(names(page)) == 5


def test_other_folders_give_no_accuracy(page, tmp_path):
    for name, content in MANY:
        (tmp_path / "holiday").mkdir(exist_ok=True)
        (tmp_path / "holiday" / name).write_bytes(content)
    page.set_input_files("#folder", tmp_path / "holiday")
    title(page, "6 pictures")
    expect(page.locator("#accuracy")).to_be_hidden()
    assert "true_label" not in lines(page)[0]


def test_classes_are_read_off_folders_in_any_case_and_number(page):
    found = page.evaluate(
        """async () => {
          const { classReader } = await import("./page/js/paths.js");
          const read = classReader(["cat", "fox", "oak leaf", "deer", "Zoë"]);
          return ["cat/1.png", "my/CATS/1.png", "foxes/1.png", "Oak_Leaf/1.png", "cat/deer/1.png", "deer/x/1.png",
            "Zoe\\u0308/1.png", "cat.png", "category/1.png"].map((path) => read(path) ?? null);
        }"""
    )
    assert found == ["cat", "cat", "fox", "oak leaf", "deer", "deer", "Zoë", None, None]


def module(page: Page, name: str) -> str:
    """The address of a module as the page itself imports it."""
    return page.locator("script[type=module]").evaluate("script => script.src").replace("page.js", f"{name}.js")


def test_a_matrix_of_many_classes_has_those_that_are_mixed_up_most(page):
    page.evaluate(
        """async (address) => {
          const { showAccuracy } = await import(address);
          const named = (index) => `kind ${String(index).padStart(3, "0")}`;
          const entry = (folder, label) => ({ folder, prediction: { label } });
          const right = Array.from({ length: 300 }, (_, index) => entry(named(index), named(index)));
          showAccuracy([...right, entry(named(7), named(250)), entry(named(7), named(250))]);
        }""",
        module(page, "batch/accuracy"),
    )
    expect(page.locator("#matrix-note")).to_contain_text(
        "Of 300 classes, the 25 that are mixed up most.", use_inner_text=False
    )
    heads = page.locator("#matrix thead th").all_text_contents()
    assert len(heads) == 25 and {"kind 007", "kind 250"} <= set(heads)


def correct(page: Page, name: str, label: str) -> None:
    button(page, name).click()
    expect(page.locator("#correction")).to_be_visible()
    if label in page.locator("#truth option").evaluate_all("options => options.map((option) => option.value)"):
        page.locator("#truth").select_option(label)
    else:
        page.locator("#truth").select_option("something else…")
        page.get_by_label("Another word").fill(label)
        page.get_by_label("Another word").press("Enter")
        assert page.evaluate("document.activeElement.id") == "truth"
    expect(page.locator("#announcement")).to_have_text(f"Corrected: {label}.")


def test_a_correction_is_shown_and_can_be_taken_back(page, folder):
    give_folder(page, folder)
    correct(page, "b.png", "tree frog")
    row = page.locator("#results tr", has_text="b.png")
    expect(row).to_contain_text("should be tree frog")
    expect(page.locator("#labelled-count")).to_contain_text("1 picture corrected.")
    correct(page, "10.png", "dog")  # its folder says cat
    expect(page.locator("#score")).to_contain_text("100.0 % right")
    assert [line["true_label"] for line in lines(page)] == ["tree frog", "cat", "dog", "ship", "ship"]
    page.locator("#truth").select_option("cat (its folder)")
    expect(page.locator("#score")).to_contain_text("66.7 % right")
    button(page, "b.png").click()
    expect(page.locator("#announcement")).to_contain_text("Looks like")  # or else it would follow the next words
    page.locator("#truth").select_option("choose a word")
    expect(page.locator("#announcement")).to_have_text("Correction taken back.")
    expect(row).not_to_contain_text("should be")
    expect(page.locator("#labelled")).to_be_hidden()


def test_arrows_that_pass_through_the_words_correct_nothing(page):
    give(page, *MANY)
    title(page, "6 pictures")
    button(page, "dog.png").click()
    expect_answer(page, "dog.png")
    page.locator("#truth").focus()
    for _ in range(11):
        page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.id") == "word"
    page.keyboard.press("Enter")
    expect(page.locator("#labelled")).to_be_hidden()
    assert "true_label" not in lines(page)[0]


def test_all_rows_are_printed_with_the_answer_that_is_open(page):
    give(page, *((f"{index}.png", png(index)) for index in range(40)))
    title(page, "40 pictures")
    button(page, "0.png").first.click()
    expect_answer(page, "0.png")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 900})
    rows, region = (page.locator(name).bounding_box() for name in ("#results", ".answers"))
    assert rows["height"] > 40 * 40 and region["height"] >= rows["height"]
    expect(page.locator("#answer")).to_be_visible()
    expect(page.locator(".intake")).to_be_hidden()


def test_corrections_and_others_are_downloaded_as_a_folder_that_own_trains_on(page, tmp_path):
    for index in range(22):
        path = tmp_path / "given" / ("cat", "ship")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(index))
    page.set_input_files("#folder", tmp_path / "given")
    title(page, "22 pictures")
    correct(page, "/0.png", "ship")
    expect(page.locator("#labelled-note")).to_contain_text("That needs 10 pictures of each; too few: ship (1).")
    with page.expect_download() as download:
        button(page, "Download as folders").press("Enter")
    expect(page.locator("#announcement")).to_have_text("1 picture downloaded as folders.")
    assert page.evaluate("document.activeElement.id") == "zip"
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.namelist() == ["ship/0.png"] and archive.testzip() is None
        assert archive.read("ship/0.png") == png(0)
    page.get_by_text("With the 21 others").click()
    expect(page.locator("#labelled-note")).not_to_contain_text("too few")
    with zipfile.ZipFile(downloaded(page, "Download as folders")) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "labelled")
    own = load_images(tmp_path / "labelled")
    assert own.labels == ("cat", "ship")
    assert sum(len(part) for part in (own.train, own.val, own.test)) == 22
    assert sorted(path.name for path in (tmp_path / "labelled" / "ship").iterdir()) == sorted(
        ["0.png", *(f"{index}.png" for index in range(1, 22, 2))]
    )


def test_names_in_the_download_are_ones_that_every_system_can_write(page):
    found = page.evaluate(
        """async ([address, given]) => {
          const { pathsOf } = await import(address);
          return pathsOf(given.map(([label, name]) => [label, new File([], name)])).map(([path]) => path);
        }""",
        [
            module(page, "batch/labelled"),
            [
                *(("cat", "a.png"), ("cat", "A.png"), ("dog", "a.png"), ("cat", "a.png")),
                *(("../x", 'b<1>:"?*|.png'), ("..", ".."), ("Zoë\n猫", "noending"), ("end. ", ".hidden.png")),
            ],
        ],
    )
    assert found == [
        "cat/a.png",
        "cat/A (2).png",
        "dog/a.png",
        "cat/a (3).png",
        "__x/b_1______.png",
        "_/_",
        "Zoë_猫/noending",
        "end_/_hidden.png",
    ]


def test_more_than_a_zip_file_holds_is_said(page):
    found = page.evaluate(
        """async () => {
          const { zip } = await import("./page/js/batch/zip.js");
          const said = (files) => zip(files).catch((error) => `${error.name}: ${error.message}`);
          return [await said(Array(65536).fill(["a", new File([], "a")])), await said([["a", { size: 5e9 }]])];
        }"""
    )
    assert found == [
        "RangeError: A ZIP file holds 65,535 pictures, not 65,536. Give a part of them.",
        "RangeError: A ZIP file holds 4.3 GB, and these pictures have 5.0 GB. Give a part of them.",
    ]


def test_a_picture_that_has_changed_on_disk_is_not_downloaded(tolerant, folder):
    give_folder(tolerant, folder)
    correct(tolerant, "b.png", "bird")
    (folder / "b.png").write_bytes(CAT)
    button(tolerant, "Download as folders").click()
    expect(tolerant.locator("#labelled-note")).to_contain_text("No download. A picture can no longer be read.")


def test_a_reload_warns_before_it_loses_a_batch(page):
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.reload()
    assert asked == []
    give(page, *MANY)
    title(page, "6 pictures")
    page.locator("#question").click()  # browsers ask only those who have used the page
    page.reload()
    assert asked == ["beforeunload"]
    give(page, *MANY)
    title(page, "6 pictures")
    button(page, "Clear").click()
    page.reload()
    assert asked == ["beforeunload"]


def test_corrections_are_not_replaced_without_a_question(page):
    give(page, *MANY)
    title(page, "6 pictures")
    correct(page, "dog.png", "cat")
    page.once("dialog", lambda dialog: dialog.dismiss())
    give(page, *MANY[:2])
    title(page, "6 pictures")
    page.once("dialog", lambda dialog: dialog.accept())
    give(page, *MANY[:2])
    title(page, "2 pictures")
    expect(page.locator("#labelled")).to_be_hidden()


def test_on_a_phone_rows_are_cards_and_one_takes_the_place_of_the_table(open_page):
    page = open_page(viewport={"width": 360, "height": 740}).page
    give(page, *MANY)
    title(page, "6 pictures")
    for part in (".judged .chip", ".number", ".label", "th button", "img"):
        box = page.locator(f"#results tr:first-child {part}").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360, part
    button(page, "dog.png").click()
    expect_answer(page, "dog.png")
    expect(page.locator("#batch")).to_be_hidden()
    for part in ("#next", "#truth", "#verdict"):
        expect(page.locator(part)).to_be_in_viewport(ratio=1)
    button(page, "Next picture").click()
    expect_answer(page, "frog.png")
    button(page, "Back").click()
    expect(page.locator("#results tr", has_text="frog.png")).to_be_in_viewport()
    assert focused(page) == "frog.png"


def sending(page: Page, folder: Path) -> None:
    page.route("**/predict/batch", lambda route: None)
    page.set_input_files("#folder", folder)
    title(page, "0 of 5 pictures")
    page.unroute("**/predict/batch")


def given(page: Page, folder: Path) -> None:
    give_folder(page, folder)
    page.get_by_text("What was mixed up with what").click()
    button(page, "1 picture: cat, called dog").click()


def opened(page: Page, _: Path) -> None:
    button(page, "10.png").click()
    expect_answer(page, "10.png")
    page.locator("#truth").select_option("something else…")


def corrected(page: Page, _: Path) -> None:
    page.get_by_label("Another word").fill("tiger")
    button(page, "Save").click()
    button(page, "Back").click()


def failed(page: Page, _: Path) -> None:
    choose(page, "Failed")


STATES = [sending, given, opened, corrected, failed]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_state_of_the_table_is_accessible_and_nothing_scrolls_sideways(open_page, folder, width, scheme):
    watched = open_page(viewport={"width": width, "height": WIDTHS[width]}, color_scheme=scheme)
    page, axe = watched.page, Axe()
    for reach in STATES:
        reach(page, folder)
        results = axe.run(page)
        assert results.violations_count == 0, reach.__name__ + results.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, reach.__name__
        assert small_targets(page) == [], reach.__name__


def test_the_open_row_and_the_chosen_filter_are_seen_in_forced_colours(open_page):
    page = open_page(forced_colors="active").page
    give(page, *MANY)
    title(page, "6 pictures")
    choose(page, "Sure")
    button(page, "dog.png").click()
    for name in ("#results [aria-current]", "#filters input:checked + .chip"):
        assert page.locator(name).evaluate("element => getComputedStyle(element).outlineStyle") == "solid"


def test_the_table_is_a_table_in_the_accessibility_tree(page, folder):
    give_folder(page, folder)
    expect(page.get_by_role("region", name="All answers")).to_match_aria_snapshot("""
        - region "All answers":
          - table /The answer for each picture/:
            - rowgroup:
              - row:
                - columnheader "Picture"
                - columnheader "File"
                - columnheader "Answer"
                - columnheader "How sure"
                - columnheader "Verdict"
            - rowgroup:
              - row /b.png frog/
              - row:
                - cell
                - rowheader "my pictures/Cats/2.png"
                - cell "cat"
                - cell /%/
                - cell "Sure"
              - row /10.png dog should be cat/
              - row /a.png ship/
              - row /cut.png That picture cannot be used/
    """)
