import asyncio
from functools import partial

import pytest

from app.process.stop import Deadlines, Stop
from tests.app.stops import stoppable
from tests.waiting import next_turn, run_ready_tasks


async def ended_by(*errors: Exception) -> None:
    """Work that is stopped with the first of the exceptions, and with the others."""
    with stoppable() as stop:
        for error in errors:
            asyncio.get_running_loop().call_soon(stop, lambda error=error: error)
        await asyncio.Event().wait()


def test_work_ends_with_the_exception_that_stops_it_and_its_task_goes_on():
    async def scenario() -> int:
        with pytest.raises(KeyError, match="first"):
            await ended_by(KeyError("first"), KeyError("second"))
        await next_turn()
        return asyncio.current_task().cancelling()

    assert asyncio.run(scenario()) == 0


def test_a_task_that_is_cancelled_for_another_reason_too_stays_cancelled():
    async def work(stops: list[Stop]) -> None:
        with stoppable() as stop:
            stops.append(stop)
            await asyncio.Event().wait()

    async def scenario(is_stopped: bool) -> None:
        stops: list[Stop] = []
        task = asyncio.create_task(work(stops))
        await run_ready_tasks()
        if is_stopped:
            stops[0](KeyError)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for is_stopped in (True, False):
        asyncio.run(scenario(is_stopped))


def test_work_within_other_work_ends_alone():
    async def timed_out() -> None:
        with stoppable():
            async with asyncio.timeout(0):
                await asyncio.Event().wait()

    async def ended_around() -> None:
        with stoppable() as outer, stoppable():
            outer(partial(ValueError, "outer"))
            await next_turn()

    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            await timed_out()
        with stoppable():
            with pytest.raises(KeyError):
                await ended_by(KeyError())
            await next_turn()
        with pytest.raises(ValueError, match="outer"):
            await ended_around()

    asyncio.run(scenario())


def test_work_that_answers_its_end_with_another_error_raises_that():
    async def answer(stop: Stop) -> None:
        stop(KeyError)
        try:
            await next_turn()
        except asyncio.CancelledError:
            raise ValueError("instead") from None

    async def scenario() -> int:
        with pytest.raises(ValueError, match="instead"), stoppable() as stop:
            await answer(stop)
        return asyncio.current_task().cancelling()

    assert asyncio.run(scenario()) == 0


def test_each_deadline_passes_at_its_own_time_unless_it_is_removed():
    async def scenario() -> list[str]:
        passed: list[str] = []
        deadlines = Deadlines(0.05)
        expire = {name: partial(passed.append, name) for name in "abcd"}
        deadlines.add(expire["a"])
        deadlines.add(expire["b"])
        await asyncio.sleep(0.03)
        deadlines.add(expire["c"])
        deadlines.remove(expire["b"])
        await asyncio.sleep(0.03)
        first = passed.copy()
        deadlines.remove(expire["a"])  # it has passed
        await asyncio.sleep(0.05)
        deadlines.add(expire["d"])  # once no other is left
        await asyncio.sleep(0.1)
        return [*first, "", *passed]

    assert asyncio.run(scenario()) == ["a", "", "a", "c", "d"]
