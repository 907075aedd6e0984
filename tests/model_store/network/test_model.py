"""A network is refused where its parts do not fit together."""

import pytest

from model_store.errors import ModelError
from model_store.manifest import Preprocessing


@pytest.mark.parametrize(("fields", "made"), [({"width": 64}, (32, 64, 3)), ({"mean": (0,), "std": (1,)}, (32, 32, 1))])
def test_a_preprocessing_that_makes_other_images_is_refused(tiny, fields, made):
    other = Preprocessing(**{"mean": (0, 0, 0), "std": (1, 1, 1), **fields})
    with pytest.raises(ModelError) as refusal:
        tiny.network(preprocessing=other)
    assert f"takes images of (32, 32, 3), but the preprocessing makes them {made}" in str(refusal.value)
