import dataclasses

import pytest
from PIL import Image

from benchmarks import plots, results
from benchmarks.batches import BatchStudy
from benchmarks.cores import CoreStudy
from benchmarks.document import FOLDER
from benchmarks.results import Results
from benchmarks.scaling import STUDIES
from benchmarks.sizes import SizeStudy
from tests.benchmarks.made import OFFERED, RESULTS
from tests.benchmarks.test_document import LIMIT_BYTES

KINDS = {"cores": CoreStudy, "sizes": SizeStudy, "batches": BatchStudy}


def check(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
    assert path.stat().st_size < LIMIT_BYTES


def test_latency_is_drawn_with_rates_that_got_no_answer(tmp_path):
    silent = dataclasses.replace(OFFERED, p50_ms=None, p99_ms=None, rate=2_000.0)
    closed = [dataclasses.replace(load, body=OFFERED.body) for load in RESULTS.closed]
    found = dataclasses.replace(RESULTS, closed=closed, opened=[OFFERED, silent])
    plots.save(plots.latency(found), tmp_path / "new" / "latency.png")
    check(tmp_path / "new" / "latency.png")


@pytest.mark.parametrize("name", STUDIES)
def test_studies_are_drawn(tmp_path, name):
    plots.save(STUDIES[name].draw(results.read(KINDS[name], FOLDER / f"{name}.json")), tmp_path / "plot.png")
    check(tmp_path / "plot.png")


def test_the_published_run_is_of_the_service_as_it_starts():
    found = results.read(Results, FOLDER / "service.json")
    assert {load.connections for load in found.closed} >= {1, 2, 8, 32, 128}
    assert [overload.factor for overload in found.overload] == [2, 5]
