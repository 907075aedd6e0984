import json

import keras
import numpy as np
import pytest

from model_store.network.architecture import parse_architecture
from training.errors import TrainingError
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


def test_a_network_whose_json_keras_cannot_build_is_one_sentence(tmp_path):
    """The service admits it: initializers matter in training only."""
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    document = json.loads(model.to_json())
    model.save_weights(tmp_path / "model.weights.h5")
    for value in (3, [], {"class_name": 3}, {"class_name": "Unheard", "config": {}}):
        document["config"]["layers"][-1]["config"]["kernel_initializer"] = value
        (tmp_path / "architecture.json").write_text(json.dumps(document))
        parse_architecture(json.dumps(document))
        with pytest.raises(TrainingError) as error:
            networks.load_keras(tmp_path)
        assert str(error.value).startswith(f"Keras cannot build the network of {tmp_path}/architecture.json: ")
        assert "restore the file, or train or import the network again" in str(error.value)
        assert "\n" not in str(error.value)


def test_weights_that_keras_cannot_read_are_named(tmp_path):
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    (tmp_path / "architecture.json").write_text(model.to_json())
    (tmp_path / "model.weights.h5").write_bytes(b"damaged")
    with pytest.raises(OSError, match="signature") as error:
        networks.load_keras(tmp_path)
    assert error.value.filename == str(tmp_path / "model.weights.h5")
