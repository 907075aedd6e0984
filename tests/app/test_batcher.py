import asyncio
import threading
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.batcher import IN_PLACE_SECONDS, Batcher, QueueFullError
from tests.waiting import DEADLINE_SECONDS, run_ready_tasks


def image(number: int) -> np.ndarray:
    return np.full((32, 32, 3), number, np.uint8)


def first_pixels(batch: np.ndarray) -> np.ndarray:
    """A network whose row tells which image it saw."""
    return batch[:, 0, 0, :1].astype(np.float32)


class Gate:
    """`first_pixels` that waits until it is let go, and remembers its batches."""

    def __init__(self) -> None:
        self.open, self.entered, self.batches = threading.Event(), threading.Event(), []

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.batches.append(batch[:, 0, 0, 0].tolist())
        self.entered.set()
        assert self.open.wait(DEADLINE_SECONDS)
        return first_pixels(batch)


async def entered(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.entered.wait, DEADLINE_SECONDS)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 255), min_size=1, max_size=9), min_size=1, max_size=30), st.integers(1, 8))
def test_every_waiter_gets_its_own_rows(groups, max_batch):
    async def scenario():
        batcher = Batcher(first_pixels, max_batch, 10_000)
        answers = await asyncio.gather(*(batcher.submit_all([image(n) for n in group]) for group in groups))
        await batcher.close()
        return [[int(answer.row[0]) for answer in group] for group in answers]

    assert asyncio.run(scenario()) == groups


def test_a_lone_image_is_not_held_back():
    async def scenario():
        gate = Gate()
        gate.open.set()
        batcher = Batcher(gate, 8, 8)
        row = (await batcher.submit(image(5))).row
        await batcher.close()
        return row.tolist(), gate.batches

    assert asyncio.run(scenario()) == ([5.0], [[5]])


@pytest.mark.parametrize(
    ("seconds", "in_place"),
    [(IN_PLACE_SECONDS / 2, [False, True, False, False, False, True]), (IN_PLACE_SECONDS * 2, [False] * 6)],
    ids=["quick", "slow"],
)
def test_a_lone_image_changes_no_thread_once_the_network_is_known_to_be_quick(clock, seconds, in_place):
    async def scenario():
        threads = []

        def network(batch):
            threads.append(threading.current_thread() is threading.main_thread())
            clock.now += seconds * len(batch)
            return first_pixels(batch)

        batcher = Batcher(network, 2, 8, clock=clock)
        for numbers in ([1], [2], [3, 4], [5, 6, 7], [8]):
            await batcher.submit_all([image(number) for number in numbers])
        await batcher.close()
        return threads

    assert asyncio.run(scenario()) == in_place


def test_an_answer_says_how_long_it_waited_and_was_computed(clock):
    async def scenario():
        gate, batches = Gate(), []

        def network(batch):
            clock.now += 8
            return gate(batch)

        batcher = Batcher(network, 2, 100, batches.append, clock)
        first = asyncio.create_task(batcher.submit(image(0)))
        await entered(gate)
        later = [asyncio.create_task(batcher.submit(image(n))) for n in range(1, 4)]
        await run_ready_tasks()
        clock.now += 100
        gate.open.set()
        answers = [await first, *(await asyncio.gather(*later))]
        await batcher.close()
        return answers, batches

    answers, batches = asyncio.run(scenario())
    assert batches == [1, 2, 1]
    assert [ended - began for _, _, (began, ended), _ in answers] == [108, 8, 8, 8]
    assert [ended - began for _, (began, ended), _, _ in answers] == [0, 100, 100, 108]
    assert [answer.batch_images for answer in answers] == [1, 2, 2, 1]


def test_what_arrives_while_the_network_is_busy_forms_the_next_batches():
    async def scenario():
        gate = Gate()
        batcher = Batcher(gate, 2, 100)
        waiting = [asyncio.create_task(batcher.submit(image(0)))]
        await entered(gate)
        waiting += [asyncio.create_task(batcher.submit(image(n))) for n in range(1, 6)]
        await run_ready_tasks()
        gate.open.set()
        await asyncio.gather(*waiting)
        await batcher.close()
        return gate.batches

    assert asyncio.run(scenario()) == [[0], [1, 2], [3, 4], [5]]


