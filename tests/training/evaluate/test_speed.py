import re

from tests.training import linear
from training.evaluate.speed import measure_speed


def test_speed_is_latency_alone_and_throughput_in_batches(monkeypatch):
    monkeypatch.setattr("training.evaluate.speed.ROUND_SECONDS", 0.01)
    speed = measure_speed(linear.classifier())
    assert speed.milliseconds_alone > 0 and speed.images_per_second > 0
    assert re.fullmatch(r"[\d.]+ ms for one image, [\d,]+ images/s in batches of 32", str(speed))
