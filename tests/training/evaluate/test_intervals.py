"""An accuracy is printed with its interval, and a difference is judged by its standard error."""

import numpy as np
import pytest

from training.evaluate.intervals import (
    accuracy_with_interval,
    paired_difference,
    unpaired_difference,
)


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


@pytest.mark.parametrize(
    ("new", "old", "change"),
    [
        ((0, 11), (0, 12), "1 fewer right, within chance"),
        ((0, 12), (0, 12), "as many right"),
        ((0, 12), (0, 8), "4 more right"),
        ((0, 1), (0, 12), "11 fewer right"),
    ],
)
def test_a_change_of_version_is_counted_in_images(new, old, change):
    assert paired_difference(right_on(12, new), right_on(12, old)).change == change
