"""The class with most spikes so far is compared with the label, time after time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.formulas.accuracy import accuracy_of

sizes = st.integers(1, 6)


@given(arrays(np.bool_, st.tuples(sizes, sizes, sizes)), st.data())
def test_accuracy_is_that_of_scikit_learn(spikes: Any, data: Any) -> None:
    presentations, times, classes = spikes.shape
    labels = np.array([data.draw(st.integers(0, classes - 1)) for _ in range(presentations)])
    cumulated = spikes.cumsum(axis=1, dtype=np.int64)
    found = accuracy_of(cumulated, labels)
    for time in range(times):
        said = [max(range(classes), key=row.__getitem__) for row in cumulated[:, time].tolist()]
        assert found.correct[time] == sklearn.metrics.accuracy_score(labels, said, normalize=False)
        shared = [row.count(max(row)) > 1 for row in cumulated[:, time].tolist()]
        assert found.ties[time] == sum(shared)
    assert found.presentations.tolist() == [presentations] * times


def test_the_first_of_equal_classes_counts_and_is_told_as_a_tie() -> None:
    cumulated = np.array([[[0, 0, 0], [0, 1, 1], [0, 1, 2]]] * 3)
    correct, presentations, ties = accuracy_of(cumulated, [0, 1, 2])
    assert correct.tolist() == [1, 1, 1]
    assert presentations.tolist() == [3, 3, 3]
    assert ties.tolist() == [3, 3, 0]


def test_presentations_count_as_long_as_they_last() -> None:
    cumulated = np.array([[[1, 0], [1, 0]], [[0, 1], [9, 1]], [[0, 0], [0, 0]]])
    correct, presentations, ties = accuracy_of(cumulated, [0, 1, 0], lengths=[2, 1, 1])
    assert correct.tolist() == [3, 1]
    assert presentations.tolist() == [3, 1]
    assert ties.tolist() == [1, 0]


def test_one_class_and_no_presentations() -> None:
    assert [*map(list, accuracy_of(np.zeros((2, 1, 1), np.int64), [0, 0]))] == [[2], [2], [0]]
    assert [*map(list, accuracy_of(np.zeros((0, 2, 3), np.int64), np.zeros(0, np.int64)))] == [[0, 0]] * 3


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_that_are_no_class_are_refused(label: int) -> None:
    with pytest.raises(ValueError, match=f"label {label} is none of the 3 classes; expected 0 to 2"):
        accuracy_of(np.zeros((2, 4, 3), np.int64), [0, label])
