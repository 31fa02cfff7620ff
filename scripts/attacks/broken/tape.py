"""Ways to break the tape: format, stores, writing, reading, keeping."""

from __future__ import annotations

from broken.mutant import Mutant

LAYER = "recorder/tape/layers/layer_writing.py"
BITS = "recorder/tape/layers/bits_writing.py"
LEVELS = "recorder/tape/layers/levels.py"
VALUES = "recorder/format/planes/values.py"
AT_EVENTS = "recorder/format/planes/at_events.py"
PLANE_WRITING = "recorder/tape/layers/plane_writing.py"
READING = "recorder/tape/layers/layer_reading.py"
STORES = "recorder/stores/files/folder.py"
THREADS = "recorder/tape/threads/"
RECORD = "recorder/tape/record_writing.py"
ARRAY_READING = "recorder/tape/layers/array_reading.py"
SYNCING = "recorder/stores/files/syncing.py"
LOCK = "recorder/tape/holding/lock.py"
HOLDER = "recorder/tape/holding/holder.py"
FENCE = "recorder/tape/holding/fence.py"
TRIALS = "recorder/format/trials.py"
FINALIZING = "recorder/tape/holding/finalizing.py"
SIGNAL_READING = "recorder/tape/layers/signal_reading.py"
SIGNAL_WRITING = "recorder/tape/layers/signal_writing.py"

TAPE_MUTANTS = (
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
        ((LAYER, "first_chunk=self._events.chunk,", "first_chunk=self._events.chunk + 1,"),),
    ),
    Mutant(
        "a plane that begins has no rows for the chunks before",
        "tape/format/test_planes.py::test_a_plane_begins_with_the_chunk_that_needs_it",
        ((LAYER, "                plane.begin_with_silence()\n", ""),),
    ),
    Mutant(
        "events before a plane begins are left out of its chunk",
        "tape/format/test_planes.py::test_a_recording_of_values_reads_back_and_is_sound",
        ((PLANE_WRITING, "FilledPlane([(None, events)]", "FilledPlane([(None, 0)]"),),
    ),
    Mutant(
        "what a plane says of a piece counts for both halves of it",
        "tape/format/test_planes.py::test_packed_levels_are_cut_at_any_row",
        ((VALUES, "(counts, plane.counts - counts)", "(counts, plane.counts)"),),
    ),
    Mutant(
        "bits that come behind a byte that is not full lose their last ones",
        "tape/format/test_planes.py::test_pieces_of_bits_are_joined_in_order",
        ((AT_EVENTS, "        if shift:\n", "        if shift > 6:\n"),),
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
        "the largest level has one plane less",
        "tape/format/test_planes.py::test_levels_become_planes_and_levels_again",
        ((VALUES, "max(max(most, -least) - 1, 0)", "max(max(most, -least) - 2, 0)"),),
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
        "a trial is everybody's",
        "recording/trials/test_bounds_of_trials.py::test_a_trial_belongs_to_the_thread_that_opened_it",
        ((TRIALS, "self.open_trial.thread is not threading.current_thread()", "False"),),
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
)  # fmt: skip
