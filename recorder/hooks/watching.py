"""See where each call of a monitored network begins and ends.

Two hooks on the network would tell the same, and cost each call more than all else that is done to record a
small layer. So what `torch.nn.Module.__call__` goes on to is replaced on the network while it is monitored;
that runs all hooks of the network. Copies of the network have their own again.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any, NoReturn

from torch import nn

from recorder.format import RecordingWriteError
from recorder.hooks.compiling import outside_graphs, refuse_unknown_compiler, untraced
from recorder.hooks.replacements import Replacement
from recorder.hooks.session_link import SessionLink
from recorder.hooks.unusual_runs import current_graph_task_id
from recorder.session import RecordingSession


class _WatchedCalls(Replacement[SessionLink]):
    """Tells a session of each call of the network."""

    name = "_call_impl"

    def __init__(self, network: nn.Module, link: SessionLink) -> None:
        super().__init__(network)
        self._link = link

    @untraced
    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """Call the network."""
        network, before, link = self._module(), self._before, self._link
        session = link.session
        if session is None or not link.is_enabled or current_graph_task_id() != -1:
            return self.call_replaced(*arguments, **settings)
        # With a compiler about, nothing is called here that it could compile.
        repeating = None if "torch._dynamo" in sys.modules else session.repeating
        try:
            if repeating is None or not repeating.begin():
                _begin(link, session)
            if before is None:  # what `call_replaced` does, as at nearly every call
                result = type(network)._call_impl(network, *arguments, **settings)  # type: ignore[arg-type, union-attr]  # noqa: SLF001
            else:
                result = before(*arguments, **settings)
        # Not of Ctrl-C, which would wait here for what the end of a forward waits for: see `Steps`.
        except Exception as error:
            _end(link, session, error)
            raise
        if repeating is None or not repeating.end():
            _end(link, session, None)
        return result


class _CompiledCalls(_WatchedCalls):
    name = "_compiled_call_impl"


@outside_graphs
def _begin(link: SessionLink, session: RecordingSession) -> None:
    refuse_unknown_compiler()
    try:
        if not session.repeating.begin():
            session.begin_forward()
    except RecordingWriteError as failure:
        link.stop(failure)


@outside_graphs
def _end(link: SessionLink, session: RecordingSession, error: Exception | None) -> None:
    try:
        if error is not None or not session.repeating.end():
            session.end_forward(succeeded=error is None)
    except RecordingWriteError as failure:
        # The next call raises it, too; the user is to see the error of the forward.
        if error is None or link.warns_of_failures:
            link.stop(failure)


class _State(Replacement[SessionLink]):
    """Leaves all replaced methods out of what `copy` and `pickle` are given."""

    name = "__getstate__"

    def __call__(self) -> Any:
        state = self.call_replaced()
        if not isinstance(state, dict):
            return state
        return {name: value for name, value in state.items() if not isinstance(value, Replacement)}


class _Replicating(Replacement[SessionLink]):
    """Refuses copies for several devices, which would call the network itself instead of the copy."""

    name = "_replicate_for_data_parallel"

    def __call__(self) -> NoReturn:
        raise RuntimeError(DATA_PARALLEL)


DATA_PARALLEL = (
    "the network runs inside torch.nn.DataParallel, whose replicas come and go with each call; use "
    "DistributedDataParallel with one monitor in each process instead"
)


class Watch:
    """Tells a link of all calls of a network until it leaves; it keeps no module."""

    def __init__(self, network: nn.Module, link: SessionLink) -> None:
        self._link = link
        # What `torch.nn.Module.compile` has made is called in the place of the method.
        calls = _WatchedCalls if network._compiled_call_impl is None else _CompiledCalls  # noqa: SLF001
        watched = network.__dict__[calls.name] = calls(network, link)
        self._replaced = [_State.of(network), _Replicating.of(network), watched]
        for each in self._replaced:
            each.kept.append(link)

    def leave(self) -> None:
        """Let the network be as it was."""
        for each in self._replaced:
            each.forget(self._link)


def running_forwards(
    network: weakref.ref[nn.Module], link: SessionLink, thread: int, *, by_hand: bool = False
) -> int:
    """Number of forwards of the network that are on the stack of a thread, as far as its calls are watched.

    A call that is left by Ctrl-C does not say that it has ended. ``by_hand`` counts instead what is called as
    ``network.forward()``, too, which nobody sees begin.
    """
    # Underscored, but documented; there is no other way to look at another thread's stack.
    frame = sys._current_frames().get(thread)  # noqa: SLF001
    running, watched = 0, network()
    forward = getattr(getattr(type(watched), "forward", None), "__code__", None)
    while frame is not None and watched is not None:
        if by_hand and (frame.f_code is forward or frame.f_code.co_name == "_call_impl"):
            running += frame.f_locals.get(frame.f_code.co_varnames[0]) is watched
        elif not by_hand and frame.f_code is _WatchedCalls.__call__.__code__:
            running += frame.f_locals.get("link") is link
        frame = frame.f_back
    return running
