"""`Classifier.predict`: uint8 images → probabilities, on the chosen engine and at the chosen precision.

Inference happens only here, for the service, the command line, `evaluate` and `publish` alike, so that the network
measured is the network served.
"""

import copy
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from openvino import InferRequest

from model_store.errors import ModelError
from model_store.files import QUANTIZATION
from model_store.manifest import PRECISIONS, Precision, Verdicts
from model_store.network.gaussian import Gaussian, ood_scores, rejection_scores
from model_store.network.model import Network
from model_store.network.openvino import build_network
from model_store.network.processor import has_amx, has_bfloat16, is_x86, new_core
from model_store.novelty import energies, is_rejected, novelty

EngineName = Literal["openvino", "tensorflow"]
PrecisionChoice = Literal["auto", "float32", "bfloat16", "int8"]
Infer: TypeAlias = Callable[[NDArray[np.uint8]], Sequence[NDArray[np.float32]]]  # as build_network's outputs


@dataclass(frozen=True)
class Predictions:
    """The network's outputs for N images. See `novelty.py` and `network/gaussian.py` for all but the first."""

    probabilities: NDArray[np.float32]  # (N, K), each row summing to one
    energy: NDArray[np.float32] | None = None  # (N,), where the network ends in logits
    features: NDArray[np.float32] | None = None  # (N, C), channel means of an early layer, where a Gaussian was fitted
    ood_score: NDArray[np.float32] | None = None  # (N,), from energy and features, or the energy alone
    rejection_score: NDArray[np.float32] | None = None  # (N,), likewise
    novelty: NDArray[np.float32] | None = None  # (N,) from 0 to 1, where verdicts have been fitted
    rejected: NDArray[np.bool_] | None = None  # (N,) whose verdict is `none_of_these`, likewise


class Classifier:
    """A compiled network. Safe to call from several threads; calls run one after another."""

    def __init__(
        self,
        network: Network,
        engine: EngineName = "openvino",
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
        wide_threads: int | None = None,
    ) -> None:
        """Compile the network.

        Args:
            threads: threads that compute one call; None means every core, as tensorflow always takes.
            wide_threads: threads that compute a wide call; by default as many.

        Raises:
            ModelError: this machine does not support the engine or the precision.
        """
        self.labels, self.preprocessing = network.labels, network.preprocessing
        self.shape = network.preprocessing.shape  # of an image
        self.max_batch = network.architecture.max_batch  # images in one call of the engine
        self._set_parameters(network)
        self._widths = [len(network.labels)] * (2 if network.output == "logits" else 1)
        self._widths += [len(network.gaussian.mean)] if network.gaussian else []
        self.engine: EngineName = engine
        self.precision: Precision = choose_precision(engine, precision, network.ranges is not None, network.precisions)
        if engine == "openvino":
            numbers = [threads] if wide_threads in (None, threads) else [threads, wide_threads]
            infers = _openvino(network, self.precision, numbers)
            self._infer, self._infer_wide = infers[0], infers[-1]
        else:
            self._infer = self._infer_wide = _tensorflow(network)
        self._lock = threading.Lock()

    def with_parameters(self, network: Network) -> "Classifier":
        """Share the compiled network with one that differs only in verdicts and its Gaussian's arrays."""
        other = copy.copy(self)
        other._set_parameters(network)
        return other

    def _set_parameters(self, network: Network) -> None:
        self.verdicts, self._gaussian = network.verdicts, network.gaussian
        self._val_scores = np.array(network.verdicts.scores) if network.verdicts else None

    def predict(self, images: NDArray[np.uint8], wide: bool = False) -> Predictions:
        """Compute probabilities (N, K) float32 and out-of-distribution scores of images (N, *shape) uint8.

        Args:
            wide: compute with `wide_threads`.

        Raises:
            ValueError: the images are of another shape or type; a caller's mistake, not a user's.
        """
        if images.dtype != np.uint8 or images.shape[1:] != self.shape:
            expected = ", ".join(map(str, self.shape))
            raise ValueError(f"images must be uint8 (N, {expected}), not {images.dtype} {images.shape}")
        outputs = [np.empty((len(images), width), np.float32) for width in self._widths]
        infer = self._infer_wide if wide else self._infer
        with self._lock:
            for start in range(0, len(images), self.max_batch):
                end = start + self.max_batch
                for output, chunk in zip(outputs, infer(images[start:end]), strict=True):
                    output[start:end] = chunk
        if len(outputs) == 1:
            return Predictions(outputs[0])
        probabilities, logits, *features = outputs
        energy = energies(logits)
        unjudged = Predictions(probabilities, energy, features[0] if features else None)
        return judge(unjudged, self._gaussian, self.verdicts, self._val_scores)


