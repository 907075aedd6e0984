import asyncio
import threading

import numpy as np
import pytest

from app.batcher import Batcher, QueueFullError
from app.explain.explainer import CHUNK, Explainer
from app.explain.saliency import MASK_COUNT, sample_masks
from app.prediction import Prediction
from tests.waiting import DEADLINE_SECONDS, run_ready_tasks

masks = sample_masks()
CHUNKS = MASK_COUNT // CHUNK


def flat(number: int) -> np.ndarray:
    """An image of one colour, whose masked copies all look like itself."""
    return np.full((32, 32, 3), number, np.uint8)


class Turnstile:
    """A network that computes each batch when it is let, and remembers what it has seen."""

    def __init__(self) -> None:
        self.entered, self.let, self.batches = threading.Semaphore(0), threading.Semaphore(0), []

    def __call__(self, batch: np.ndarray) -> list[Prediction]:
        self.batches.append(batch[:, 0, 0, 0].tolist())
        self.entered.release()
        assert self.let.acquire(timeout=DEADLINE_SECONDS)
        first = batch[:, 0, 0, :1].astype(np.float32) / 255
        return [Prediction(row) for row in np.concatenate([first, 1 - first], 1)]

    async def holds_a_batch(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=DEADLINE_SECONDS)

    def let_all(self) -> None:
        self.let.release(1_000)


def with_explainer(scenario, capacity: int = 100):
    """Run `scenario(batcher, explainer, network)`, and give what the network has seen and what it returns."""

    async def run():
        network = Turnstile()
        batcher = Batcher(network, 32, capacity)
        try:
            returned = await scenario(batcher, Explainer(batcher, masks, DEADLINE_SECONDS), network)
        finally:
            network.let_all()
            await batcher.close()
        return network.batches, returned

    return asyncio.run(run())


def test_an_image_is_asked_about_once_whole_and_then_in_chunks():
    async def scenario(batcher, explainer, network):
        network.let_all()
        return await explainer.explain(flat(51))

    batches, explanation = with_explainer(scenario)
    assert batches == [[51]] + CHUNKS * [CHUNK * [51]]
    assert explanation.index == 1 and explanation.confidence == pytest.approx(0.8)
    assert np.array_equal(explanation.seen, flat(51)) and not explanation.saliency.any()


def test_another_class_than_the_most_probable_can_be_explained():
    async def scenario(batcher, explainer, network):
        network.let_all()
        return await explainer.explain(flat(51), 0)

    _, explanation = with_explainer(scenario)
    assert explanation.index == 0 and explanation.confidence == pytest.approx(0.2)


def test_a_prediction_waits_for_one_chunk_of_an_explanation_at_most():
    async def scenario(batcher, explainer, network):
        explaining = asyncio.create_task(explainer.explain(flat(1)))
        await network.holds_a_batch()  # the image itself
        network.let.release()
        await network.holds_a_batch()  # the first chunk
        plain = asyncio.create_task(batcher.submit(flat(2)))
        await run_ready_tasks()
        network.let.release()
        await network.holds_a_batch()
        network.let.release()
        await plain
        assert not explaining.done()
        network.let_all()
        await explaining

    batches, _ = with_explainer(scenario)
    assert batches == [[1], CHUNK * [1], [2]] + (CHUNKS - 1) * [CHUNK * [1]]


def test_many_explanations_take_turns_and_keep_one_chunk_in_the_queue():
    async def scenario(batcher, explainer, network):
        explaining = [asyncio.create_task(explainer.explain(flat(number))) for number in (1, 2, 3)]
        await network.holds_a_batch()
        network.let_all()
        await asyncio.gather(*explaining)

    batches, _ = with_explainer(scenario)
    assert batches == [batch for number in (1, 2, 3) for batch in [[number]] + CHUNKS * [CHUNK * [number]]]


def test_an_explanation_whose_caller_has_gone_stops_and_the_next_begins():
    async def scenario(batcher, explainer, network):
        gone, stays = (asyncio.create_task(explainer.explain(flat(number))) for number in (1, 2))
        await network.holds_a_batch()
        network.let.release()
        await network.holds_a_batch()
        gone.cancel()
        await run_ready_tasks()
        network.let_all()
        await stays

    batches, _ = with_explainer(scenario)
    assert batches == [[1], CHUNK * [1], [2]] + CHUNKS * [CHUNK * [2]]


def test_a_full_queue_refuses_an_explanation():
    async def scenario(batcher, explainer, network):
        network.let_all()
        with pytest.raises(QueueFullError, match=f"the limit is {CHUNK - 1}"):
            await explainer.explain(flat(1))

    with_explainer(scenario, capacity=CHUNK - 1)
