import pytest

from benchmarks.swaps import measure
from model_store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.process]


def test_every_answer_is_compared_with_the_version_that_it_names(tmp_path):
    still, swapped = measure(Store(tmp_path), swaps=2, seconds=5, share=0.2)
    assert {outcome.version for outcome in still.outcomes} == {"1"}
    assert {outcome.version for outcome in swapped.outcomes} == {"1", "2"}
    assert {outcome.result for outcome in still.outcomes + swapped.outcomes} == {"right"}
    assert len(swapped.swap_seconds) == 2
    assert swapped.row("with swaps")["swaps"] == 2
