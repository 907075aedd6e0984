import dataclasses

import numpy as np
import pytest

from training.fit.views import make_views
from training.recipes import Distillation, Mixing, get_recipe

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("name", ["notebook", "notebook-augmented", "fast"])
def test_a_resumed_run_shows_the_views_that_an_uninterrupted_one_shows(name):
    short = dataclasses.replace(get_recipe(name), epochs=4)
    views = list(make_views(PIXELS, short, seed=1, first_epoch=0, count=16))
    resumed = list(make_views(PIXELS, short, seed=1, first_epoch=2, count=16))
    assert (len(views), len(resumed)) == (4, 2)
    for expected, actual in zip(views[2:], resumed, strict=True):
        for expected_array, actual_array in zip(expected, actual, strict=True):
            np.testing.assert_array_equal(actual_array, expected_array)


def test_a_view_shuffles_so_many_images_differently_in_every_epoch():
    first, second = make_views(PIXELS, dataclasses.replace(get_recipe("fast"), epochs=2), 1, 0, count=16)
    assert len(set(first.order)) == 16 and not np.array_equal(first.order, second.order)
    np.testing.assert_array_equal(first.shuffled, first.pixels[first.order])


def test_distillation_repeats_its_views_in_another_order():
    distillation = Distillation(temperature=2.0, mirrored=True, views=2)
    repeating = dataclasses.replace(get_recipe("small"), distillation=distillation, epochs=4)
    views = list(make_views(PIXELS, repeating, seed=1, first_epoch=0, count=20))
    np.testing.assert_array_equal(views[2].pixels, views[0].pixels)
    assert not np.array_equal(views[1].pixels, views[0].pixels)
    assert not np.array_equal(views[2].order, views[0].order)


def test_mixed_views_mix_their_targets_and_come_again_in_a_resumed_run():
    mixing = dataclasses.replace(get_recipe("fast"), epochs=3, mixing=Mixing("cutmix"))
    views = list(make_views(PIXELS, mixing, seed=1, first_epoch=0, count=20))
    (resumed,) = make_views(PIXELS, mixing, seed=1, first_epoch=2, count=20)
    np.testing.assert_array_equal(resumed.shuffled, views[2].shuffled)
    assert not np.array_equal(views[0].shuffled, views[0].pixels[views[0].order])
    targets = views[0].targets(np.eye(20, dtype=np.float32))
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(targets[np.arange(20), views[0].order], views[0].own, atol=1e-6)


def test_distillation_without_repetition_shows_a_fresh_view_in_every_epoch():
    distillation = Distillation(temperature=2.0, mirrored=True)
    fresh = dataclasses.replace(get_recipe("small"), distillation=distillation, epochs=4)
    views = list(make_views(PIXELS, fresh, seed=1, first_epoch=0, count=20))
    assert not any(np.array_equal(views[0].pixels, view.pixels) for view in views[1:])
