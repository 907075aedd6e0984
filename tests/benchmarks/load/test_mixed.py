import asyncio
import json
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from app.settings import Settings
from benchmarks.load.client import Answer, Client
from benchmarks.load.mixed import ABANDONED, SHARES, Case, Mix, cases, judge
from tests.app.conftest import running
from tests.benchmarks.conftest import OK


@pytest.fixture(scope="module")
def service() -> Iterator[TestClient]:
    with running(Settings()) as client:
        yield client


@pytest.fixture(scope="module")
def by_kind() -> dict[str, list[Case]]:
    kinds: dict[str, list[Case]] = {kind: [] for kind in SHARES}
    for case in cases():
        kinds[case.kind].append(case)
    return kinds


def answer(content: object, status: int = 200, retry_after: bool = False) -> Answer:
    return Answer(status, 0.01, retry_after, json.dumps(content).encode())


def answers_of(service, case: Case) -> Answer:
    """What the service answers, without a network between."""
    head, _, body = case.request.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    method, url, _ = line.split()
    response = service.request(method, url, headers=dict(header.split(": ", 1) for header in headers), content=body)
    return Answer(response.status_code, 0.01, "Retry-After" in response.headers, response.content)


@pytest.mark.parametrize("kind", SHARES)
def test_the_service_answers_every_kind_rightly(by_kind, service, kind):
    for case in by_kind[kind][:3]:
        assert judge(case, answers_of(service, case)) == "right"


@pytest.mark.parametrize("kind", ["PNG", "form", "JPEG", "batch", "explanation"])
def test_the_answer_to_another_request_is_wrong(by_kind, service, kind):
    first, second, *_ = by_kind[kind]
    assert judge(first, answers_of(service, second)) == "wrong"


def test_an_answer_without_the_expected_content_is_wrong(by_kind):
    for kind in ("PNG", "batch", "explanation", "damaged"):
        for content in ([], {}, "text", {"results": []}, {"probabilities": {}}):
            status = 422 if kind == "damaged" else 200
            assert judge(by_kind[kind][0], answer(content, status)) == "wrong"


def test_a_refusal_says_when_to_come_back(by_kind):
    case = by_kind["PNG"][0]
    assert judge(case, answer({}, 503, retry_after=True)) == "refused"
    assert judge(case, answer({}, 503)) == "lost"


@pytest.mark.parametrize("status", [0, 400, 408, 500])
def test_any_other_status_is_a_lost_answer(by_kind, status):
    assert judge(by_kind["PNG"][0], answer({}, status)) == "lost"


def test_some_clients_leave_before_they_are_answered(server_with):
    server = server_with(OK)

    async def ask() -> list[str]:
        client, mix = Client(server.port, 8), Mix()
        outcomes = [await mix.ask(client, 0.0) for _ in range(2_000)]
        client.close()
        return [outcome.kind for outcome in outcomes]

    kinds = asyncio.run(ask())
    assert {*SHARES, "abandoned"} == set(kinds)
    assert 0 < kinds.count("abandoned") < 2 * 2_000 * ABANDONED / 100


def test_the_shares_are_percent():
    assert sum(SHARES.values()) + ABANDONED == pytest.approx(100)