def test_the_network_meets_few_different_numbers_of_images():
    async def scenario(count):
        gate = Gate()
        batcher = Batcher(gate, 32, 100)
        waiting = [asyncio.create_task(batcher.submit(image(0)))]
        await entered(gate)
        waiting.append(asyncio.create_task(batcher.submit_all([image(n) for n in range(1, 1 + count)])))
        await run_ready_tasks()
        gate.open.set()
        await asyncio.gather(*waiting)
        await batcher.close()
        assert list(chain(*gate.batches)) == list(range(1 + count))
        return [len(batch) for batch in gate.batches[1:]]

    assert [asyncio.run(scenario(count)) for count in (4, 13, 32, 45)] == [[4], [8, 4, 1], [32], [32, 8, 4, 1]]


def test_cancelled_waiters_are_not_computed():
    async def scenario():
        gate = Gate()
        batcher = Batcher(gate, 8, 100)
        first = asyncio.create_task(batcher.submit(image(0)))
        await entered(gate)
        gone, stays = (asyncio.create_task(batcher.submit(image(n))) for n in (1, 2))
        await run_ready_tasks()
        gone.cancel()
        await run_ready_tasks()
        gate.open.set()
        await asyncio.gather(first, stays)
        await batcher.close()
        return gate.batches

    assert asyncio.run(scenario()) == [[0], [2]]


def test_a_full_queue_takes_all_of_a_group_or_none():
    async def scenario():
        gate = Gate()
        batcher = Batcher(gate, 1, 2)
        first = asyncio.create_task(batcher.submit(image(0)))
        await entered(gate)
        second = asyncio.create_task(batcher.submit(image(1)))
        await run_ready_tasks()
        with pytest.raises(QueueFullError, match="1 images are waiting, the limit is 2"):
            await batcher.submit_all([image(2), image(3)])
        third = asyncio.create_task(batcher.submit(image(4)))
        await run_ready_tasks()
        gate.open.set()
        await asyncio.gather(first, second, third)
        await batcher.close()
        return gate.batches

    assert asyncio.run(scenario()) == [[0], [1], [4]]


def test_a_failing_network_fails_its_batch_and_not_the_next():
    calls = []

    def fails_once(batch):
        calls.append(len(batch))
        if len(calls) == 1:
            raise RuntimeError("no")
        return first_pixels(batch)

    async def scenario():
        batcher = Batcher(fails_once, 8, 8)
        with pytest.raises(RuntimeError, match="no"):
            await batcher.submit(image(1))
        row = (await batcher.submit(image(2))).row
        await batcher.close()
        return row.tolist()

    assert asyncio.run(scenario()) == [2.0]


def test_images_that_memory_cannot_hold_together_fail_their_batch_and_not_the_next(monkeypatch):
    async def scenario():
        gate = Gate()
        batcher = Batcher(gate, 8, 8)
        first = asyncio.create_task(batcher.submit(image(0)))
        await entered(gate)
        pair = asyncio.create_task(batcher.submit_all([image(1), image(2)]))
        await run_ready_tasks()
        with monkeypatch.context() as patch:
            patch.setattr("app.batcher.np.stack", out_of_memory)
            gate.open.set()
            with pytest.raises(MemoryError):
                await pair
        rows = [(await first).row, (await batcher.submit(image(3))).row]
        await batcher.close()
        return [row.tolist() for row in rows]

    def out_of_memory(images):
        raise MemoryError

    assert asyncio.run(scenario()) == [[0.0], [3.0]]


def test_closing_cancels_whoever_still_waits():
    async def scenario():
        gate = Gate()
        batcher = Batcher(gate, 1, 8)
        waiting = [asyncio.create_task(batcher.submit(image(n))) for n in range(2)]
        await entered(gate)
        await run_ready_tasks()
        gate.open.set()
        await batcher.close()
        return await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(result) for result in asyncio.run(scenario())] == [asyncio.CancelledError] * 2
