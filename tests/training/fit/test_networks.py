import keras
import numpy as np
import pytest

from training.fit import networks
from training.fit.device import dtype_policy
from training.recipes import RECIPES, Airbench

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
    assert all(np.array_equal(weights, same) for weights, same in pairs)
    assert not np.array_equal(first.get_weights()[-1], other.get_weights()[-1])


def test_views_that_recur_show_every_image_both_ways():
    views = [recipe.distillation.views for recipe in RECIPES.values() if recipe.distillation]
    assert views and all(count % 2 == 0 for count in views)
