"""Notice, and refuse, runs of a network in which a hook sees no ordinary forward."""

from __future__ import annotations

import operator
from typing import Any

import torch

from recorder.frameworks import SpikingLayerError


def _of_torch(name: str) -> Any:
    """A private name of torch, None where this torch has none."""
    try:
        return operator.attrgetter(name)(torch._C)  # noqa: SLF001 - nothing public tells these
    except AttributeError:
        return None


# What tells when a hook sees no ordinary forward: of activation checkpointing, torch.jit.trace, torch.func.
# Looked up once, as it is asked at each call.
_PRIVATE = "_current_graph_task_id", "_is_tracing", "_functorch.peek_interpreter_stack"
current_graph_task_id, _is_tracing, _peek_interpreter_stack = map(_of_torch, _PRIVATE)


def refuse_unknown_torch() -> None:
    """Refuse a torch without the private names that are asked at each call."""
    for name in _PRIVATE:
        if _of_torch(name) is None:
            raise RuntimeError(
                f"torch {torch.__version__} has no torch._C.{name}, without which this spiketape cannot tell "
                "a forward from one that is traced, transformed or computed again. Use an older torch or a "
                "newer spiketape"
            )


def is_usual_run() -> bool:
    """True if neither `refuse_unusual_run` nor activation checkpointing has anything against it."""
    return (
        current_graph_task_id() == -1
        and not _is_tracing()
        and _peek_interpreter_stack() is None
        and not (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())  # type: ignore[no-untyped-call]
    )


def refuse_unusual_run(layer: str) -> None:
    """Refuse transformations under which a hook runs once for many forwards, or sees no values."""
    if _is_tracing():
        what = "torch.jit.trace runs the network once, for a graph that has no hooks: trace it while disabled"
    elif _peek_interpreter_stack() is not None:
        what = (
            "torch.func (vmap, grad and the like) runs it on wrapped tensors, whose values and batch cannot "
            "be seen: call the network without it, or disable() the monitor"
        )
    # To ask the second before CUDA is in use would begin to use it.
    elif torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():  # type: ignore[no-untyped-call]
        what = "a CUDA graph is captured, and replays without hooks: disable() the monitor first"
    else:
        return
    raise SpikingLayerError(f"layer {layer!r} cannot be recorded here: {what}")
