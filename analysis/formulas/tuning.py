"""How much the spikes of a neuron tell of the label, and how few labels or neurons they come from."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from analysis.formulas.integers import Floats, as_integers, quotient


def selectivity(spikes: ArrayLike, slots: ArrayLike) -> Floats:
    """Class selectivity: (μmax - μrest) / (μmax + μrest).

    μmax is a neuron's highest rate among labels, μrest the mean of its rates at all other labels, each label
    with the same weight. It is 1 if the neuron fires at one label only, 0 if at all of them alike. Source:
    Morcos et al. 2018, ICLR, "On the importance of single directions for generalization", who take
    activations where this takes rates.

    Parameters
    ----------
    spikes : int array, shape [labels, ...]
        Spikes of each neuron at each label.
    slots : int array, shape [labels]
        Slots of one neuron at each label; labels without any are left out.

    Returns
    -------
    float64 array, shape [...]
        NaN for silent neurons, and for fewer than two labels.
    """
    total = as_integers(spikes)
    rates = quotient(total, np.reshape(as_integers(slots), (-1,) + (1,) * (total.ndim - 1)))
    rates = rates[np.asarray(slots) > 0]
    if not len(rates):
        return np.full(total.shape[1:], np.nan)
    best = np.argmax(rates, axis=0)
    others = np.arange(len(rates)).reshape((-1,) + (1,) * best.ndim) != best
    # Both sums are over the same labels, so that equal rates give exactly 0, and a single label exactly 1.
    highest = rates.max(axis=0)
    above = np.sum(highest - rates, axis=0, where=others)
    return quotient(above, np.sum(highest + rates, axis=0, where=others))


def mutual_information(joint: ArrayLike) -> Floats:
    """Mutual information, in bits, of label and spike count, as observed ("plug-in").

    I = Σ p(l, c) log2(p(l, c) / (p(l) p(c))). With few presentations it is too high, see
    `corrected_mutual_information`. Source: Shannon 1948, Bell Syst. Tech. J. 27:379. Equal to
    ``sklearn.metrics.mutual_info_score(labels, counts) / ln 2``.

    Parameters
    ----------
    joint : int array, shape [labels, counts, ...]
        Number of presentations with this label in which the neuron fired so often.

    Returns
    -------
    float64 array, shape [...]
        0 where label or count is always the same; NaN where there are no presentations.
    """
    table = as_integers(joint).astype(np.float64)
    of_label, of_count = table.sum(axis=1, keepdims=True), table.sum(axis=0, keepdims=True)
    presentations = table.sum(axis=(0, 1))
    # Products are integers that float64 holds, so that what is independent gives log2(1) = 0.
    ratio = np.divide(table * presentations, of_label * of_count, out=np.ones_like(table), where=table > 0)
    return quotient(np.maximum((table * np.log2(ratio)).sum(axis=(0, 1)), 0), presentations)


def corrected_mutual_information(joint: ArrayLike) -> Floats:
    """Mutual information, in bits, less its bias by the correction of Miller and Madow.

    An entropy of N observations with K different outcomes is too low by about (K - 1) / (2 N) nats. As
    I = H(label) + H(count) - H(label, count), this subtracts
    (K(label, count) - K(label) - K(count) + 1) / (2 N ln 2) bits, where K are outcomes that occurred.
    Source: Miller 1955, "Note on the bias of information estimates"; Panzeri & Treves 1996, Network 7:87.

    Parameters
    ----------
    joint : int array, shape [labels, counts, ...]
        As in `mutual_information`.

    Returns
    -------
    float64 array, shape [...]
        It may be below 0 where information is less than the bias expected; NaN where there are no
        presentations.
    """
    occurred = as_integers(joint) > 0
    of_label, of_count = (occurred.any(axis=axis).sum(axis=0) for axis in (1, 0))
    surplus = occurred.sum(axis=(0, 1)) - of_label - of_count + 1
    presentations = as_integers(joint).sum(axis=(0, 1))
    return mutual_information(joint) - quotient(surplus, 2 * math.log(2) * presentations)


def skaggs_information(rates: ArrayLike, occupancy: ArrayLike) -> Floats:
    """Information about the label, in bits per spike, that rates hold.

    I = Σ p(l) r(l) / r log2(r(l) / r), with the mean rate r = Σ p(l) r(l). Source: Skaggs et al. 1993, NIPS
    5:1030, where labels are places. Equal to ``"bits/spike"`` of ``pynapple.compute_mutual_information``.

    Parameters
    ----------
    rates : float array, shape [labels, ...]
        Rate of each neuron at each label, in any unit.
    occupancy : int or float array, shape [labels]
        Slots, or time, at each label. Labels without any are left out, whatever their rate is.

    Returns
    -------
    float64 array, shape [...]
        NaN for silent neurons.
    """
    weight = np.asarray(occupancy, np.float64)
    rate = np.asarray(rates, np.float64)[weight > 0]
    share = (weight[weight > 0] / weight.sum()).reshape((-1,) + (1,) * (rate.ndim - 1))
    mean_rate = (share * rate).sum(axis=0)
    relative = quotient(rate, mean_rate)
    bits = relative * np.log2(relative, out=np.zeros_like(relative), where=relative != 0)
    return np.where(mean_rate > 0, (share * bits).sum(axis=0), np.nan)


def sparseness(values: ArrayLike, axis: int) -> Floats:
    """Sparseness of Treves and Rolls: a = (mean r)² / mean r², over labels or over neurons.

    It is 1 if all values are equal, and 1 / n if all but one of n are 0: the *smaller*, the sparser. Over
    labels it is about one neuron (lifetime), over neurons about one label (population). Source: Treves &
    Rolls 1991, Network 2:371. Vinje & Gallant 2000 make of it (1 - a) / (1 - 1 / n), which is not what is
    returned here.

    Parameters
    ----------
    values : int or float array
        Rates or counts, not negative.
    axis : int
        The axis to go over.

    Returns
    -------
    float64 array, shape of the values without that axis
        NaN where all values are 0.
    """
    rates = np.asarray(values, np.float64)
    return quotient(rates.sum(axis=axis) ** 2, rates.shape[axis] * np.square(rates).sum(axis=axis))
