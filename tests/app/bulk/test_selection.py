"""Every image belongs to one shard, and a run continues only behind the images it has answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bulk.errors import BulkError
from app.bulk.selection import BLOCK, Cursor, Selection, Shard


def select(names: list[str], shard: Shard = Shard(), start: Cursor = Cursor()) -> list[str]:  # noqa: B008
    selection = Selection(shard, start)
    chosen = [name for name in names if selection(name)]
    selection.close()
    return chosen


@given(st.integers(0, 20 * BLOCK), st.integers(1, 9))
def test_shards_are_disjoint_even_and_together_the_whole(images, count):
    names = [str(number) for number in range(images)]
    shards = [select(names, Shard(index, count)) for index in range(count)]
    assert sorted((name for shard in shards for name in shard), key=int) == names
    assert [len(shard) for shard in shards] == [Shard(index, count).size(images) for index in range(count)]
    assert max(map(len, shards)) - min(map(len, shards)) <= BLOCK


@given(st.integers(0, 3 * BLOCK), st.integers(0, 3 * BLOCK), st.integers(1, 3))
def test_a_run_continues_behind_what_it_has_answered(images, done, count):
    names, shard = [str(number) for number in range(images)], Shard(count - 1, count)
    whole = select(names, shard)
    done = min(done, len(whole))
    assert select(names, shard, Cursor().after(whole[:done])) == whole[done:]


@pytest.mark.parametrize(
    "changed",
    [["a", "c"], ["b", "a", "c"], ["a"], [], ["ab", "c"], ["", "a", "b", "c"]],
    ids=["removed", "reordered", "fewer", "none", "joined", "added"],
)
def test_sources_that_have_changed_are_refused(changed):
    with pytest.raises(BulkError, match=r"first 2 images are not those that are answered.*--overwrite"):
        select(changed, start=Cursor().after(["a", "b"]))
