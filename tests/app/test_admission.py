"""Requests are refused while too many are in flight or predictions take too long."""

import asyncio
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.admission import MAX_COMPLETED, NO_BACKLOG, Admission, Backlog, ImageMemory
from app.errors import Problem
from tests.app.conftest import Clock, png


def finish(backlog: Backlog, clock: Clock, count: int, seconds: float) -> None:
    """Let `count` predictions be done, one every `seconds`."""
    for _ in range(count):
        with backlog:
            clock.now += seconds


def served(backlog: Backlog, clock: Clock, count: int, seconds: float, at_work: int) -> float:
    """What a prediction takes by `backlog` when `count` were done, one every `seconds`, with others at work."""
    with ExitStack() as others:
        for _ in range(at_work):
            others.enter_context(backlog)
        finish(backlog, clock, count, seconds)
        return backlog.seconds


def test_it_takes_as_long_as_those_at_work_take_in_turn(clock):
    assert served(Backlog(clock), clock, MAX_COMPLETED, 0.01, at_work=100) == pytest.approx(1.0, rel=0.01)
    assert served(Backlog(clock), clock, MAX_COMPLETED, 0.002, at_work=100) == pytest.approx(0.2, rel=0.01)


def test_what_fits_into_a_call_is_no_backlog_however_slow(clock):
    assert served(Backlog(clock), clock, MAX_COMPLETED, 10.0, at_work=NO_BACKLOG) == 0


def test_of_too_few_answers_nothing_is_told(clock):
    assert served(Backlog(clock), clock, NO_BACKLOG, 10.0, at_work=100) == 0


def test_answers_that_come_a_call_at_a_time_are_seen_as_a_rate(clock):
    backlog = Backlog(clock)
    with ExitStack() as others:
        for _ in range(100):
            others.enter_context(backlog)
        for _ in range(MAX_COMPLETED // NO_BACKLOG + 1):
            clock.now += 0.32
            for _ in range(NO_BACKLOG):
                with backlog:
                    pass
        assert 0.8 < backlog.seconds < 1.1  # 0.01 s each, read right after a call, when the rate looks best


def test_a_pause_is_not_taken_for_slowness(clock):
    backlog = Backlog(clock)
    served(backlog, clock, MAX_COMPLETED, 0.001, at_work=100)
    clock.now += 3_600
    assert served(backlog, clock, MAX_COMPLETED, 0.001, at_work=100) == pytest.approx(0.1, rel=0.01)


def test_when_nothing_is_done_any_more_it_takes_ever_longer(clock):
    backlog = Backlog(clock)
    with ExitStack() as others:
        for _ in range(100):
            others.enter_context(backlog)
        for _ in range(MAX_COMPLETED):
            with backlog:
                clock.now += 0.001
        before, clock.now = backlog.seconds, clock.now + 60
        assert backlog.seconds > 20 > before


def test_a_failure_is_done_too(clock):
    backlog = Backlog(clock)
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"), backlog:
            raise ValueError("broken")
    assert backlog.seconds == 0


def test_clients_that_leave_do_not_make_it_look_quick(clock):
    backlog = Backlog(clock)
    with ExitStack() as others:
        for _ in range(100):
            others.enter_context(backlog)
        for _ in range(MAX_COMPLETED):
            with backlog:
                clock.now += 0.01
            for _ in range(9):
                with suppress(asyncio.CancelledError), backlog:
                    raise asyncio.CancelledError
        assert backlog.seconds == pytest.approx(1.0, rel=0.01)


def test_explanations_count_against_the_requests_that_are_let_in(client_with):
    small = client_with(max_requests=1)
    pipeline = small.app.state.pipeline
    serving = pipeline.admit()
    response = small.post("/explain", content=png())
    pipeline.release(serving)
    assert response.status_code == 503 and response.json()["code"] == "overloaded"
    assert int(response.headers["retry-after"]) >= 1
    assert small.post("/explain", content=png()).status_code == 200


def fill(stack: ExitStack, admission: Admission, client: str, tries: int = 100) -> int:
    """Let a client send until it is refused, and give how many of its requests were let in."""
    for number in range(tries):
        try:
            admission.enter(client)
            stack.callback(admission.leave, client)
        except Problem as problem:
            return number if problem.code == "overloaded" else -1
    return tries


def test_an_idle_service_gives_one_client_everything():
    with ExitStack() as stack:
        assert fill(stack, Admission(16, 1.0), "a") == 16


def test_one_client_leaves_room_for_others_and_has_its_share_while_they_are_there():
    admission = Admission(16, 1.0)
    with ExitStack() as flood, ExitStack() as others:
        assert fill(flood, admission, "a") == 16
        assert fill(others, admission, "b") == 2  # an eighth more than the limit
        with pytest.raises(Problem, match="16 of the 18 requests in flight are yours, and others wait too"):
            admission.check("a")
        flood.close()
        assert fill(flood, admission, "a") == 8  # of two clients, half
        assert fill(others, admission, "b") == 6


def test_many_clients_with_few_requests_each_may_use_all_places():
    admission = Admission(100, 1.0)
    with ExitStack() as stack:
        assert sum(fill(stack, admission, str(number), 1) for number in range(90)) == 90
        assert fill(stack, admission, "7", 1) == 1
        assert sum(fill(stack, admission, f"new {number}", 1) for number in range(100)) == 112 - 91


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=200), st.integers(1, 40))
def test_requests_in_flight_never_exceed_the_limit_by_more_than_an_eighth(steps, limit):
    admission, stacks = Admission(limit, 1.0), {client: ExitStack() for client in "abcd"}
    for client, leaves in steps:
        if leaves:
            stacks[client].close()
        elif fill(stacks[client], admission, client, 1) == 0:
            assert admission.requests >= limit // 2
        assert admission.requests <= limit * 1.125
    for stack in stacks.values():
        stack.close()
    assert admission.requests == 0
    with ExitStack() as stack:
        assert fill(stack, admission, "e") == limit


