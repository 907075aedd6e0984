"""Turns go round the clients, and none is lost when a waiting task is cancelled."""

import asyncio
import random

import pytest

from app.batcher import QueueFullError
from app.explain.turns import Turns
from tests.waiting import DEADLINE_SECONDS, run_ready_tasks


class Scenario:
    """Tasks that take turns, each until it is let go."""

    def __init__(self, max_wait_seconds: float = DEADLINE_SECONDS) -> None:
        self.turns, self.order, self.holding = Turns(max_wait_seconds), [], {}

    def start(self, client: str) -> asyncio.Task:
        return asyncio.create_task(self._hold(client))

    async def _hold(self, client: str) -> None:
        async with self.turns.turn(client):
            self.order.append(client)
            self.holding[client] = asyncio.Event()
            try:
                await self.holding[client].wait()
            finally:
                self.holding[client].set()

    async def let_all_go(self) -> str:
        """Let one after the other go, and give the order in which they had their turns."""
        while True:
            await run_ready_tasks()
            holding = [event for event in self.holding.values() if not event.is_set()]
            assert len(holding) <= 1
            if not holding:
                return "".join(self.order)
            holding[0].set()


@pytest.mark.parametrize(
    ("arrivals", "order"),
    [("aaa", "aaa"), ("aaaab", "abaaa"), ("aaabbc", "abcaba"), ("aabbb", "ababb"), ("abcabc", "abcabc")],
)
def test_clients_take_turns_in_rotation(arrivals, order):
    async def run():
        scenario = Scenario()
        tasks = [scenario.start(client) for client in arrivals]
        assert await scenario.let_all_go() == order
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_a_turn_passes_over_tasks_that_left():
    async def run():
        rng = random.Random(7)
        for _ in range(200):
            scenario = Scenario()
            tasks = [scenario.start(rng.choice("abc")) for _ in range(8)]
            await run_ready_tasks()
            left = rng.sample(tasks, 4)
            for task in left:
                task.cancel()
                for event in scenario.holding.values():
                    if rng.random() < 0.3:
                        event.set()
            await scenario.let_all_go()
            assert all(task.done() for task in tasks)
            async with asyncio.timeout(5), scenario.turns.turn("d"):  # it is free again
                pass

    asyncio.run(run())


def test_a_task_whose_turn_does_not_come_in_time_is_refused_and_passed_over():
    async def run():
        scenario = Scenario(max_wait_seconds=0.01)
        first = scenario.start("a")
        await run_ready_tasks()
        with pytest.raises(QueueFullError, match=r"^other explanations have taken 0\.01 s$"):
            await scenario.start("b")
        third = scenario.start("c")
        assert await scenario.let_all_go() == "ac"
        await asyncio.gather(first, third)

    asyncio.run(run())
