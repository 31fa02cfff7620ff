"""Ways to break what becomes of outputs: hooks, sessions, packing, connections."""

from __future__ import annotations

from broken.mutant import Mutant

VALUE_PACKING = "recorder/capture/host/value_packing.py"
HOOKS = "recorder/hooks/network.py"
LAYER_RECORDER = "recorder/capture/layer_recorder.py"
STEPS = "recorder/session/steps.py"
ROWS = "recorder/session/rows.py"
REPEATING = "recorder/session/repeating.py"
LAYERS = "recorder/session/layers.py"
LINK = "recorder/hooks/session_link.py"
SESSION = "recorder/session/session.py"
PACKING = "recorder/capture/host/host_packing.py"
NATIVE = "recorder/capture/host/native_packing.py"
LOOPS = "recorder/native/packing_loops.py"
VALUE_LOOPS = "recorder/native/value_loops.py"
NATIVE_VALUES = "recorder/native/values.py"
ENTRANCE = "recorder/session/entrance.py"
ELSEWHERE = "recorder/elsewhere/writing.py"
SIGNAL_RECORDER = "recorder/capture/signal_recorder.py"
GRAPH = "recorder/connections/forward_graph.py"
COUNTING = "recorder/connections/counting.py"
COUNTED = "recorder/session/operations.py"
DATASET = "recorder/datasets/spike_dataset.py"

