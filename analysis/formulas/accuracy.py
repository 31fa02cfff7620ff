"""How often the output neuron that has fired most stands for the label, time after time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from analysis.formulas.integers import as_integers
from recorder.format.bits import Counts


class Accuracy(NamedTuple):
    """Presentations by what the output said of them; the share of correct ones is correct / presentations.

    Attributes
    ----------
    correct : int64 array, shape [times]
        Presentations whose label had most spikes; of classes with equally many, the first counts.
    presentations : int64 array, shape [times]
        Presentations that lasted until then.
    ties : int64 array, shape [times]
        Presentations in which several classes had most spikes, so that the order of classes decided. Silence
        is a tie of all classes.
    """

    correct: Counts
    presentations: Counts
    ties: Counts


def accuracy_of(cumulated: ArrayLike, labels: ArrayLike, lengths: ArrayLike | None = None) -> Accuracy:
    """Compare the class with most spikes so far with the label, at each time.

    It shows how many steps a network needs. Source: Diehl et al. 2015, IJCNN, "Fast-classifying,
    high-accuracy spiking deep networks", who take the output neuron with most spikes so far. Equal to
    ``cumulated.argmax(-1) == labels[:, None]``, added up.

    Parameters
    ----------
    cumulated : int array, shape [presentations, times, classes]
        Spikes of each output neuron from the first time to this one.
    labels : int array, shape [presentations]
        Class of each presentation, 0 to classes - 1.
    lengths : int array, shape [presentations], optional
        Times that each presentation has, if fewer than ``times``; what comes later is not counted.

    Returns
    -------
    Accuracy

    Raises
    ------
    ValueError
        If a label is no class.
    """
    spikes, wanted = as_integers(cumulated), as_integers(labels)
    presentations, times, classes = spikes.shape
    wrong = wanted[(wanted < 0) | (wanted >= classes)]
    if len(wrong):
        raise ValueError(
            f"label {wrong[0]} is none of the {classes} classes; expected 0 to {classes - 1}: leave out "
            "presentations without a label, and ask about the layer that has one neuron for each class"
        )
    last = np.full(presentations, times) if lengths is None else as_integers(lengths)
    lasting = np.arange(times) < last[:, None]
    most = spikes.max(axis=2, keepdims=True)
    correct = (spikes.argmax(axis=2) == wanted[:, None]) & lasting
    tied = ((spikes == most).sum(axis=2) > 1) & lasting
    return Accuracy(correct.sum(axis=0), lasting.sum(axis=0), tied.sum(axis=0))
