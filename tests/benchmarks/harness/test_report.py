import dataclasses

from PIL import Image

from benchmarks.harness.report import closed_rows, draw_latency, opened_rows, overload_rows, peak
from tests.benchmarks.samples import LOAD, OFFERED, RESULTS


def test_a_closed_loop_is_shown_with_its_share_of_the_cores():
    first, second = closed_rows(RESULTS)
    assert (first["connections"], first["requests/s"], first["of the cores"], first["errors"]) == (8, 2_000, "50%", 100)
    assert second["of the cores"] == "75%"


def test_a_batch_counts_its_images_and_an_explanation_has_no_share():
    batch, explained = dataclasses.replace(LOAD, images=2), dataclasses.replace(LOAD, body="PNG 32×32, explained")
    rows = closed_rows(dataclasses.replace(RESULTS, closed=[batch, explained]))
    assert [row["of the cores"] for row in rows] == ["100%", "–"]


def test_overload_is_shown_with_its_share_of_the_peak_and_of_refusals():
    (row,) = overload_rows(RESULTS.overload)
    assert (row["of the peak"], row["refused"], row["probes failed"]) == ("90%", "55%", "1 of 40")
    assert (row["MB before"], row["MB after"]) == (400, 410)


def test_the_whole_report_has_every_table():
    text = str(RESULTS)
    assert "180, 175 MB resident" in text
    assert "core ms an image" in text
    assert opened_rows(RESULTS.opened)[0]["good/s"] == 450
    assert all(head in text for head in ("of the cores", "late p99 ms", "refusal p50 ms"))


def test_the_peak_is_the_best_rate_of_one_body():
    other = dataclasses.replace(LOAD, body="JPEG", requests=90_000)
    assert peak([*RESULTS.closed, other], LOAD.body) == 3_000


def test_latency_is_drawn_even_if_a_rate_got_no_answer(tmp_path):
    silent = dataclasses.replace(OFFERED, p50_ms=None, p99_ms=None, rate=2_000.0)
    closed = [dataclasses.replace(load, body=OFFERED.body) for load in RESULTS.closed]
    path = tmp_path / "new" / "latency.png"
    draw_latency(dataclasses.replace(RESULTS, closed=closed, opened=[OFFERED, silent]), path)
    with Image.open(path) as image:
        assert image.format == "PNG"
