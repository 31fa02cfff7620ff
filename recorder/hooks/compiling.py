"""What keeps torch.compile away from hooks; a compiler that may trace them is refused."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

set_eval_frame: Callable[[Any], Any] | None
try:
    # Not imported: in torch 2.4 these are attributes that are no modules to Python.
    set_eval_frame = torch._C._dynamo.eval_frame.set_eval_frame  # noqa: SLF001 - see outside_graphs
except AttributeError:  # a torch without a compiler
    set_eval_frame = None


def _skip(function: Any) -> None:
    """Keep torch.compile from compiling a function by itself, as it tries to wherever a graph breaks."""
    # What torch._dynamo.skip does, which would import the compiler. A torch that has other names warns, once,
    # that it cannot trace set_eval_frame, and leaves the function alone.
    try:
        frames = torch._C._dynamo.eval_frame  # noqa: SLF001
        if hasattr(frames, "skip_code"):  # until torch 2.6
            frames.skip_code(function.__code__)
        else:
            action, strategy = frames._FrameAction, frames._FrameExecStrategy  # noqa: SLF001
            frames.set_code_exec_strategy(function.__code__, strategy(action.SKIP, action.DEFAULT))
    except AttributeError:
        pass


def untraced(call: Callable[..., Any]) -> Callable[..., Any]:
    """Keep torch.compile from tracing a function, and not from compiling what it calls."""
    # What torch.compiler.disable sets, too.
    call._torchdynamo_disable = True  # type: ignore[attr-defined]  # noqa: SLF001
    _skip(call)
    return call


def outside_graphs(call: Callable[..., Any]) -> Callable[..., Any]:
    """Keep torch.compile from tracing a hook: graphs break there, and the hook runs as it does without.

    `torch.compiler.disable` would do the same, but imports the compiler, which takes seconds.
    """

    @untraced
    @functools.wraps(call)
    def alone(*arguments: Any, **settings: Any) -> Any:
        if set_eval_frame is None or "torch._dynamo" not in sys.modules:
            return call(*arguments, **settings)
        # What the hook calls would be compiled, frame by frame.
        compiler = set_eval_frame(None)
        try:
            return call(*arguments, **settings)
        finally:
            set_eval_frame(compiler)

    return alone


def refuse_unknown_compiler() -> None:
    """Refuse a torch.compile, once it is in use, that may trace hooks: better than to record wrongly."""
    compiler = sys.modules.get("torch._dynamo")
    if compiler is not None and not _leaves_hooks_alone(compiler):
        raise RuntimeError(
            f"this spiketape does not know how torch {torch.__version__} keeps hooks out of compiled graphs; "
            "what they see there cannot be trusted. Use an older torch or a newer spiketape, or record "
            "without torch.compile"
        )


@functools.cache
def _leaves_hooks_alone(compiler: ModuleType) -> bool:
    """True if the compiler still marks functions that it must not trace as `outside_graphs` does."""
    marked = compiler.disable(lambda: None)
    return set_eval_frame is not None and getattr(marked, "_torchdynamo_disable", False) is True
