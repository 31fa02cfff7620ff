"""Ways to break what is packed on accelerators."""

from __future__ import annotations

from broken.mutant import Mutant

PACKING = "recorder/capture/device/packing.py"
GATHERING = "recorder/capture/device/gathering.py"
TRANSFER = "recorder/capture/device/transfer.py"
KERNEL = "recorder/capture/device/kernel.py"
_TESTS = "recording/packing/test_device_packing.py"
_INTERRUPTED = (
    "attacks/test_interrupted_devices.py::test_an_interruption_costs_at_most_the_output_that_it_comes_in"
)

DEVICES_MUTANTS = (
    Mutant(
        "copies from a device are not waited for",
        "recording/packing/test_transfer.py::test_bytes_arrive_as_they_were_sent",
        ((TRANSFER, "        piece.arrival.synchronize()\n", ""),),
    ),
    Mutant(
        "what a device packs is kept whatever its verdict",
        f"{_TESTS}::test_other_values_are_told_with_the_next_commit_at_the_latest_and_left_out",
        ((PACKING, "if any(verdict.others for verdict in found):", "if False:"),),
    ),
    Mutant(
        "small outputs of another stream are put among those that wait",
        f"{_TESTS}::test_outputs_of_another_stream_shape_or_type_come_behind_those_that_wait",
        ((GATHERING, "            or not self.is_behind\n", ""),),
    ),
    Mutant(
        "outputs that wait are read before they are there",
        f"{_TESTS}::test_outputs_of_another_stream_shape_or_type_come_behind_those_that_wait",
        ((GATHERING, "        self._lane.follow(self._mark, self.memory)\n", ""),),
    ),
    Mutant(
        "small outputs of another type are converted",
        f"{_TESTS}::test_an_output_of_another_type_is_not_made_one_of_those_that_wait",
        ((GATHERING, "            or output.dtype is not self._dtype\n", ""),),
    ),
    Mutant(
        "the first small outputs are looked at late",
        f"{_TESTS}::test_small_outputs_are_packed_many_at_a_time_and_the_first_ones_soon",
        ((GATHERING, "self._limit = min(GATHER_AFTER, most)", "self._limit = most"),),
    ),
    Mutant(
        "of outputs that are packed together, the first is blamed",
        f"{_TESTS}::test_the_kernel_does_the_same_as_plain_torch",
        ((KERNEL, "number // each * 3", "number // total * 3"),),
    ),
    Mutant(
        "outputs that could not be packed are gone",
        f"{_TESTS}::test_memory_that_is_short_while_outputs_are_packed_loses_none",
        (
            (
                *(PACKING, "            self._push(gathered.outputs(), gathered.count, gathered)\n"),
                "            count, outputs = gathered.count, gathered.outputs()\n"
                "            gathered.count = 0\n"
                "            self._push(outputs, count)\n",
            ),
        ),
    ),
    Mutant(
        "a call that was noted and not pushed is given another one's frames",
        _INTERRUPTED,
        (("recorder/capture/calls.py", "while len(self.calls) > pushed:", "while False:"),),
    ),
    Mutant(
        "rows that were packed are forgotten if their copy is interrupted",
        _INTERRUPTED,
        ((PACKING, "            if is_full or self._rows is not None:\n", "            if is_full:\n"),),
    ),
)
