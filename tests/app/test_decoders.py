import asyncio
import threading

import pytest

from app.decoders import Decoders
from app.errors import Problem
from tests.waiting import DEADLINE_SECONDS, run_ready_tasks


def with_busy_decoder(scenario, max_wait_seconds: float):
    """Run `scenario(decoders, release)` while the only thread works until `release` is set."""

    async def run():
        decoders, running, release = Decoders(1, max_wait_seconds), threading.Event(), threading.Event()

        def work() -> str:
            running.set()
            assert release.wait(DEADLINE_SECONDS)
            return "done"

        first = asyncio.create_task(decoders.run(work))
        try:
            assert await asyncio.to_thread(running.wait, DEADLINE_SECONDS)
            returned = await scenario(decoders, release)
        finally:
            release.set()
            assert await first == "done"
            decoders.close()
        return returned

    return asyncio.run(run())


def test_work_waits_for_a_thread():
    async def scenario(decoders, release):
        second = asyncio.create_task(decoders.run(max, 1, 2))
        await run_ready_tasks()
        release.set()
        return await second

    assert with_busy_decoder(scenario, DEADLINE_SECONDS) == 2


def test_work_that_waits_too_long_is_refused_and_never_runs():
    ran = []

    async def scenario(decoders, release):
        with pytest.raises(Problem) as refused:
            await decoders.run(ran.append, 1)
        release.set()
        await decoders.run(ran.append, 2)
        return refused.value

    problem = with_busy_decoder(scenario, 0.01)
    assert (problem.status, problem.code) == (503, "overloaded")
    assert problem.detail == (
        "images before this one have been decoded for 0.01 s; try again, with fewer or smaller images"
    )
    assert ran == [2]


def test_work_of_a_client_that_leaves_is_cancelled_without_a_problem():
    ran = []

    async def scenario(decoders, release):
        left = asyncio.create_task(decoders.run(ran.append, 1))
        await run_ready_tasks()
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        release.set()
        await decoders.run(ran.append, 2)

    with_busy_decoder(scenario, DEADLINE_SECONDS)
    assert ran == [2]


def test_an_error_of_the_work_is_raised():
    async def run():
        decoders = Decoders(1, DEADLINE_SECONDS)
        with pytest.raises(ZeroDivisionError):
            await decoders.run(divmod, 1, 0)
        decoders.close()

    asyncio.run(run())
