import pytest

from benchmarks.report import save
from benchmarks.scaling import SIDES, STUDIES, draw, powers_of_two
from model_store.images.formats import MAX_PIXELS, check_size

ROWS = {
    "cores": [
        {"request": name, "cores": cores, "requests/s": cores * 400.0, "p99 ms": 9.0}
        for name in ("PNG", "JPEG")
        for cores in (1, 2)
    ],
    "sizes": [{"request": "PNG", "megapixels": size, "requests/s": 1 / size, "p99 ms": size} for size in (0.1, 40.0)],
    "batches": [{"call": "/predict/batch", "images": count, "images/s": 300.0, "p50 ms": 2.0} for count in (1, 256)],
}


def test_sizes_reach_the_limit_and_not_beyond():
    check_size(SIDES[-1], SIDES[-1])
    assert (SIDES[-1] + 1) ** 2 > MAX_PIXELS


def test_powers_of_two_include_the_largest():
    assert list(powers_of_two(8)) == [1, 2, 4, 8]
    assert list(powers_of_two(9)) == [1, 2, 4, 8]


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_drawn_by_its_columns(tmp_path, name):
    figure = draw(STUDIES[name], ROWS[name])
    left, right = figure.axes
    assert (left.get_ylabel(), right.get_ylabel()) == (STUDIES[name].left, STUDIES[name].right)
    assert len(left.lines) == len({next(iter(row.values())) for row in ROWS[name]})
    save(figure, tmp_path / "study.png")
    assert (tmp_path / "study.png").stat().st_size > 0
