"""How well people do on CIFAR-10's test images, class by class, to set beside a network's recall.

Source: CIFAR-10H, Peterson, Battleday, Griffiths and Russakovsky, "Human uncertainty makes classification more
robust", 2019: some fifty people named each of the 10,000 test images, choosing from the ten labels. A class's figure is
the share of single answers that agree with CIFAR-10's label, not that of a vote, which would be higher.
"""

from training.data.cifar10 import LABELS

SOURCE = "single annotators of CIFAR-10H, on the test images (Peterson et al. 2019)"
_ACCURACY = (0.952, 0.972, 0.948, 0.915, 0.905, 0.949, 0.962, 0.979, 0.973, 0.968)


def human_accuracy(labels: tuple[str, ...]) -> tuple[float, ...] | None:
    """People's accuracy for each label, or None where the labels are not CIFAR-10's, in its order."""
    return _ACCURACY if labels == LABELS else None