def judge(
    predictions: Predictions,
    gaussian: Gaussian | None,
    verdicts: Verdicts | None = None,
    val_scores: NDArray[np.float64] | None = None,
) -> Predictions:
    """Add scores to predictions with energies, and novelty and rejection where verdicts have been fitted.

    Args:
        val_scores: `verdicts.scores` as an array, where it exists already.
    """
    energy, features = predictions.energy, predictions.features
    assert energy is not None
    ood_score = rejection_score = energy
    if gaussian and features is not None:
        measures = gaussian.standardise(energy, features)
        ood_score, rejection_score = ood_scores(*measures), rejection_scores(*measures)
    share = rejected = None
    if verdicts:
        share = novelty(ood_score, np.array(verdicts.scores) if val_scores is None else val_scores)
        rejected = is_rejected(share, rejection_score, verdicts)
    return Predictions(predictions.probabilities, energy, features, ood_score, rejection_score, share, rejected)


def choose_precision(
    engine: EngineName,
    choice: PrecisionChoice,
    quantized: bool = False,
    verified: Collection[Precision] = PRECISIONS,
) -> Precision:
    """Choose the fastest precision that the processor and the version allow, or check the one that was set.

    `auto` takes int8 on x86 only; on other processors it has not been tested.

    Args:
        quantized: the version has the ranges that int8 needs.
        verified: precisions in which the version's answers were close enough to Keras's.

    Raises:
        ModelError: the version or the processor does not support the choice.
    """
    if engine == "tensorflow":
        if choice not in ("auto", "float32"):
            raise ModelError("the tensorflow engine computes in float32; leave the precision at auto or float32")
        return "float32"
    if choice == "int8" and not quantized:
        raise ModelError(f"this version has no {QUANTIZATION}, which int8 needs; leave the precision at auto")
    if choice == "bfloat16" and not has_bfloat16():
        raise ModelError(
            "this processor has no bfloat16 instructions, which bfloat16 needs; leave the precision at auto or float32"
        )
    if choice != "auto" and choice not in verified:
        raise ModelError(
            f"this version is not served in {choice}, which changes its answers too much; leave the precision at auto"
        )
    if choice != "auto":
        return choice
    if quantized and "int8" in verified and is_x86():
        return "int8"
    return "bfloat16" if "bfloat16" in verified and has_bfloat16() else "float32"


def _openvino(network: Network, precision: Precision, threads: Sequence[int | None]) -> list[Infer]:
    """Compile the network for each number of threads, or None for every core."""
    model = build_network(network if precision == "int8" else replace(network, ranges=None), has_amx())
    halved = precision != "float32" and has_bfloat16()  # in int8, for the layers that are not rounded
    options: dict[str, object] = {"INFERENCE_PRECISION_HINT": "bf16" if halved else "f32"}
    options["PERFORMANCE_HINT"] = "LATENCY"
    options["ENABLE_CPU_PINNING"] = False  # several processes would all pin their threads to the same cores
    core, infers = new_core(), list[Infer]()
    for number in threads:
        limit = {} if number is None else {"INFERENCE_NUM_THREADS": number}
        compiled = core.compile_model(model, "CPU", options | limit)
        infers.append(partial(_infer, compiled.create_infer_request()))
    return infers


def _infer(request: InferRequest, images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
    # The results are the engine's own memory, overwritten by the request's next call; `predict` copies them before.
    return tuple(request.infer(np.ascontiguousarray(images), share_inputs=True, share_outputs=True).values())


def _tensorflow(network: Network) -> Infer:
    try:
        from model_store.network.tensorflow import build_infer
    except ImportError as error:
        raise ModelError(
            f"the tensorflow engine needs TensorFlow and Keras ({error}); "
            "install requirements/training.txt or use CIFAR10_ENGINE=openvino"
        ) from None
    return build_infer(network)
