"""What a recipe's network is before its first epoch."""

import dataclasses

import keras
import numpy as np
import pytest

from training import networks
from training.fit import dtype_policy
from training.recipes import RECIPES, Airbench, Crops

SAMPLE = np.random.default_rng(0).normal(size=(20, 32, 32, 3)).astype(np.float32)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_network_computes_in_the_policy_it_is_built_under(policy):
    with dtype_policy(policy):
        model = networks.build(RECIPES["fast"].network, 10, SAMPLE, seed=0)
        assert keras.config.dtype_policy().name == policy
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    expected = "bfloat16" if policy == "mixed_bfloat16" else "float32"
    assert {layer.compute_dtype for layer in convolutions} == {expected}
    assert {layer.variable_dtype for layer in convolutions} == {"float32"}
    assert model.output.dtype == "float32"


def test_the_same_seed_gives_the_same_names_and_weights():
    small = Airbench(widths=(4, 4), activation="silu", batch_norm_momentum=0.9)
    first, second, other = (networks.build(small, 3, SAMPLE, seed) for seed in (1, 1, 2))
    assert first.to_json() == second.to_json() == other.to_json()
    pairs = list(zip(first.get_weights(), second.get_weights(), strict=True))
    assert all(np.array_equal(one, same) for one, same in pairs)
    assert not np.array_equal(first.get_weights()[-1], other.get_weights()[-1])


@pytest.mark.parametrize("convolutions", [2, 3])
def test_a_network_for_crops_has_the_weights_of_the_one_for_whole_images(convolutions):
    small = Airbench(widths=(4, 6, 6), activation="silu", batch_norm_momentum=0.9, convolutions=convolutions)
    whole, crops = (networks.build(small, 3, SAMPLE, 0, side) for side in (32, 24))
    assert [w.shape for w in whole.get_weights()] == [w.shape for w in crops.get_weights()]
    assert all(np.array_equal(a, b) for a, b in zip(whole.get_weights(), crops.get_weights(), strict=True))
    assert crops(SAMPLE[:, 4:28, 4:28]).shape == (20, 3)


def test_crops_come_first_and_whole_images_last():
    chosen = dataclasses.replace(RECIPES["best"], epochs=10, crops=Crops(side=24, share=0.6))
    assert [chosen.side(epoch) for epoch in range(10)] == [24] * 6 + [32] * 4
    assert RECIPES["best"].side(0) == 32


def test_recipes_with_crops_end_with_whole_images_and_have_networks_that_can_take_them():
    for chosen in RECIPES.values():
        assert chosen.side(chosen.epochs - 1) == 32
        assert chosen.crops is None or (isinstance(chosen.network, Airbench) and not chosen.distillation)
