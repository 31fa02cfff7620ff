"""What neurons do together: how synchronous they are, and in how many dimensions their counts vary."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from analysis.formulas.integers import Floats, as_integers, exactly, matrix_product, quotient
from recorder.format.bits import Counts, Integers


def synchrony(
    frames: ArrayLike, sum_active: ArrayLike, sum_active_squared: ArrayLike, counts_per_neuron: ArrayLike
) -> Floats:
    """Synchrony χ²: variance of the population's rate over frames, divided by the mean variance of a neuron.

    With A(f) neurons that fire in frame f, of N, and c(i) spikes of neuron i in F frames, χ² = Var(A / N) /
    mean(p(i) (1 - p(i))), p(i) = c(i) / F, which is (F ΣA² - (ΣA)²) / (N Σ c(i) (F - c(i))). Both variances
    have ddof 0. It is 1 if all neurons fire in the same frames, about 1 / N if they are independent, and 0 if
    the population's rate never changes. Source: Golomb & Rinzel 1994, Physica D 72:259; Golomb 2007,
    Scholarpedia 2(1):1347. Some papers give its square root, χ.

    Parameters
    ----------
    frames : int array, shape [...]
    sum_active, sum_active_squared : int array, shape [...]
        Sums over frames of A and of A².
    counts_per_neuron : int array, shape [..., neurons]
        Spikes of each neuron in these frames; silent neurons belong here too.

    Returns
    -------
    float64 array, shape [...]
        NaN if no neuron varies: each is silent, or fires in every frame.
    """
    counts = as_integers(counts_per_neuron)
    population = exactly(_spread, frames, sum_active, sum_active_squared)
    single = exactly(_spread_of_neurons, np.expand_dims(as_integers(frames), -1), counts)
    return quotient(population, counts.shape[-1] * single)


def participation_ratio(counts: ArrayLike) -> Floats:
    """Participation ratio of the covariance C of neurons over presentations: (tr C)² / tr C².

    It is the number of dimensions in which counts vary: 1 if all neurons go up and down together, N if N
    neurons vary alike and independently. Source: Gao et al. 2017, bioRxiv 214262; Litwin-Kumar et al. 2017,
    Neuron 93:1153. The ratio does not change with the ddof of C.

    The presentations' centred Gram matrix has the same eigenvalues other than 0, so the smaller of the two
    matrices is used. Their entries are exact integers before they are rounded to float64, see
    `analysis.formulas.integers.matrix_product`.

    Parameters
    ----------
    counts : int array, shape [presentations, neurons]

    Returns
    -------
    float64 array, shape []
        NaN if no neuron varies, as with one presentation.
    """
    spikes = as_integers(counts)
    presentations, neurons = spikes.shape
    if neurons <= presentations:
        return ratio_of_products(presentations, spikes.sum(axis=0), matrix_product(spikes.T, spikes))
    return ratio_of_gram(presentations, matrix_product(spikes, spikes.T))


def ratio_of_products(n: ArrayLike, sums: ArrayLike, products: ArrayLike) -> Floats:
    """Participation ratio from sums over n presentations, which can be added up in any order.

    Parameters
    ----------
    n : int
    sums : int array, shape [neurons]
    products : int array, shape [neurons, neurons]
        Sums of the products of each two neurons' counts.

    Returns
    -------
    float64 array, shape []
        See `participation_ratio`.
    """
    return _participation(exactly(_covariance, n, sums, products))


def ratio_of_gram(n: ArrayLike, gram: ArrayLike) -> Floats:
    """Participation ratio from the products of each two of n presentations, summed over neurons.

    Parameters
    ----------
    n : int
    gram : int array, shape [n, n]

    Returns
    -------
    float64 array, shape []
        See `participation_ratio`.
    """
    return _participation(exactly(_centred, n, gram))


def _participation(matrix: Floats) -> Floats:
    return quotient(np.trace(matrix) ** 2, np.square(matrix).sum())


def _spread(n: Integers, total: Integers, squares: Integers) -> Integers:
    """n² times the variance."""
    return n * squares - total * total


def _spread_of_neurons(frames: Integers, counts: Integers) -> Counts:
    """frames² times the sum of the neurons' variances."""
    spread: Counts = (counts * (frames - counts)).sum(axis=-1)
    return spread


def _covariance(n: Integers, sums: Integers, products: Integers) -> Integers:
    """n² times the covariance of neurons."""
    return n * products - sums[:, None] * sums


def _centred(n: Integers, gram: Integers) -> Integers:
    """n² times the Gram matrix of what is left of counts without the mean of each neuron."""
    rows = gram.sum(axis=0)
    centred: Integers = n * (n * gram - rows[:, None] - rows) + rows.sum()
    return centred
