import keras
import numpy as np
import pytest

from training.fit.optimizer import LookaheadSGD, Muon, Triangle, orthogonal

FILTERS = {"filter_multiplier": 0.1, "filter_momentum": 0.6}
COMMON = {"total_steps": 10, "momentum": 0.5, "l2": 0.1, "bias_multiplier": 4.0}


def stepped(optimizer, start, gradients):
    variable = keras.Variable(np.asarray(start, "float32"))
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply_gradients([(keras.ops.convert_to_tensor(np.asarray(gradient, "float32")), variable)])
    return keras.ops.convert_to_numpy(variable)


@pytest.fixture
def kernels():
    rng = np.random.default_rng(0)
    return rng.normal(size=(3, 3, 8, 16)), rng.normal(size=(3, 3, 8, 16))


def test_a_matrix_is_stepped_with_nesterov_momentum_and_coupled_l2():
    moved = stepped(LookaheadSGD(0.01, **COMMON), [[1.0]], [[[2.0]], [[2.0]]])
    first_gradient = 2 + 0.1 * 1
    first = 1 - 0.01 * (first_gradient + 0.5 * first_gradient)
    second_gradient = 2 + 0.1 * first
    second = first - 0.01 * (second_gradient + 0.5 * (0.5 * first_gradient + second_gradient))
    np.testing.assert_allclose(moved, [[second]], rtol=1e-6)


def test_a_bias_learns_faster_with_as_much_less_l2():
    moved = stepped(LookaheadSGD(0.01, **COMMON), [1.0], [[2.0]])
    np.testing.assert_allclose(moved, [1 - 0.04 * 1.5 * (2 + 0.1 / 4)], rtol=1e-6)


def test_every_fifth_step_goes_part_of_the_way_back_to_the_slow_average():
    still = {**COMMON, "momentum": 0.0, "l2": 0.0}
    moved = stepped(LookaheadSGD(0.1, **still), [[0.0]], [[[-1.0]]] * 5)
    keep = 0.95**5 * (5 / 10) ** 3
    np.testing.assert_allclose(moved, [[0.5 * (1 - keep)]], rtol=1e-6)


def test_orthogonal_moves_all_singular_values_near_one_and_keeps_their_vectors():
    matrix = np.random.default_rng(0).normal(size=(16, 72)).astype("float32")
    orthogonalised = np.array(orthogonal(matrix))
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    rotated = left.T @ orthogonalised @ right.T
    assert np.all((np.diag(rotated) > 0.6) & (np.diag(rotated) < 1.3))
    np.testing.assert_allclose(rotated - np.diag(np.diag(rotated)), 0, atol=1e-4)


def test_filters_are_brought_to_their_norm_and_moved_by_the_same_whatever_the_gradients_size(kernels):
    start, gradient = kernels
    moved = stepped(Muon(0.5, **COMMON, **FILTERS), start, [gradient])
    same = stepped(Muon(0.5, **COMMON, **FILTERS), start * 7, [gradient * 1000])
    np.testing.assert_allclose(moved, same, atol=1e-5)
    normed = start * 4 / np.linalg.norm(start)
    values = np.linalg.svd((moved - normed).reshape(-1, 16), compute_uv=False)
    assert np.all((values > 0.05 * 0.6) & (values < 0.05 * 1.3))
    assert np.sum((moved - normed) * gradient) < 0


def test_muon_steps_everything_but_filters_as_lookahead_sgd_does():
    start, gradients = [[1.0, 2.0]], [[[0.3, -0.2]], [[0.1, 0.4]]]
    expected = stepped(LookaheadSGD(0.01, **COMMON), start, gradients)
    np.testing.assert_array_equal(stepped(Muon(0.01, **COMMON, **FILTERS), start, gradients), expected)


def test_the_rate_rises_to_the_peak_and_falls_to_its_end():
    rate = Triangle(2.0, total_steps=100, start=0.5, warmup=0.2, end=0.1)
    np.testing.assert_allclose([rate(0), rate(10), rate(20), rate(60), rate(100)], [1.0, 1.5, 2.0, 1.1, 0.2], rtol=1e-5)
