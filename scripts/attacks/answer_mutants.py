"""Ways to break answers about presentations and many recordings: name, test that notices, changes."""

from __future__ import annotations

from typing import Final

Changes = tuple[tuple[str, str, str], ...]

FOLDER, READING = "recorder/stores/files/folder.py", "recorder/tape/layers/layer_reading.py"
TASKS = "analysis/kernels/counting/tasks.py"
TABLES, PRESENTED = "analysis/kernels/tables.py", "analysis/statistics/answers/presented.py"
RANKS, TUNING = "asking/statistics/test_ranks.py", "asking/statistics/test_tuning.py"
SIMILARITY = "asking/statistics/test_similarity.py"

ANSWER_MUTANTS: Final[tuple[tuple[str, str, Changes], ...]] = (
    (
        "presentations of other lengths are compared",
        f"{RANKS}::test_presentations_of_other_lengths_are_not_compared",
        ((PRESENTED, "    if len(lengths) > 1:\n", "    if False:\n"),),
    ),
    (
        "presentations without a label have the last one",
        f"{RANKS}::test_presentations_are_those_of_all_ranks",
        ((PRESENTED, "(codes < 0) | (place < 0)", "(codes < 0)"),),
    ),
    (
        "of squares of counts, counts are summed",
        f"{RANKS}::test_presentations_are_those_of_all_ranks",
        ((TABLES, "_sum_by(counts * counts, codes, groups)", "_sum_by(counts, codes, groups)"),),
    ),
    (
        "labels of which nothing can be said count as zero",
        f"{RANKS}::test_presentations_are_those_of_all_ranks",
        ((TABLES, "(~np.isnan(each)).sum(axis=1)", "np.isfinite(np.nan_to_num(each)).sum(axis=1)"),),
    ),
    (
        "the first presentation is left out",
        f"{RANKS}::test_presentations_are_those_of_all_ranks",
        ((TABLES, "np.searchsorted(codes[order], 0) :]", "np.searchsorted(codes[order], 0) + 1 :]"),),
    ),
    (
        "a gap in a presentation is part of it",
        f"{RANKS}::test_presentations_are_those_of_all_ranks",
        ((TABLES, "    parted[1:] |= first[1:] != last[:-1]\n", ""),),
    ),
    (
        "samples that a trial lacks have the labels of the next trial",
        f"{SIMILARITY}::test_presentations_without_a_label_are_left_out",
        ((TABLES, "np.where(first + sample < last, first + sample, -1)", "first + sample"),),
    ),
    (
        "accuracy over time forgets the spikes before",
        f"{SIMILARITY}::test_accuracy_equals_that_of_plain_counting",
        ((TABLES, "cumulated = np.cumsum(block, axis=1)", "cumulated = block"),),
    ),
    (
        "of a batch of recordings the first is taken",
        "asking/opening/test_batches.py::test_recordings_are_pooled_as_one",
        ((TASKS, "add_up(spikes[layer::layers])", "add_up(spikes[layer : layer + 1])"),),
    ),
    (
        "counts of small recordings are not compared with the commit",
        "asking/opening/test_batches.py::test_damage_to_one_of_many_is_named",
        ((READING, "expected = self.counts_checksums()[first:last]", "expected = found"),),
    ),
    (
        "a folder that is a link is followed",
        "tape/test_stores.py::test_nothing_outside_the_folder_is_read",
        ((FOLDER, "if _is_link(", "if False and _is_link("),),
    ),
    (
        "sums of all neurons are alive at once",
        f"{TUNING}::test_sums_of_some_neurons_are_made_and_let_go_of_by_themselves",
        (("analysis/statistics/answers/averaging.py", "len(cuts) > 2 and", "False and"),),
    ),
)
