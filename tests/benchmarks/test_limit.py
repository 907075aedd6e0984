from benchmarks.limit import rate
from benchmarks.load import bodies


def test_images_are_counted():
    assert rate(bodies.pictures()[0].data, count=2, seconds=0.01) > 0
