"""Least squares with a prediction interval, as calibrations fitted at a site need it."""

import math
from collections.abc import Sequence
from typing import Annotated, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from scipy.special import stdtrit

from osteo_monai.measurement.calibration.density import Z_90

Array = NDArray[np.float64]
_Row = Annotated[tuple[FiniteFloat, ...], Field(min_length=1)]


class Regression(BaseModel):
    """A least-squares fit ``target = row @ coefficients``; a constant is a column of ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    coefficients: _Row
    covariance: Annotated[tuple[_Row, ...], Field(min_length=1)]
    """Inverse of the cross product of the rows, without the variance of the residuals."""
    residual_sd: FiniteFloat = Field(gt=0)
    degrees_of_freedom: int = Field(ge=1)

    @model_validator(mode="after")
    def _shapes_agree(self) -> Self:
        size = len(self.coefficients)
        if len(self.covariance) != size or any(len(row) != size for row in self.covariance):
            raise ValueError(f"covariance must have {size} rows and columns, as coefficients")
        matrix = np.array(self.covariance)
        if not np.allclose(matrix, matrix.T) or np.linalg.eigvalsh(matrix).min() <= 0:
            raise ValueError("covariance must be symmetric and positive definite")
        return self

    @property
    def scale(self) -> float:
        """SD of the residuals times t / 1.645, so that +-1.645 of it is a 90 % interval by the t distribution."""
        return self.residual_sd * float(stdtrit(self.degrees_of_freedom, 0.95)) / Z_90

    def predict(self, rows: ArrayLike) -> tuple[Array, Array]:
        """Return prediction and its SD for each row; +-1.645 SD is the 90 % prediction interval of one new case.

        Args:
            rows: (n, p).
        """
        x = np.atleast_2d(np.asarray(rows, dtype=np.float64))
        leverage = np.einsum("ni,ij,nj->n", x, np.array(self.covariance), x)
        return x @ np.array(self.coefficients), self.scale * np.sqrt(1.0 + leverage)

    def along(self, constant: Sequence[float], per_hu: Sequence[float]) -> "AlongHU":
        """Return the fit as a function of HU for rows ``constant + HU * per_hu``."""
        a, b, c = np.asarray(constant), np.asarray(per_hu), np.array(self.covariance)
        steep, mixed = float(b @ c @ b), float(a @ c @ b)
        at_centre = max(float(a @ c @ a) - mixed**2 / steep, 0.0)
        return AlongHU(
            intercept=float(a @ np.array(self.coefficients)),
            slope=float(b @ np.array(self.coefficients)),
            sd=self.scale * math.sqrt(1.0 + at_centre),
            slope_sd=self.scale * math.sqrt(steep),
            centre_hu=-mixed / steep,
        )


class AlongHU(BaseModel):
    """A fit as ``intercept + slope * HU``, with the SD ``hypot(sd, slope_sd * (HU - centre_hu))`` of one new case."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    intercept: FiniteFloat
    slope: FiniteFloat
    sd: FiniteFloat = Field(gt=0)
    slope_sd: FiniteFloat = Field(ge=0)
    centre_hu: FiniteFloat


def fit_regression(rows: ArrayLike, target: ArrayLike, subjects: int | None = None) -> Regression:
    """Fit ``target`` by least squares.

    Args:
        rows: (n, p), n > p.
        target: (n,).
        subjects: number of different persons, if fewer than rows: the degrees of freedom count persons.

    Raises:
        ValueError: too few cases, or columns that depend on one another.
    """
    x, y = np.asarray(rows, dtype=np.float64), np.asarray(target, dtype=np.float64)
    n, p = x.shape
    freedom = (n if subjects is None else min(subjects, n)) - p
    if freedom < 1:
        raise ValueError(f"rows must have more than {p} subjects, got {freedom + p}")
    scale = np.linalg.norm(x, axis=0)  # columns of HU and of ones differ in size
    if not (scale > 0).all() or np.linalg.cond(x / scale) > 1e6:
        raise ValueError("rows must have independent columns that vary")
    inverse = np.linalg.inv((x / scale).T @ (x / scale)) / np.outer(scale, scale)
    coefficients = inverse @ (x.T @ y)
    residual = y - x @ coefficients
    sd = math.sqrt(float(residual @ residual) / (n - p))
    inverse = (inverse + inverse.T) / 2.0
    return Regression(
        coefficients=tuple(coefficients.tolist()),
        covariance=tuple(tuple(row) for row in inverse.tolist()),
        residual_sd=max(sd, 1e-6),  # exact data
        degrees_of_freedom=freedom,
    )
