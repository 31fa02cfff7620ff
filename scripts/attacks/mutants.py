"""Break the code on purpose, one promise at a time, in a copy of the repository: a named test must notice.

With arguments, only the mutants whose names contain one of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300
sys.path.append(str(ROOT / "scripts" / "attacks"))

from answer_mutants import ANSWER_MUTANTS  # noqa: E402 - found by the line before


@dataclass(frozen=True)
class Mutant:
    """A way to break a promise: in each file, a text is replaced; and the test that notices."""

    name: str
    test: str
    changes: tuple[tuple[str, str, str], ...]


TAPE, LAYER = "recorder/tape/writing.py", "recorder/tape/layers/layer_writing.py"
BITS, LEVELS = "recorder/tape/layers/bits_writing.py", "recorder/tape/layers/levels.py"
VALUES, VALUE_PACKING = "recorder/format/values.py", "recorder/capture/value_packing.py"
READING, STORES = "recorder/tape/layers/layer_reading.py", "recorder/stores/files/folder.py"
THREADS, RECORD = "recorder/tape/threads/", "recorder/tape/record_writing.py"
ARRAY_READING, SYNCING = "recorder/tape/layers/array_reading.py", "recorder/stores/files/syncing.py"
LOCK, HOLDER, HOOKS = (
    "recorder/tape/holding/lock.py",
    "recorder/tape/holding/holder.py",
    "recorder/hooks/network.py",
)
FENCE = "recorder/tape/holding/fence.py"
LAYER_RECORDER = "recorder/capture/layer_recorder.py"
STEPS, ROWS = "recorder/session/steps.py", "recorder/session/rows.py"
LAYERS, LINK = "recorder/session/layers.py", "recorder/hooks/session_link.py"
SESSION, PACKING = "recorder/session/session.py", "recorder/capture/host_packing.py"
NATIVE, LOOPS = "recorder/capture/native_packing.py", "recorder/native/packing_loops.py"
ENTRANCE, TRIALS = "recorder/session/entrance.py", "recorder/format/trials.py"
TRANSFER, DEVICE_PACKING = "recorder/capture/device/transfer.py", "recorder/capture/device/packing.py"
FINALIZING = "recorder/tape/holding/finalizing.py"
ELSEWHERE = "recorder/elsewhere/writing.py"
SIGNAL_READING, SIGNAL_WRITING = (
    "recorder/tape/layers/signal_reading.py",
    "recorder/tape/layers/signal_writing.py",
)
SIGNAL_RECORDER = "recorder/capture/signal_recorder.py"
GRAPH, WEIGHTED = "recorder/connections/forward_graph.py", "analysis/statistics/weighted_spikes.py"
COUNTING, COUNTED = "recorder/connections/counting.py", "recorder/session/operations.py"
COUNTS = "analysis/asking/operations/counted_operations.py"

MUTANTS = (
    Mutant(
        "any values pass for the last chunk of a signal",
        "tape/test_signal_reading.py::test_other_values_in_the_last_chunk_are_refused",
        ((SIGNAL_READING, "if rows_checksum(values) != self.commit.tail[part]:", "if False:"),),
    ),
    Mutant(
        "any chunk passes for that of a signal",
        "tape/test_signal_reading.py::test_swapped_chunks_are_refused",
        ((ARRAY_READING, "is_full = (chunk + 1) * self.plan.chunk_frames <= self.frames", "is_full = 0"),),
    ),
    Mutant(
        "signals keep the forward that close cuts short",
        "attacks/test_lifecycle.py::test_close_leaves_out_the_forward_that_it_cuts_short",
        ((LAYERS, "{name: before for name, before in of_signals.items() if before},", "{},"),),
    ),
    Mutant(
        "values of a call that was cut short stay",
        "attacks/test_interrupts.py::test_an_exception_from_outside_in_the_midst_of_recording_breaks_no_commit",
        ((SIGNAL_RECORDER, "        if self._undo is not None:\n", "        if self._waiting < 0:\n"),),
    ),
    Mutant(
        "nobody waits for values at a commit",
        "recording/signals/test_signals_on_devices.py::test_values_arrive_as_they_were",
        ((SIGNAL_RECORDER, "                piece.ring.wait(piece.transfer)\n", "                pass\n"),),
    ),
    Mutant(
        "the values of a chunk that goes on growing are written when it is full",
        "tape/test_signal_reading.py::test_values_are_read_in_any_range",
        ((SIGNAL_WRITING, ", self._commits)\n", ", self._commits) if close else None\n"),),
    ),
    Mutant(
        "files are not synced",
        "tape/test_stores.py::test_every_file_and_folder_is_synced_before_it_is_relied_on",
        ((STORES, "                    sync(file.fileno())\n", "                    pass\n"),),
    ),
    Mutant(
        "folders are not synced",
        "tape/test_stores.py::test_every_file_and_folder_is_synced_before_it_is_relied_on",
        ((SYNCING, "                sync(descriptor)\n", "                pass\n"),),
    ),
    Mutant(
        "what fails side by side is not told",
        "tape/test_side_by_side.py::test_a_write_that_fails_is_told_at_the_end_after_all_others_were_done",
        ((THREADS + "side_by_side.py", "            future.result()\n", "            pass\n"),),
    ),
    Mutant(
        "a key is written twice at the same time",
        "tape/test_side_by_side.py::test_a_key_that_is_written_again_has_the_later_bytes",
        ((THREADS + "side_by_side.py", "if key in self._under_way or held", "if held"),),
    ),
    Mutant(
        "a slow disk is given larger chunks",
        "tape/test_pressure.py::test_a_disk_that_is_slower_than_compression_is_not_given_larger_chunks",
        ((THREADS + "pressure.py", "self._writing_seconds > self._encoding_seconds", "False"),),
    ),
    Mutant(
        "the compiled loop forgets the rest of a tile",
        "tape/test_rearranging.py::test_the_compiled_loop_does_what_numpy_does",
        (("recorder/native/rearranging_loops.py", "high = min(_HIGH, width - begin)", "high = _HIGH"),),
    ),
    Mutant(
        "the commit does not wait for the data",
        "attacks/test_faults.py::test_a_loss_of_power_takes_nothing_that_was_committed",
        (
            (
                RECORD,
                "        self._commits.finish()\n        self._store.persist()\n",
                "        self._commits.finish()\n",
            ),
            (
                RECORD,
                "        self._written |= new\n        self._store.persist()\n",
                "        self._written |= new\n",
            ),
        ),
    ),
    Mutant(
        "the commit comes before the data",
        "attacks/test_faults.py::test_a_writer_may_die_at_each_stage_of_a_commit",
        (
            (
                BITS,
                "store.write(self._chunk_key(chunk, part), each)",
                "_LATE.append((self._chunk_key(chunk, part), each))",
            ),
            (
                RECORD,
                "        place_record()\n",
                "        place_record()\n"
                "        while _LATE:\n            self._store.write(*_LATE.pop())\n",
            ),
            (BITS, "TableWriter, rows_checksum\n", "TableWriter, rows_checksum\n\n_LATE = []\n"),
            (RECORD, "\n\nclass Rec", "from recorder.tape.layers.bits_writing import _LATE\n\nclass Rec"),
        ),
    ),
    Mutant(
        "checksums of chunks are not looked at",
        "attacks/forged/test_damage.py::test_no_damage_changes_an_answer_and_verification_finds_all_of_it",
        (("recorder/format/chunks.py", " or checksum(stored) != _SEALED", ""),),
    ),
    Mutant(
        "names of chunks are not looked at",
        "attacks/forged/test_damage.py::test_no_damage_changes_an_answer_and_verification_finds_all_of_it",
        ((ARRAY_READING, "if is_full and stored_checksum", "if False and stored_checksum"),),
    ),
    Mutant(
        "readers see frames behind the commit",
        "tape/test_writing.py::test_an_older_reader_still_sees_its_commit_after_later_ones",
        ((ARRAY_READING, "clip_segments(read_rows(self.store, table, 0, commit.rows), self.frames)",
                "read_rows(self.store, table, 0, commit.rows)"),),
    ),
    Mutant(
        "lost frames are frames like others",
        "keeping/test_lost.py::test_a_step_of_which_frames_are_lost_is_a_gap_and_no_silence",
        (("analysis/kernels/selecting/source.py", "kept_segments()", "segments()"),),
    ),
    Mutant(
        "counts are used of blocks with lost frames",
        "keeping/test_lost.py::test_a_recording_goes_on_behind_lost_frames",
        ((READING, "start + np.flatnonzero(~kept)", "start + np.flatnonzero(~kept)[:0]"),),
    ),
    Mutant(
        "lost chunks are read as silence",
        "keeping/test_lost.py::test_a_step_of_which_frames_are_lost_is_a_gap_and_no_silence",
        (
            (
                ARRAY_READING,
                'raise self.chunk_error(chunk, part, f"is marked lost; lost {self.not_absence}")',
                "return np.zeros((self.plan.part_neurons, self.plan.chunk_bytes), np.uint8)",
            ),
        ),
    ),
    Mutant(
        "a writer goes on in a chunk that is lost in part as if nothing was lost",
        "recording/monitor/test_resuming.py::test_lost_frames_are_in_no_answer_of_a_resumed_monitor",
        ((LAYER, "return replace(commit, checksums", "return replace(commit, lost=(), checksums"),),
    ),
    Mutant(
        "a plane begins with the chunk behind the one that needs it",
        "tape/format/test_planes.py::test_a_plane_begins_with_the_chunk_that_needs_it",
        ((LAYER, "chunk, filled = self._spikes.place", "chunk, filled = self._spikes.place[0] + 1, 0"),),
    ),
    Mutant(
        "a plane that begins has no rows for the chunks before",
        "tape/format/test_planes.py::test_a_recording_of_values_reads_back_and_is_sound",
        ((LAYER, "                plane.begin_with_silence()\n", ""),),
    ),
    Mutant(
        "rows in which a plane is silent are left out of it",
        "tape/format/test_planes.py::test_a_recording_of_values_reads_back_and_is_sound",
        (
            (
                BITS,
                "self._rows[self._filled : self._filled + count] = 0 if rows is None else rows",
                "self._rows[self._filled : self._filled + count] = 255 if rows is None else rows",
            ),
        ),
    ),
    Mutant(
        "bits of a plane are taken to be at all events that are stored, behind the commit, too",
        "tape/format/test_at_events.py::test_a_chunk_that_grows_fits_the_older_ones_beside_it",
        ((READING, "layer.committed_part(chunk, part, read_events())", "read_events()"),),
    ),
    Mutant(
        "a plane may say more than there are events",
        "tape/format/test_at_events.py::test_bits_behind_the_events_are_refused_by_verification",
        ((READING, "if to_the_end and is_finished:", "if False:"),),
    ),
    Mutant(
        "negative values count as positive ones",
        "tape/format/test_planes.py::test_a_writer_goes_on_with_values_and_cuts_them",
        ((LEVELS, "total -= 2 * count_bits(sign)", "total -= 0 * count_bits(sign)"),),
    ),
    Mutant(
        "values are rounded, not refused",
        "recording/outputs/test_graded_values.py::test_ones_are_the_scale_once_there_were_some",
        ((VALUE_PACKING, "if not is_given_back:", "if False:"),),
    ),
    Mutant(
        "values that were pushed and do not count leave their range",
        "recording/packing/test_value_packing.py::test_what_does_not_count_leaves_no_trace",
        ((VALUE_PACKING, "            self._range = self._range_before\n", "            pass\n"),),
    ),
    Mutant(
        "the largest level has one plane less",
        "tape/format/test_planes.py::test_levels_become_planes_and_levels_again",
        ((VALUES, "max(max(most, -least) - 1, 0)", "max(max(most, -least) - 2, 0)"),),
    ),
    Mutant(
        "of a round that is refused, some layers are written",
        "recording/elsewhere/test_going_on.py::test_a_value_that_is_none_leaves_the_rounds_before",
        (
            (ELSEWHERE, "packed = [self", "packed = (self"),
            (ELSEWHERE, "layer, window in fed]\n", "layer, window in fed)\n"),
        ),
    ),
    Mutant(
        "what is there already is written again",
        "recording/elsewhere/test_going_on.py::test_what_is_whole_is_gone_on_with_as_it_is",
        ((ELSEWHERE, "self._known = self._step if skips else 0", "self._known = 0"),),
    ),
    Mutant(
        "labels are noted again with the rest of their trial",
        "recording/elsewhere/test_going_on.py::test_arrays_and_tables_are_gone_on_with_in_the_midst",
        ((ELSEWHERE, "            self._trials.forget(1)\n", ""),),
    ),
    Mutant(
        "presentations that lack steps are passed off as silent",
        "recording/elsewhere/test_spike_dataset.py::test_a_layer_that_was_not_called_in_a_trial",
        (("recorder/spike_dataset.py", "is_whole &= layer.kept_steps(trial, sample) == self._steps", "0"),),
    ),
    Mutant(
        "older readers take a recording with lost frames for theirs",
        "tape/format/test_metadata.py::test_lost_frames_make_it_a_recording_that_older_readers_refuse",
        (
            (
                "recorder/format/record/metadata.py",
                "return LOST_FORMAT_VERSION if any(layer.lost for layer in self.layers) else FORMAT_VERSION",
                "return FORMAT_VERSION",
            ),
        ),
    ),
    Mutant(
        "the last chunk is not cut to the commit",
        "tape/test_writing.py::test_frames_written_after_the_last_commit_are_not_seen",
        ((READING, "mask_trains(trains, range_mask(plan.chunk_frames, 0, tail_frames))", "trains"),),
    ),
    Mutant(
        "a second writer is let in",
        "tape/test_lock.py::test_a_second_writer_in_the_same_process_is_refused",
        ((LOCK, 'if state == "dead" or', 'if state in {"dead", "alive"} or'),),
    ),
    Mutant(
        "a machine of the same image is taken for an earlier start of this one",
        "tape/test_lock.py::test_a_machine_of_the_same_image_cannot_be_seen",
        ((HOLDER, 'return "dead" if all(map(_is_before_boot, moments)) else "unknown"', 'return "dead"'),),
    ),
    Mutant(
        "a writer that was taken over goes on",
        "tape/test_lock.py::test_a_writer_that_was_taken_over_stops_at_its_next_commit",
        ((FENCE, "if holder is None or holder.owner != self._holder.owner:", "if False:"),),
    ),
    Mutant(
        "a write that has begun ends in a folder that was taken over",
        "attacks/test_sleeping_writers.py::test_in_a_folder_a_write_that_has_begun_comes_to_nothing",
        (
            (
                STORES,
                "folder = self._writing or os.path.dirname(path)\n",
                "folder = os.path.dirname(path)\n",
            ),
        ),
    ),
    Mutant(
        "what is computed again is recorded again",
        "recording/test_hooks.py::test_what_activation_checkpointing_computes_again_is_not_recorded_again",
        ((LINK, " or current_graph_task_id() != -1", ""),),
    ),
    Mutant(
        "compiled graphs are kept",
        "recording/test_hooks.py::test_the_compiled_network_itself_is_monitored",
        ((HOOKS, "compiler.reset()", "pass"),),
    ),
    Mutant(
        "rows are let go of before the writer has them",
        "attacks/test_interrupts.py"
        "::test_nothing_is_lost_if_waiting_for_a_slow_disk_is_interrupted",
        ((ROWS, "            self._writer.wait_for_room(self._size_bytes)\n", ""),),
    ),
    Mutant(
        "a forward that was cut short leaves its layers at different steps",
        "attacks/test_interrupts.py"
        "::test_nothing_is_lost_if_waiting_for_a_slow_disk_is_interrupted",
        ((STEPS, "self._end(succeeded=False)\n", "self._forward, self._called = self._forward + 1, 0\n"),),
    ),
    Mutant(
        "frames that do not count are kept",
        "attacks/test_interrupts.py::test_frames_that_were_cut_short_take_no_place_of_others",
        ((LAYER_RECORDER, "self._packer.roll_back()\n", "self._packer.undo = None\n"),),
    ),
    Mutant(
        "booleans wait for a slow disk",
        "attacks/test_interrupts.py::test_what_waits_for_a_slow_disk_is_packed",
        ((ROWS, "isinstance(piece, FullStage) and self._writer.is_behind", "False"),),
    ),
    Mutant(
        "a stage is used again before it is packed",
        "recording/packing/test_host_packing.py::test_frames_come_out_as_they_went_in",
        (
            (
                PACKING,
                "            self.ready += [full]\n",
                "            self._pool.give_back(stage)\n            self.ready += [full]\n",
            ),
        ),
    ),
    Mutant(
        "frames of a refused output stay",
        "recording/packing/test_host_packing.py::test_other_values_are_refused_and_nothing_of_them_is_kept",
        (
            (
                PACKING,
                "self._stage, self._waiting, self.has_fired, self.undo = stage, waiting, has_fired, None",
                "self.undo = None",
            ),
        ),
    ),
    Mutant(
        "close() keeps what a forward has begun",
        "attacks/test_lifecycle.py::test_close_leaves_out_the_forward_that_it_cuts_short",
        ((STEPS, "if was_running else {}", "if False else {}"),),
    ),
    Mutant(
        "a handler's close() waits for the output that it interrupts",
        "attacks/test_lifecycle.py::test_sigterm_leaves_equal_layers",
        ((SESSION, "(is_keeping or self.layers.are_on_device)", "True"),),
    ),
    Mutant(
        "a handler may run the network in the middle of an output",
        "attacks/test_lifecycle.py::test_a_handler_that_runs_the_network_in_the_middle_of_an_output_is_refused",
        ((ENTRANCE, "if entrance.inside or entrance.is_elsewhere:", "if entrance.is_elsewhere:"),),
    ),
    Mutant(
        "a fork leaves doors locked",
        "attacks/test_lifecycle.py::test_nothing_hangs_in_a_child_that_is_forked_while_another_thread_records",
        ((ENTRANCE, "        entrance.open()\n        entrance.is", "        entrance.is"),),
    ),
    Mutant(
        "a trial is everybody's",
        "attacks/test_lifecycle.py::test_a_trial_belongs_to_the_thread_that_opened_it",
        ((TRIALS, "self._open.thread is not threading.current_thread()", "False"),),
    ),
    Mutant(
        "a failed reset is forgotten",
        "attacks/test_lifecycle.py::test_a_reset_that_fails_says_so_at_the_next_step",
        ((SESSION, "self._end(because=UNFINISHED_RESET)", "self._end()"),),
    ),
    Mutant(
        "values are not checked",
        "recording/packing/test_host_packing.py::test_other_values_are_refused_and_nothing_of_them_is_kept",
        ((PACKING, "            refuse_others(values, ones)\n", "            pass\n"),),
    ),
    Mutant(
        "the compiled pass takes every value",
        "recording/packing/test_native_packing.py::test_the_compiled_pass_does_what_numpy_does",
        ((LOOPS, "return both(others, significant) != zero, ", "return False, "),),
    ),
    Mutant(
        "the compiled pass keeps frames that do not count",
        "recording/packing/test_native_packing.py::test_the_compiled_pass_does_what_numpy_does",
        ((LOOPS, "either(both(row[neuron], before), spike)", "either(row[neuron], spike)"),),
    ),
    Mutant(
        "the compiled pass takes -0.0 for another value",
        "recording/packing/test_native_packing.py::test_every_half_is_told_as_numpy_tells_it",
        (("recorder/native/loading.py", "(1 << (8 * size - has_sign)) - 1", "(1 << (8 * size)) - 1"),),
    ),
    Mutant(
        "frames that fill no row are lost when the compiled pass takes over",
        "recording/packing/test_native_packing.py::test_a_recording_goes_on_in_the_compiled_pass_when_it_is_there",
        ((NATIVE, "self._stage[:1] = np.packbits(pending, axis=0)\n", "self._stage[:1] = 0\n"),),
    ),
    Mutant(
        "a disk without room for compiled loops is an error",
        "recording/packing/test_kept_loops.py::test_a_cache_of_compiled_loops_that_fails_is_no_error",
        (("recorder/native/compiling.py", "suppress(*_NOT_KEPT)", "suppress(EOFError)"),),
    ),
    Mutant(
        "copies from a device are not waited for",
        "recording/packing/test_transfer.py::test_bytes_arrive_as_they_were_sent",
        ((TRANSFER, "        piece.arrival.synchronize()\n", ""),),
    ),
    Mutant(
        "what a device packs is kept whatever its verdict",
        "recording/packing/test_device_packing.py::test_other_values_are_told_with_the_next_commit_at_the_latest_and_left_out",
        ((DEVICE_PACKING, "if any(verdict.others for verdict in found):", "if False:"),),
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
        (("analysis/opening.py", "    _check_ranks(found)\n", ""),),
    ),
    Mutant(
        "steps of different runs are pooled",
        "asking/opening/test_joint.py::test_ranks_of_two_runs_share_no_steps",
        (("analysis/asking/axes.py", "    _check_time(question, members)\n", ""),),
    ),
    Mutant(
        "ranks that resume do not look where the others are",
        "recording/monitor/test_ranks.py::test_ranks_that_crashed_at_different_steps_go_on_at_the_same_one",
        (("recorder/monitor.py", "            self._catch_up(self._rank)\n", "            pass\n"),),
    ),
    Mutant(
        "the index of a shard is believed",
        "keeping/test_packed_damage.py::test_damage_to_shards_is_an_error_and_never_silence",
        (
            (
                "recorder/stores/sharded.py",
                "if len(stored) != plan.index_bytes or checksum(encoded)",
                "if False and checksum(encoded)",
            ),
        ),
    ),
    Mutant(
        "what is packed has its root before its chunks",
        "keeping/test_packed_damage.py::test_packing_cut_short_anywhere_leaves_no_recording_and_goes_on",
        (
            (
                "recorder/keeping/pack.py",
                "    arrays = [\n",
                "    target.write(ROOT_DOCUMENT, encode_document(root_document(packed, None)))\n"
                "    arrays = [\n",
            ),
        ),
    ),
    Mutant(
        "chunks are got one by one",
        "attacks/test_object_stores.py::test_many_chunks_are_on_their_way_at_once",
        (("recorder/stores/zarr_stores.py", "reads_under_way = READS_UNDER_WAY", "reads_under_way = 1"),),
    ),
    Mutant(
        "recordings in buckets are finished after the threads that reach them",
        "attacks/test_object_stores.py::test_a_program_that_ends_without_closing_has_closed_its_recording",
        ((FINALIZING, '"_register_atexit", atexit.register', '"", atexit.unregister'),),
    ),
    Mutant(
        "garbage collection waits for stores",
        "attacks/test_endings.py::test_a_forgotten_monitor_is_finished_whatever_thread_collects_it",
        ((FINALIZING, "(_is_collecting() or _serves_others())", "_serves_others()"),),
    ),
    *(Mutant(*of_answers) for of_answers in ANSWER_MUTANTS),
    Mutant(
        "calls alike are noted twice",
        "recording/packing/test_layer_recorder.py::test_calls_alike_and_others_are_recorded_one_after_the_other",
        ((LAYER_RECORDER, "            alike.calls = 0\n        else:", "        else:"),),
    ),
    Mutant(
        "what was changed in place is taken for spikes",
        "recording/connections/test_connections.py"
        "::test_what_is_no_longer_the_spikes_is_listed_and_not_taken_for_them",
        ((GRAPH, "traced.dtype != given.dtype or traced.state != state_of(given)", "False"),),
    ),
    Mutant(
        "layers that read some steps only count as readers of all",
        "recording/connections/test_axes.py::test_some_steps_or_samples_are_no_reading_of_a_layer",
        (("recorder/connections/fan_outs.py", "reached == length and axes.first[axis] == 0", "True"),),
    ),
    Mutant(
        "operations count samples for steps",
        "recording/test_operations.py::test_operations_lie_in_the_frames_of_the_layers",
        ((COUNTED, 'order != "nt" else (batch, steps)', 'True else (batch, steps)'),),
    ),
    Mutant(
        "which sample an operation is of is guessed",
        "recording/test_operations.py::test_what_belongs_to_no_frame_for_sure_is_warned_of_and_not_covered",
        ((COUNTED, "    if tn and nt and not order:\n        return None\n", ""),),
    ),
    Mutant(
        "operations of a forward that raised are zero",
        "recording/test_operations.py::test_a_forward_that_raises_has_none_and_no_figure_takes_that_for_zero",
        ((COUNTS, "if step is not None:", "if False:"),),
    ),
    Mutant(
        "weights of 0 are operations",
        "recording/test_operations.py::test_weights_are_looked_at_in_each_call",
        (
            (
                COUNTING,
                "weights = torch.count_nonzero(module.weight.detach(), dim=0)",
                "weights = torch.count_nonzero(module.weight.detach() + 1, dim=0)",
            ),
        ),
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
)  # fmt: skip


def notices(mutant: Mutant) -> bool:
    """Whether the mutant's test fails."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".environments", ".git", "*_cache"))
        for file, old, new in mutant.changes:
            text = (copy / file).read_text()
            if text.count(old) != 1:
                raise SystemExit(f"{mutant.name}: {file} has {old!r} {text.count(old)} times, expected once")
            (copy / file).write_text(text.replace(old, new))
        result = subprocess.run(  # noqa: S603 - our own tests
            [sys.executable, "-m", "pytest", "-q", "-x", f"tests/{mutant.test}"],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    if result.returncode not in {0, 1}:
        raise SystemExit(f"{mutant.name}: the test could not be run\n{result.stdout}{result.stderr}")
    return result.returncode == 1


def main(wanted: list[str]) -> None:
    """Try the mutants."""
    survivors = []
    for mutant in MUTANTS:
        if wanted and not any(word in mutant.name for word in wanted):
            continue
        noticed = notices(mutant)
        print(f"{'noticed ' if noticed else 'SURVIVED'}  {mutant.name}: {mutant.test}", flush=True)
        if not noticed:
            survivors.append(mutant.name)
    if survivors:
        raise SystemExit(f"{len(survivors)} mutant(s) survived: {', '.join(survivors)}")


if __name__ == "__main__":
    main(sys.argv[1:])
