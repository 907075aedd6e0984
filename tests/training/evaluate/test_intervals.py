"""Intervals are Wilson's, and a difference is judged by its standard error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluate.intervals import (
    accuracy_with_interval,
    paired_difference,
    unpaired_difference,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_that_of_the_literature(right, n, low, high):
    """Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3."""
    assert wilson_interval(right, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    mirrored = wilson_interval(n - right, n)
    assert mirrored == (pytest.approx(1 - high, abs=5e-5), pytest.approx(1 - low, abs=5e-5))


@given(st.integers(0, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_lies_within_0_and_1(counts):
    right, n = counts
    low, high = wilson_interval(right, n)
    assert 0 <= low <= (right / n if n else 0) + 1e-12 and (right / n if n else 1) - 1e-12 <= high <= 1


def test_intervals_of_several_shares_are_computed_at_once():
    low, high = wilson_interval(np.array([81, 0]), np.array([263, 0]))
    np.testing.assert_allclose(low, [0.2553, 0], atol=5e-5)
    np.testing.assert_allclose(high, [0.3662, 1], atol=5e-5)


@pytest.mark.parametrize(
    ("right", "n", "text"),
    [
        (9_571, 10_000, "95.71% of 10,000 (95% interval 95.29% to 96.09%)"),
        (37, 40, "92.5% of 40 (95% interval 80.1% to 97.4%)"),
        (40, 40, "100.0% of 40 (95% interval 91.2% to 100.0%)"),
        (0, 0, "unknown, of 0 images"),
    ],
)
def test_an_accuracy_is_printed_with_n_and_its_interval(right, n, text):
    assert accuracy_with_interval(right, n) == text


def right_on(n, *spans):
    """(n,) of bool: True in the spans."""
    right = np.zeros(n, np.bool_)
    for start, end in spans:
        right[start:end] = True
    return right


def test_the_paired_standard_error_is_of_the_images_on_which_the_networks_differ():
    difference = paired_difference(right_on(100, (0, 80)), right_on(100, (5, 95)))
    assert (difference.new, difference.old, difference.n) == (0.8, 0.9, 100)
    assert difference.standard_error == pytest.approx(20**0.5 / 100)
    assert str(difference) == (
        "80.00% against 90.00% of 100 test images, a difference of -10.00 points with a standard error of 4.47"
    )


@pytest.mark.parametrize(
    ("new", "old", "is_loss"),
    [
        pytest.param((0, 90), (0, 90), False, id="the same"),
        pytest.param((0, 91), (0, 90), False, id="better"),
        pytest.param((0, 89), (0, 90), False, id="a single image worse"),
        pytest.param((0, 88), (0, 90), True, id="two images worse, and right on no other"),
        pytest.param((10, 98), (0, 90), False, id="two images worse, but they differ on eighteen"),
        pytest.param((0, 0), (0, 100), True, id="never right against always"),
    ],
)
def test_a_loss_is_worse_by_more_than_a_standard_error(new, old, is_loss):
    assert paired_difference(right_on(100, new), right_on(100, old)).is_loss is is_loss


def test_two_accuracies_alone_have_the_larger_standard_error_of_independent_images():
    difference = unpaired_difference(0.8, 0.9, 100)
    assert difference.standard_error == pytest.approx(0.05) and difference.is_loss
    assert not unpaired_difference(0.87, 0.9, 100).is_loss
