import numpy as np
import pytest

from tests.model_store.network.keras_models import tiny_model
from training.errors import TrainingError
from training.publish.compare_with_keras import TOLERANCES, check_served, keras_probabilities
from training.publish.compiled import CompiledNetwork


@pytest.fixture(scope="module")
def tiny():
    return tiny_model()


def test_served_probabilities_agree_with_keras_at_every_precision(tiny):
    differences = check_served(CompiledNetwork(tiny.network()).by_precision(), tiny.images, tiny.probabilities)
    assert differences["float32"] < 1e-4
    assert all(difference <= TOLERANCES[precision] for precision, difference in differences.items())


@pytest.mark.parametrize("change", [lambda rows: rows[:, ::-1], lambda rows: rows * np.nan], ids=["other", "nan"])
def test_other_probabilities_than_keras_are_refused(tiny, change):
    with pytest.raises(TrainingError, match="in float32 the served probabilities differ from Keras's by"):
        check_served(CompiledNetwork(tiny.network()).by_precision(), tiny.images, change(tiny.probabilities))


def test_keras_reads_the_same_two_files(tiny, tmp_path):
    (tmp_path / "architecture.json").write_text(tiny.architecture)
    (tmp_path / "model.weights.h5").write_bytes(tiny.weights)
    received = keras_probabilities(tmp_path, tiny.network(), tiny.images)
    np.testing.assert_allclose(received, tiny.probabilities, atol=1e-5)
