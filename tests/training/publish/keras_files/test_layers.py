"""What Keras itself says about layers that are left out of imported networks."""

import keras
import numpy as np
import pytest

from training.publish.keras_files.layers import IDLE

REQUIRED = {
    "AlphaDropout": {"rate": 0.5}, "GaussianDropout": {"rate": 0.5}, "GaussianNoise": {"stddev": 0.5},
    "SpatialDropout2D": {"rate": 0.5}, "RandomBrightness": {"factor": 0.5}, "RandomContrast": {"factor": 0.5},
    "RandomRotation": {"factor": 0.5}, "RandomZoom": {"height_factor": 0.5}, "RandomPosterization": {"factor": 4},
    "RandomTranslation": {"height_factor": 0.5, "width_factor": 0.5}, "RandomColorDegeneration": {"factor": 0.5},
    "RandomHue": {"factor": 0.5}, "RandomSaturation": {"factor": 0.5}, "RandomSharpness": {"factor": 0.5},
}  # fmt: skip
OF_KERAS_2 = {"RandomHeight", "RandomWidth"}


@pytest.mark.parametrize("kind", sorted(IDLE - OF_KERAS_2))
def test_a_layer_that_is_left_out_returns_its_input_at_inference(kind):
    images = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    layer = getattr(keras.layers, kind)(**REQUIRED.get(kind, {}))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(images, training=False)), images)
