"""Maximisation of a log-likelihood with its gradient."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

__all__ = ["Objective", "climb_quickly", "maximise", "polish"]

Array = NDArray[np.float64]

Objective = Callable[[Array], tuple[float, Array]]
"""Function of parameters that returns log-likelihood and gradient."""


def maximise(value_and_gradient: Objective, start: Array, tolerance: float = 1e-7) -> tuple[Array, float]:
    """Maximise by BFGS; return the point and its value. ``tolerance`` is that of the gradient."""

    def negative(q: Array) -> tuple[float, Array]:
        value, gradient = value_and_gradient(q)
        return -value, -gradient

    options = {"gtol": tolerance, "maxiter": 500}
    result = minimize(negative, start, jac=True, method="BFGS", options=options)
    return result.x, -float(result.fun)


def _information(value_and_gradient: Objective, at: Array) -> Array:
    """Return the negative Hessian by central differences of the gradient."""
    h = 1e-4 * np.maximum(np.abs(at), 0.1)
    rows = [
        (value_and_gradient(at + step)[1] - value_and_gradient(at - step)[1]) / (2 * size)
        for step, size in zip(np.diag(h), h, strict=True)
    ]
    hessian = np.array(rows)
    return np.asarray(-(hessian + hessian.T) / 2)


def _pseudo_inverse(information: Array) -> Array:
    """Return the inverse on the informed directions: at a zero variance L may rotate without a change of Psi."""
    scale = 1 / np.sqrt(np.maximum(np.abs(np.diag(information)), 1e-12))
    values, vectors = np.linalg.eigh(information * np.outer(scale, scale))
    inverse = np.where(values > 1e-7 * max(values.max(), 1e-12), 1 / np.where(values == 0, 1, values), 0.0)
    return np.asarray((vectors * inverse) @ vectors.T * np.outer(scale, scale))


def polish(value_and_gradient: Objective, at: Array) -> tuple[Array, Array, float]:
    """Take a few Newton steps; return the point, its inverse information and the remaining decrement."""
    value, gradient = value_and_gradient(at)
    inverse = _pseudo_inverse(_information(value_and_gradient, at))
    decrement = float(gradient @ inverse @ gradient)
    for _ in range(4):
        if decrement < 1e-16:
            break
        new = at + inverse @ gradient
        new_value, new_gradient = value_and_gradient(new)
        new_decrement = float(new_gradient @ inverse @ new_gradient)
        if not new_decrement < decrement or new_value < value - 1e-6:
            break
        at, value, gradient, decrement = new, new_value, new_gradient, new_decrement
    return at, _pseudo_inverse(_information(value_and_gradient, at)), decrement


def climb_quickly(value_and_gradient: Objective, at: Array, metric: Array) -> Array:
    """Maximise by BFGS without a line search, from near the maximum with known curvature: one evaluation a step.

    Stops at a Newton decrement below 1e-6, a thousandth of a standard error from the maximum.
    """
    value, gradient = value_and_gradient(at)
    for _ in range(50):
        step = metric @ gradient
        decrement = float(gradient @ step)
        if decrement < 1e-6:
            break
        step *= min(1.0, 2 / math.sqrt(decrement))  # two standard errors at most
        for _ in range(20):
            new = at + step
            new_value, new_gradient = value_and_gradient(new)
            # with few nodes value and gradient disagree in the second decimal; the gradient is followed
            if new_value >= value - 0.05:
                break
            step /= 2
        else:
            break
        fall = gradient - new_gradient
        curvature = float(step @ fall)
        if curvature > 1e-12:
            change = np.eye(len(at)) - np.outer(step, fall) / curvature
            metric = change @ metric @ change.T + np.outer(step, step) / curvature
        at, value, gradient = new, new_value, new_gradient
    return at
