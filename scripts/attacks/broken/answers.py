"""Ways to break answers: what is asked, how it is cut, counted and joined."""

from __future__ import annotations

from broken.mutant import Mutant

READING = "recorder/tape/layers/layer_reading.py"
WEIGHTED = "analysis/statistics/weighted_spikes.py"
COUNTS = "analysis/asking/operations/counted_operations.py"
REGULAR = "recorder/stores/files/regular.py"
TASKS = "analysis/kernels/counting/tasks.py"
TABLES = "analysis/kernels/tables.py"
PRESENTED = "analysis/statistics/answers/presented.py"
RANKS = "asking/statistics/test_ranks.py"
TUNING = "asking/statistics/test_tuning.py"
SIMILARITY = "asking/statistics/test_similarity.py"

ANSWERS_MUTANTS = (
    Mutant(
        "lost frames are frames like others",
        "keeping/test_lost.py::test_a_step_of_which_frames_are_lost_is_a_gap_and_no_silence",
        (("analysis/kernels/selecting/source.py", "kept_segments()", "segments()"),),
    ),
    Mutant(
        "workers take what their folder holds",
        "asking/test_cluster.py::test_what_a_parcel_holds_is_ours_wherever_it_is_opened",
        (("spiketape_worker.py", "                claim_packages()\n", ""),),
    ),
    Mutant(
        "silent neurons of several recordings are added up, not joined",
        "asking/opening/test_joint.py::test_every_statistic_is_that_of_all_frames_together",
        (("analysis/asking/planning.py", "joins = quantity.keeps_neurons and", "joins = False and"),),
    ),
    Mutant(
        "ranks that are missing are left out",
        "asking/opening/test_joint.py::test_missing_ranks_are_named",
        (("analysis/opening/readers.py", "    _check_ranks(found)\n", ""),),
    ),
    Mutant(
        "steps of different runs are pooled",
        "asking/opening/test_joint.py::test_ranks_of_two_runs_share_no_steps",
        (("analysis/asking/axes.py", "    _check_time(question, members)\n", ""),),
    ),
    Mutant(
        "operations of a forward that raised are zero",
        "recording/test_operations.py::test_a_forward_that_raises_has_none_and_no_figure_takes_that_for_zero",
        ((COUNTS, "if step is not None:", "if False:"),),
    ),
    Mutant(
        "counts stand for a part of a network",
        "asking/statistics/test_counted_operations.py::test_counts_stand_for_no_part_of_a_network",
        ((COUNTS, "if not _is_whole(layers):", "if False:"),),
    ),
    Mutant(
        "NaN differs from NaN",
        "asking/test_compared_signals.py::test_equal_signals_are_equal_and_nan_equals_nan",
        (
            (
                "analysis/kernels/compared_signals.py",
                "differing &= ~(np.isnan(ours) & np.isnan(theirs))",
                "pass",
            ),
        ),
    ),
    Mutant(
        "layers whose readers are not known cost nothing",
        "asking/statistics/test_operations.py"
        "::test_what_is_not_covered_is_refused_by_name_or_left_out_with_a_warning_and_never_zero",
        (
            (
                WEIGHTED,
                "layers = [layer for layer in every if layer[0].layer not in left_out]",
                "layers = every",
            ),
        ),
    ),
    Mutant(
        "presentations of other lengths are compared",
        f"{RANKS}::test_presentations_of_other_lengths_are_not_compared",
        ((PRESENTED, "    if len(lengths) > 1:\n", "    if False:\n"),),
    ),
    Mutant(
        "presentations without a label have the last one",
        f"{RANKS}::test_presentations_are_those_of_all_ranks",
        ((PRESENTED, "(codes < 0) | (place < 0)", "(codes < 0)"),),
    ),
    Mutant(
        "of squares of counts, counts are summed",
        f"{RANKS}::test_presentations_are_those_of_all_ranks",
        ((TABLES, "_sum_by(counts * counts, codes, groups)", "_sum_by(counts, codes, groups)"),),
    ),
    Mutant(
        "labels of which nothing can be said count as zero",
        f"{RANKS}::test_presentations_are_those_of_all_ranks",
        ((TABLES, "(~np.isnan(each)).sum(axis=1)", "np.isfinite(np.nan_to_num(each)).sum(axis=1)"),),
    ),
    Mutant(
        "the first presentation is left out",
        f"{RANKS}::test_presentations_are_those_of_all_ranks",
        ((TABLES, "np.searchsorted(codes[order], 0) :]", "np.searchsorted(codes[order], 0) + 1 :]"),),
    ),
    Mutant(
        "a gap in a presentation is part of it",
        f"{RANKS}::test_presentations_are_those_of_all_ranks",
        ((TABLES, "    parted[1:] |= first[1:] != last[:-1]\n", ""),),
    ),
    Mutant(
        "samples that a trial lacks have the labels of the next trial",
        f"{SIMILARITY}::test_presentations_without_a_label_are_left_out",
        ((TABLES, "np.where(first + sample < last, first + sample, -1)", "first + sample"),),
    ),
    Mutant(
        "accuracy over time forgets the spikes before",
        f"{SIMILARITY}::test_accuracy_equals_that_of_plain_counting",
        ((TABLES, "cumulated = np.cumsum(block, axis=1)", "cumulated = block"),),
    ),
    Mutant(
        "of a batch of recordings the first is taken",
        "asking/opening/test_batches.py::test_recordings_are_pooled_as_one",
        ((TASKS, "add_up(spikes[layer::layers])", "add_up(spikes[layer : layer + 1])"),),
    ),
    Mutant(
        "counts of small recordings are not compared with the commit",
        "asking/opening/test_batches.py::test_damage_to_one_of_many_is_named",
        ((READING, "expected = self.counts_checksums()[first : first + len(rows)]", "expected = found"),),
    ),
    Mutant(
        "a folder that is a link is followed",
        "tape/test_stores.py::test_nothing_outside_the_folder_is_read",
        ((REGULAR, "if _is_link(os.lstat(f", "if False and _is_link(os.lstat(f"),),
    ),
    Mutant(
        "sums of all neurons are alive at once",
        f"{TUNING}::test_sums_of_some_neurons_are_made_and_let_go_of_by_themselves",
        (("analysis/statistics/answers/averaging.py", "len(cuts) > 2 and", "False and"),),
    ),
)  # fmt: skip
