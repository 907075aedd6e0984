import pytest

from benchmarks import BenchmarkError
from benchmarks.harness.control_groups import control_group
from benchmarks.load import bodies
from benchmarks.sizing import MEGABYTE, Case, encoded, largest_body, measure

pytestmark = [pytest.mark.slow, pytest.mark.process]


def why_no_groups() -> str:
    try:
        with control_group("probe", 1, MEGABYTE):
            return ""
    except BenchmarkError as error:
        return str(error)


def test_in_256_megabytes_and_half_a_core_nothing_is_killed_and_large_images_are_refused():
    if reason := why_no_groups():
        pytest.skip(reason)
    small, png = bodies.pictures()[0], bodies.raw(encoded(4000, 3000, "PNG"))
    cases = [
        Case("small PNG", bodies.raw(small)),
        Case("JPEG of 12 MP", bodies.raw(encoded(4000, 3000, "JPEG"))),
        Case("PNG of 40 MP", bodies.raw(encoded(8000, 5000, "PNG")), 1, (422,)),
        Case("body of 31 MB", largest_body(), 1, (413,)),
        Case("PNG of 12 MP, 16 at once", png, 16),
        Case("batch of 256, 16 at once", bodies.batch(small, 256), 16),
    ]
    cell = measure(0.5, 256, libraries=None, seconds=0, cases=cases)
    assert cell.faults == [] and cell.kills == 0
    assert (cell.processes, cell.image_megabytes) == (1, 64)
    assert cell.pinned_megabytes < 240
    assert cell.outcomes["PNG of 40 MP"] == {"422 unusable_image": 1}
    assert cell.outcomes["body of 31 MB"] == {"413 too_large": 1}
