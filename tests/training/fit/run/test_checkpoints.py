import numpy as np
import pytest

from training.errors import TrainingError
from training.fit.run.checkpoints import (
    load_checkpoint,
    load_history,
    load_soft_targets,
    remove_checkpoints,
    save_checkpoint,
    save_soft_targets,
)

VARIABLES = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7, np.int32)]
BEST = [np.full((2, 2), 0.5, np.float32)]
HISTORY = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.5}]


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    assert load_checkpoint(tmp_path) == ([], [], 0) and load_history(tmp_path) == []
    save_checkpoint(tmp_path, VARIABLES, HISTORY, BEST)
    variables, best, epochs = load_checkpoint(tmp_path)
    assert epochs == 2 and load_history(tmp_path) == HISTORY
    for expected, actual in zip([*VARIABLES, *BEST], [*variables, *best], strict=True):
        np.testing.assert_array_equal(actual, expected, strict=True)


@pytest.mark.parametrize(("name", "load"), [("state.npz", load_checkpoint), ("history.json", load_history)])
@pytest.mark.parametrize("length", [0, 20])
def test_a_damaged_file_is_named(tmp_path, name, load, length):
    save_checkpoint(tmp_path, VARIABLES, HISTORY, BEST)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:length])
    with pytest.raises(TrainingError, match=f"{name} is damaged: .*start a new run with another --out"):
        load(tmp_path)


def test_a_failed_write_leaves_the_last_state_as_it_was(tmp_path, full_disk):
    save_checkpoint(tmp_path, VARIABLES, HISTORY, BEST)
    with full_disk(), pytest.raises(OSError, match="File too large"):
        save_checkpoint(tmp_path, [np.zeros(1_000)], [*HISTORY, {"epoch": 3, "loss": 1.2}], BEST)
    variables, best, epochs = load_checkpoint(tmp_path)
    assert epochs == 2 and len(variables) == 2 and len(best) == 1
    assert load_history(tmp_path)[:epochs] == HISTORY


def test_soft_targets_are_cached_by_view_and_a_damaged_cache_is_ignored(tmp_path):
    soft_targets = np.full((4, 10), 0.1, np.float32)
    save_soft_targets(tmp_path, 3, soft_targets)
    np.testing.assert_array_equal(load_soft_targets(tmp_path, 3), soft_targets)
    assert load_soft_targets(tmp_path, 2) is None
    (tmp_path / "answers-3.npy").write_bytes(b"")
    assert load_soft_targets(tmp_path, 3) is None


def test_files_of_an_earlier_run_are_removed_and_no_others(tmp_path):
    save_checkpoint(tmp_path, VARIABLES, HISTORY, BEST)
    save_soft_targets(tmp_path, 0, np.zeros((1, 2), np.float32))
    (tmp_path / "notes.txt").touch()
    remove_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