def test_a_client_with_a_backlog_is_refused_before_others_are(clock):
    admission = Admission(1_000, 1.0)
    admission.backlog = Backlog(clock)
    with ExitStack() as stack:
        for _ in range(100):
            admission.enter("a")
            stack.enter_context(admission.backlog)
        finish(admission.backlog, clock, MAX_COMPLETED, 0.012)
        with pytest.raises(Problem, match=r"take 1\.2 s"):
            admission.check("a")
        admission.enter("b")
        finish(admission.backlog, clock, MAX_COMPLETED, 0.006)
        with pytest.raises(Problem, match=r"take 0\.6 s"):
            admission.check("a")
        admission.check("b")
        admission.leave("b")
        admission.check("a")


def test_while_predictions_take_too_long_new_ones_are_refused(client_with, clock):
    client, backlog = client_with(max_wait_seconds=0.25), Backlog(clock)
    client.app.state.pipeline.admission.backlog = backlog
    with ExitStack() as others:
        for _ in range(100):
            others.enter_context(backlog)
        finish(backlog, clock, MAX_COMPLETED, 0.003)
        response = client.post("/predict", content=png())
        assert response.status_code == 503 and response.json()["code"] == "overloaded"
        assert "take 0.3 s" in response.json()["detail"] and int(response.headers["retry-after"]) >= 1
        finish(backlog, clock, MAX_COMPLETED, 0.002)
        assert client.post("/predict", content=png()).status_code == 200


def test_more_waiting_images_than_allowed_are_refused_with_retry_after(client_with, monkeypatch):
    monkeypatch.setattr("app.settings.MAX_WAITING_IMAGES", 2)
    small = client_with()
    response = small.post("/predict/batch", files=[("files", png())] * 3)
    assert response.status_code == 503 and response.json()["code"] == "overloaded"
    assert int(response.headers["retry-after"]) >= 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), max_size=60))
def test_reservations_never_take_more_than_there_is_and_give_all_back(steps):
    memory = ImageMemory(1_000)
    with ExitStack() as stack:
        reservations = [stack.enter_context(memory.reserve()) for _ in range(4)]
        for number, size in steps:
            with suppress(Problem):
                reservations[number].grow(size)
            assert 0 <= memory.free <= memory.capacity
    assert memory.free == memory.capacity


def test_an_image_is_refused_while_others_take_the_memory_and_read_afterwards(client_with):
    client = client_with()
    memory = client.app.state.pipeline.memory
    with memory.reserve() as others:
        others.grow(memory.free - 200_000)
        response = client.post("/predict", content=png(side=160))
        assert (response.status_code, response.json()["code"]) == (503, "overloaded")
        assert "other images take" in response.json()["detail"]
        assert client.post("/predict", content=png()).status_code == 200
    assert client.post("/predict", content=png(side=160)).status_code == 200
    assert memory.free == memory.capacity


def test_a_body_is_refused_while_others_take_the_memory(client_with):
    client = client_with()
    memory = client.app.state.pipeline.memory
    with memory.reserve() as others:
        others.grow(memory.free - 2_000)
        assert "other images take" in client.post("/predict", content=png()).json()["detail"]
    assert client.post("/predict", content=png()).status_code == 200


def test_an_image_whose_pixels_never_fit_is_told_so_and_spoils_no_batch(client_with):
    client = client_with()
    client.app.state.pipeline.memory.capacity = 400_000
    wide = png(side=300)
    response = client.post("/predict", content=wide)
    assert (response.status_code, response.json()["code"]) == (422, "unusable_image")
    assert "PNG of 90,000 pixels" in response.json()["detail"] and "resize it" in response.json()["detail"]
    results = client.post("/predict/batch", files=[("files", wide), ("files", png())]).json()["results"]
    assert [list(result) for result in results] == [["problem"], ["prediction"]]
