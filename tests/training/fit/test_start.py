import dataclasses

import pytest

from model_store.manifest import Preprocessing
from training.errors import TrainingError
from training.fit.run_directory import RunInfo
from training.fit.start import recipe_from_info
from training.recipes import RECIPES, get_recipe


def recorded(name: str, **changes) -> RunInfo:
    """The `run.json` of a run of three epochs, read back from its text."""
    changed = dataclasses.replace(get_recipe(name), epochs=3, batch_size=64, **changes)
    info = RunInfo(
        recipe=name,
        recipe_values=dataclasses.asdict(changed),
        labels=("a", "b"),
        preprocessing=Preprocessing(mean=changed.mean, std=changed.std),
        output=changed.output,
        seed=0,
        epochs=3,
        batch_size=64,
        hold_out=False,
        started_from=None,
        data_sha256="0" * 64,
        images=200,
        environment={},
    )
    return RunInfo.model_validate_json(info.model_dump_json())


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_has_its_recipe_with_its_own_epochs_and_batch_size(name):
    assert recipe_from_info(recorded(name)) == dataclasses.replace(get_recipe(name), epochs=3, batch_size=64)


def test_a_reworded_description_does_not_change_a_recipe():
    assert (
        recipe_from_info(recorded("fast", description="as it was described before")).network
        == get_recipe("fast").network
    )


@pytest.mark.parametrize("changes", [{"label_smoothing": 0.3}, {"mean": (0.5, 0.5, 0.5)}, {"optimizer": None}])
def test_a_run_of_a_recipe_that_has_changed_since_is_refused(changes):
    with pytest.raises(TrainingError, match="recipe 'fast' has changed since this run began"):
        recipe_from_info(recorded("fast", **changes))
