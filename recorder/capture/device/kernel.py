"""Check and pack frames in one Triton kernel.

`recorder.capture.device.packing.pack_with_torch` does the same in about ten kernels. This kernel reads the
frames once, and needs no intermediate memory. Triton comes with torch for CUDA.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK_NEURONS = 1024
_SMALLEST = tl.constexpr(torch.finfo(torch.float32).tiny)


def pack_with_triton(
    frames: torch.Tensor,
    waiting: int,
    before: torch.Tensor,
    rows: torch.Tensor,
    after: torch.Tensor,
    verdicts: torch.Tensor,
) -> None:
    """Do the same as `recorder.capture.device.packing.pack_with_torch`, in one kernel."""
    total, neurons = frames.shape
    if frames.dtype == torch.bool:
        frames = frames.view(torch.uint8)
    # Blocks of neurons are the second axis of the grid, which CUDA limits to 65,535; rows are the first axis.
    grid = (triton.cdiv(waiting + total, 8), triton.cdiv(neurons, BLOCK_NEURONS))
    _pack[grid](
        frames,
        frames.stride(0),
        frames.stride(1),
        total,
        total // len(verdicts),
        waiting,
        neurons,
        len(rows),
        before,
        rows,
        after,
        verdicts,
        BLOCK=BLOCK_NEURONS,
    )


# Without do_not_specialize, Triton would compile the kernel again for other values of these numbers.
@triton.jit(do_not_specialize=["total", "each", "waiting", "whole"])
def _pack(  # type: ignore[no-untyped-def]  # Triton compiles annotations, too, but for constants
    frames,
    frame_stride,
    neuron_stride,
    total,
    each,
    waiting,
    neurons,
    whole,
    before,
    rows,
    after,
    verdicts,
    BLOCK: tl.constexpr,  # noqa: N803 - a constant, as Triton's are written
):
    neuron = (tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    row = tl.program_id(0).to(tl.int64)
    inside = neuron < neurons
    has_begun = inside & (waiting - row * 8 + neuron * 0 > 0)
    byte = tl.load(before + neuron, mask=has_begun, other=0).to(tl.int32)
    for place in tl.static_range(8):
        # "neuron * 0" makes a vector of this number, as Triton needs for masks and pointers.
        number = row * 8 + place - waiting
        frame = number + neuron * 0
        here = inside & (frame >= 0) & (frame < total)
        value = tl.load(frames + frame * frame_stride + neuron * neuron_stride, mask=here, other=0)
        one = value == 1
        byte = byte | (one.to(tl.int32) << (7 - place))
        # Several bad values may be stored at the same place; any of them will do.
        bad = here & (one != (value != 0))
        found = value.to(tl.float32)
        found = tl.where(found == 0, _SMALLEST, found)
        verdict = verdicts + number // each * 3 + neuron * 0
        tl.store(verdict, found.to(tl.uint32, bitcast=True).to(tl.int64), mask=bad)
        tl.atomic_add(verdict + 1, bad.to(tl.int64), mask=bad)
        tl.atomic_max(verdict + 2, (each - number % each) * neurons - neuron, mask=bad)
    if row == whole:
        tl.store(after + neuron, byte.to(tl.uint8), mask=inside)
    else:
        tl.store(rows + row * neurons + neuron, byte.to(tl.uint8), mask=inside)