RECORDING_MUTANTS = (
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
        "the compiled loop forgets the rest of a tile",
        "tape/test_rearranging.py::test_the_compiled_loop_does_what_numpy_does",
        (("recorder/native/rearranging_loops.py", "high = min(_HIGH, width - begin)", "high = _HIGH"),),
    ),
    Mutant(
        "neurons of the last tile that are done once more are counted twice",
        "tape/test_rearranging.py::test_the_compiled_loop_does_what_numpy_does",
        (
            (
                *("recorder/native/rearranging_loops.py", "counts[first : first + beside] = 0"),
                "counts[begun : begun + beside] = 0",
            ),
        ),
    ),
    Mutant(
        "each chunk takes fresh memory",
        "tape/test_encoding.py::test_memory_of_a_chunk_is_used_for_the_next",
        (("recorder/tape/threads/in_order.py", "        _keep_memory()\n", ""),),
    ),
    Mutant(
        "values are rounded, not refused",
        "recording/values/test_graded_values.py::test_ones_are_the_scale_once_there_were_some",
        ((VALUE_PACKING, "if not is_given_back:", "if False:"),),
    ),
    Mutant(
        "values that were pushed and do not count leave their range",
        "recording/packing/test_value_packing.py::test_what_does_not_count_leaves_no_trace",
        ((VALUE_PACKING, "self._range, self._frames = self._range_before, ", "self._frames = "),),
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
        ((DATASET, "is_whole &= layer.kept_steps(trial, sample) == self._steps", "0"),),
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
        ((STEPS, "self._end(succeeded=False)\n", "self.forward, self.called = self.forward + 1, 0\n"),),
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
        "attacks/test_forks.py::test_nothing_hangs_in_a_child_that_is_forked_while_another_thread_records",
        ((ENTRANCE, "        entrance.open()\n        entrance.is", "        entrance.is"),),
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
        "a quarter of a frame that comes alone is packed as another one",
        "recording/packing/test_native_packing.py::test_the_compiled_pass_does_what_numpy_does",
        ((LOOPS, "either(both(r2[neuron], before), s2)", "either(both(r2[neuron], before), s1)"),),
    ),
    Mutant(
        "levels of one eighth of a word are put together in another order",
        "recording/packing/test_native_values.py::test_levels_at_events_are_put_together_in_order",
        ((VALUE_LOOPS, "64 * word + 8 * eight, _CHOSEN", "64 * word, _CHOSEN"),),
    ),
    Mutant(
        "no plane but the first one is counted",
        "recording/packing/test_native_values.py::test_loops_give_what_numpy_gives",
        ((VALUE_LOOPS, "range(planes):", "range(min(planes, 1)):"),),
    ),
    Mutant(
        "what was counted last in bytes is not in the wider counts",
        "recording/packing/test_native_values.py"
        "::test_neurons_are_counted_in_more_rows_than_a_byte_has_room_for",
        ((NATIVE_VALUES, " + self._ones[: planes + 1]", ""),),
    ),
    Mutant(
        "neurons are counted in a byte that overflows",
        "recording/packing/test_native_values.py"
        "::test_neurons_are_counted_in_more_rows_than_a_byte_has_room_for",
        ((VALUE_LOOPS, "ROWS_IN_BYTE = 255 // 8", "ROWS_IN_BYTE = 256 // 8"),),
    ),
    Mutant(
        "bits that are put behind others lose what goes over the end of a byte",
        "recording/packing/test_native_values.py::test_pieces_of_bits_are_joined_in_order",
        ((VALUE_LOOPS, "up(bits[place - 1], other)", "np.uint8(0)"),),
    ),
    Mutant(
        "loops ask for an instruction of this processor where they are compiled for any",
        "recording/packing/test_native_values.py"
        "::test_loops_are_compiled_for_the_processor_that_numba_is_told",
        (("recorder/native/compiling.py", '"+ssse3" in _FEATURES.split(",")', "True"),),
    ),
    Mutant(
        "a level of -128 has no magnitude",
        "recording/packing/test_native_values.py::test_each_level_is_packed",
        ((VALUE_LOOPS, "np.uint8(-level if level < 0 else level)", "np.uint8(max(-level, level) & 127)"),),
    ),
    Mutant(
        "values that are larger than a level are taken for others",
        "recording/packing/test_native_values.py::test_levels_are_values_that_they_give_back",
        ((VALUE_LOOPS, "most < _MOST", "most < 300"),),
    ),
    Mutant(
        "what is taken back stays counted",
        "recording/packing/test_native_values.py"
        "::test_outputs_that_are_packed_at_once_are_those_that_count",
        ((NATIVE_VALUES, "self._ones[: len(ones)], self._ones[len(ones) :] = ones, 0", "pass"),),
    ),
    Mutant(
        "what an interrupted output has counted stays counted",
        "recording/packing/test_native_values.py"
        "::test_open_rows_hold_nothing_of_an_output_that_was_interrupted",
        ((NATIVE_VALUES, "self._ones[:], self._counts[:] =", "self._ones[:1], self._counts[:1] ="),),
    ),
    Mutant(
        "what is taken back of many rows stays counted",
        "recording/packing/test_native_values.py"
        "::test_open_rows_are_as_before_when_an_output_is_taken_back",
        ((NATIVE_VALUES, "counts.copy() if more > self._loops.ROWS_IN_BYTE else None", "None"),),
    ),
    Mutant(
        "frames that fill no row are packed from memory that holds others",
        "recording/packing/test_native_values.py"
        "::test_outputs_that_are_packed_at_once_are_those_that_count",
        ((VALUE_LOOPS, "        some[:waiting] = pending[:waiting]\n", ""),),
    ),
    Mutant(
        "an output that is taken back takes the frames before it along",
        "recording/packing/test_native_values.py"
        "::test_outputs_that_are_packed_at_once_are_those_that_count",
        ((VALUE_PACKING, "                self._stage[: len(pending)] = pending\n", ""),),
    ),
    Mutant(
        "a small output overtakes large ones before it",
        "recording/packing/test_native_values.py"
        "::test_small_outputs_come_behind_large_ones",
        ((VALUE_PACKING, "self._close_rows()\n            super()", "super()"),),
    ),
    Mutant(
        "the last levels of an output are not written",
        "recording/packing/test_native_values.py"
        "::test_outputs_that_are_packed_at_once_are_those_that_count",
        ((VALUE_LOOPS, "levels[first : first + count] = same[:count]", "pass"),),
    ),
    Mutant(
        "open rows that an output has filled are written over before it counts",
        "recording/packing/test_native_values.py"
        "::test_open_rows_are_as_before_when_an_output_is_taken_back",
        ((VALUE_PACKING, "opened, spare = spare or self._new_rows(), opened", "pass"),),
    ),
    Mutant(
        "open rows are spare before others have begun",
        "recording/packing/test_native_values.py::test_open_rows_stay_where_further_memory_is_short",
        (
            (
                *(VALUE_PACKING, "opened, spare = spare or self._new_rows(), opened"),
                "opened, spare = spare or self._new_rows(), opened; self._spare = spare",
            ),
        ),
    ),
    Mutant(
        "the first values that are cut short leave their rows",
        "attacks/test_interrupts.py::test_the_first_values_of_a_layer_may_be_cut_short",
        ((LAYER_RECORDER, "except BaseException as error:", "except NotSpikesError as error:"),),
    ),
    Mutant(
        "hooks cannot be taken away again",
        "attacks/test_interrupts.py::test_hooks_can_be_taken_away_again_after_an_interrupt",
        (("recorder/hooks/replacements.py", "        if kept in self.kept:\n    ", ""),),
    ),
    Mutant(
        "fewer bits than events are no error",
        "recording/packing/test_native_values.py::test_fewer_bits_than_events_are_an_error",
        (("recorder/tape/spreading.py", "if any(8 * len(each) < total for each in used):", "if False:"),),
    ),
    Mutant(
        "what could not be packed for want of memory is lost",
        "attacks/test_interrupts.py::test_close_can_be_called_again_when_memory_is_free",
        ((SESSION, " and not isinstance(error, MemoryError)", ""),),
    ),
    Mutant(
        "a call like the one before may come from any thread",
        "recording/test_repeated_calls.py"
        "::test_a_layer_that_is_called_by_another_thread_is_refused_all_the_same",
        ((REPEATING, "or steps.thread != thread\n            or recorder.alike", "or recorder.alike"),),
    ),
    Mutant(
        "no commit is due while calls repeat",
        "recording/test_repeated_calls.py::test_a_commit_that_is_due_comes_while_calls_repeat",
        ((REPEATING, "            or now >= due.comes_at\n", ""),),
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
        "ranks that resume do not look where the others are",
        "recording/monitor/test_ranks.py::test_ranks_that_crashed_at_different_steps_go_on_at_the_same_one",
        (("recorder/monitor.py", "            self._catch_up(self._rank)\n", "            pass\n"),),
    ),
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
)  # fmt: skip
