import dataclasses

import pytest

from model_store.manifest import Preprocessing
from training.errors import TrainingError
from training.fit.run.directory import RunInfo
from training.fit.start import recipe_from_info
from training.recipe_values import set_options
from training.recipes import RECIPES, LookaheadSGD, Mixing, Muon, RMSprop, Uploads, get_recipe


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


@pytest.mark.parametrize("changes", [{"label_smoothing": 0.3}, {"mean": (0.5, 0.5, 0.5)}, {"mixing": Mixing("mixup")}])
def test_a_run_keeps_the_values_it_began_with_when_its_recipe_changes(changes):
    expected = dataclasses.replace(get_recipe("fast"), epochs=3, batch_size=64, **changes)
    assert recipe_from_info(recorded("fast", **changes)) == expected


def test_a_run_that_began_before_an_option_existed_has_its_default():
    info = recorded("fast")
    del info.recipe_values["mixing"], info.recipe_values["augmentation"]["uploads"]
    assert recipe_from_info(info) == dataclasses.replace(get_recipe("fast"), epochs=3, batch_size=64)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": None}, "optimizer None"),
        ({"optimizer": {"learning_rate": 1.0, "beta": 0.9}}, "optimizer {'learning_rate'"),
        ({"patience": 3}, "'patience'"),
    ],
    ids=["without optimizer", "unknown optimizer", "unknown option"],
)
def test_a_run_with_options_that_this_code_lacks_is_refused(values, message):
    info = recorded("fast")
    info.recipe_values.update(values)
    with pytest.raises(TrainingError, match=f"recipe 'fast' was recorded with {message}"):
        recipe_from_info(info)


@pytest.mark.parametrize(
    ("optimizer", "rate", "filters"),
    [(RMSprop(0.1), 0.2, None), (LookaheadSGD(0.1, 0.9, 1e-3, 64), 0.4, None), (Muon(0.1, 0.9, 1e-3, 64), 0.4, 0.2)],
    ids=["RMSprop", "SGD", "Muon"],
)
def test_the_learning_rate_follows_the_batch_size(optimizer, rate, filters):
    recipe = dataclasses.replace(get_recipe("fast"), optimizer=optimizer, batch_size=64)
    larger = recipe.with_batch_size(256)
    assert larger.batch_size == 256 and larger.optimizer.learning_rate == pytest.approx(rate)
    if filters:
        steps = (o.learning_rate * o.filter_multiplier for o in (larger.optimizer, optimizer))
        assert next(steps) == pytest.approx(2 * next(steps))
    assert recipe.with_batch_size(64) == recipe


def test_options_of_a_recipe_are_set_by_name():
    options = ["augmentation.uploads={}", 'mixing={"method":"cutmix","share":0.5}', "optimizer.learning_rate=0.5"]
    changed = set_options("fast", get_recipe("fast"), [*options, "augmentation.uploads.zoom=1.3"])
    assert changed.augmentation.uploads == Uploads(zoom=1.3) and changed.mixing == Mixing("cutmix", share=0.5)
    assert changed.optimizer == dataclasses.replace(get_recipe("fast").optimizer, learning_rate=0.5)
    assert set_options("fast", get_recipe("fast"), []) == get_recipe("fast")


@pytest.mark.parametrize(
    "option",
    ["label_smoothing", "patience=3", "mixing.method=1", "optimizer=null", "epochs=x", 'epochs="x"', "mean=[1]"],
)
def test_an_option_that_a_recipe_does_not_have_is_refused(option):
    with pytest.raises(TrainingError, match="--set"):
        set_options("fast", get_recipe("fast"), [option])
