"""Optimizers of the recipes, as Keras optimizers that run on every backend."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from training import recipes

LOOKAHEAD_STEPS = 5


def optimizer_from_recipe(
    recipe: recipes.RMSprop | recipes.LookaheadSGD, total_steps: int
) -> keras.optimizers.Optimizer:
    """Build a recipe's optimizer for a run of `total_steps` steps."""
    if isinstance(recipe, recipes.RMSprop):
        return keras.optimizers.RMSprop(recipe.learning_rate)
    rate = Triangle(recipe.learning_rate, total_steps, recipe.start, recipe.warmup, recipe.end)
    common: dict[str, Any] = {
        "total_steps": total_steps,
        "momentum": recipe.momentum,
        "l2": recipe.l2,
        "bias_multiplier": recipe.bias_multiplier,
    }
    if isinstance(recipe, recipes.Muon):
        return Muon(rate, filter_multiplier=recipe.filter_multiplier, filter_momentum=recipe.filter_momentum, **common)
    return LookaheadSGD(rate, **common)


class LookaheadSGD(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Nesterov SGD with coupled L2, a higher rate for biases, and a slow average to which the weights return.

    Every fifth step the weights become `a * slow + (1 - a) * weights` and `slow` becomes the same, where
    `a = 0.95 ** 5 * (step / total_steps) ** 3`, so the average holds back more towards the end. One-dimensional
    weights learn `bias_multiplier` times faster with as many times less L2.

    Sources: Zhang et al., "Lookahead Optimizer", arXiv:1907.08610; schedule and multiplier from Jordan,
    arXiv:2404.00498.
    """

    def __init__(
        self,
        learning_rate: Any,
        *,
        total_steps: int,
        momentum: float,
        l2: float,
        bias_multiplier: float,
        name: str = "lookahead_sgd",
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name)
        self.total_steps = total_steps
        self.momentum = momentum
        self.l2 = l2
        self.bias_multiplier = bias_multiplier

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create the momentum and the slow copy of each variable; the copy starts at the variable's value."""
        if self.built:
            return
        super().build(variables)
        self.velocities = [self.add_variable_from_reference(v, "velocity") for v in variables]
        self.slow = [self.add_variable_from_reference(v, "slow") for v in variables]
        for slow, variable in zip(self.slow, variables, strict=True):
            slow.assign(
                ops.copy(variable)
            )  # copied, because JAX reuses every buffer of a step, so no two variables may share one

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        """Update one variable."""
        index = self._get_variable_index(variable)
        fast = self._step(index, ops.cast(gradient, variable.dtype), variable, ops.cast(learning_rate, variable.dtype))
        slow = self.slow[index]
        before = ops.convert_to_tensor(slow)  # JAX does not accept Keras variables as arrays
        step = ops.cast(self.iterations, "float32") + 1
        keep = 0.95**LOOKAHEAD_STEPS * (step / self.total_steps) ** 3
        averaged = keep * before + (1 - keep) * fast
        due = ops.equal(ops.mod(step, LOOKAHEAD_STEPS), 0)
        self.assign(slow, ops.where(due, averaged, before))
        self.assign(variable, ops.where(due, averaged, fast))

    def _step(self, index: int, gradient: Any, variable: keras.Variable, rate: Any) -> Any:
        multiplier = self.bias_multiplier if len(variable.shape) == 1 else 1.0
        gradient = gradient + variable * (self.l2 / multiplier)
        return variable - rate * multiplier * self._nesterov(index, gradient, self.momentum)

    def _nesterov(self, index: int, gradient: Any, momentum: float) -> Any:
        velocity = self.velocities[index]
        updated = velocity * momentum + gradient
        self.assign(velocity, updated)
        return gradient + momentum * updated


class Muon(LookaheadSGD):
    """Orthogonalised steps for the filters of convolutions, `LookaheadSGD` for everything else.

    A kernel (H, W, I, O) is one matrix of O filters. Each step first brings it back to the norm √O, then moves it by
    `filter_multiplier` times the learning rate along the orthogonal matrix nearest to its Nesterov momentum. There is
    no L2 on filters: their norm is fixed.

    Sources: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; as in airbench94_muon.
    """

    def __init__(self, learning_rate: Any, *, filter_multiplier: float, filter_momentum: float, **others: Any) -> None:
        super().__init__(learning_rate, name="muon", **others)
        self.filter_multiplier = filter_multiplier
        self.filter_momentum = filter_momentum

    def _step(self, index: int, gradient: Any, variable: keras.Variable, rate: Any) -> Any:
        if len(variable.shape) != 4:
            return super()._step(index, gradient, variable, rate)
        step = self._nesterov(index, gradient, self.filter_momentum)
        filters = variable.shape[-1]
        direction = orthogonal(ops.transpose(ops.reshape(step, (-1, filters))))
        normed = variable * ops.sqrt(filters / ops.sum(ops.square(variable)))
        return normed - rate * self.filter_multiplier * ops.reshape(ops.transpose(direction), variable.shape)


def orthogonal(matrix: Any, iterations: int = 3) -> Any:
    """Move all singular values of a matrix (M, N) to about 1. Fastest if M is the smaller side.

    Uses the Newton-Schulz iteration with the quintic of the Muon optimizer. Singular values end between 0.7 and 1.2
    unless they were tiny, which is accurate enough for its steps.
    """
    x = matrix / (ops.norm(matrix) + 1e-7)
    for _ in range(iterations):
        gram = ops.matmul(x, ops.transpose(x))
        x = 3.4445 * x + ops.matmul(-4.7750 * gram + 2.0315 * ops.matmul(gram, gram), x)
    return x


class Triangle(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Linear rise from `start` × peak to the peak over `warmup` of all steps, then linear fall to `end` × peak."""

    def __init__(self, peak: float, total_steps: int, start: float, warmup: float, end: float) -> None:
        self.peak, self.total_steps = peak, total_steps
        self.start, self.warmup, self.end = start, warmup, end

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step, counted from 0."""
        progress = ops.cast(step, "float32") / self.total_steps
        rising = self.start + (1 - self.start) * progress / self.warmup
        falling = 1 - (1 - self.end) * (progress - self.warmup) / (1 - self.warmup)
        return self.peak * ops.minimum(rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as Keras requires of every schedule."""
        return dict(vars(self))
