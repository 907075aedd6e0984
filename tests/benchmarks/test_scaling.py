from benchmarks.scaling import SIDES, powers_of_two
from model_store.images.formats import MAX_PIXELS, check_size


def test_sizes_reach_the_limit_and_not_beyond():
    check_size(SIDES[-1], SIDES[-1])
    assert (SIDES[-1] + 1) ** 2 > MAX_PIXELS


def test_powers_of_two_include_the_largest():
    assert list(powers_of_two(8)) == [1, 2, 4, 8]
    assert list(powers_of_two(9)) == [1, 2, 4, 8]
