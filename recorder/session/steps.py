"""Which step each layer is at: forwards, the boundaries between them, and how layers stay aligned.

Integers and names only: nothing here waits, or knows of spikes or files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

STOPPED_AFTER_FORWARDS = 100


class LayerSteps:
    """The step that one layer is at.

    Attributes
    ----------
    name : str
    next_step : int
        Number of the step that the layer's next output is. Whoever records an output moves it on.
    forward : int
        Number of the forward in which the layer was called last; -1 before its first call.
    start : int
        What ``next_step`` was when that forward began.
    """

    __slots__ = ("first_step", "forward", "name", "next_step", "start")

    def __init__(self, name: str, next_step: int) -> None:
        self.name = name
        self.next_step = self.start = self.first_step = next_step
        self.forward = -1


@dataclass
class Findings:
    """Findings about steps that a user must be told of, each once; names of layers.

    Attributes
    ----------
    guessed : tuple of (str, list of str), optional
        The layer whose second call was taken for the next step, and layers that had not been called before.
    uneven : list of str
        Layers that have made fewer steps in a forward than others, with which they kept pace before.
    never_called : list of str
        Layers that the first forward which returned has not called.
    left_out : list of str
        Layers that were called before, and that a forward which returned has left out.
    stopped : list of str
        Layers that were called before, and not in the newest `STOPPED_AFTER_FORWARDS` forwards.
    is_first_forward : bool
        Whether a forward has returned for the first time, so that the network has all of its layers.
    """

    guessed: tuple[str, list[str]] | None = None
    uneven: list[str] = field(default_factory=list)
    never_called: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    is_first_forward: bool = False

    def __bool__(self) -> bool:
        told = self.guessed, self.uneven, self.never_called, self.left_out, self.stopped
        return self.is_first_forward or any(told)


class Steps:
    """The steps of all layers of a network.

    A *forward* is a call of the monitored module. Where layers are called without it, a forward ends where
    the user says so with ``monitor.step()``, or, before that was ever called, where a layer is called again:
    that is a guess, of which `findings` tells if it may be wrong. Within a forward a layer makes one step in
    a single-step network, T in a multi-step one. A *boundary* lies where a forward ends: all layers have
    finished the same steps. Commits fall on boundaries only. One thread at a time is inside a forward.

    Layers stay aligned: those that were at the same step before a forward are at the same step after it. A
    layer that a forward left out, that put out nothing (an empty batch), or that a forward did not reach
    because it raised, skips as many steps as the others made. It has no frames at these steps.

        forward    0     1       2     3
        layer a    0     1       2     3
        layer b    0     -       2     3      left out of forward 1
        layer c    0     1       -     3      forward 2 raised before it

    Parameters
    ----------
    running_forwards : callable
        Given the identifier of a thread, how many forwards of the network are on its stack; with ``by_hand``
        those, too, that hooks do not see. Asked where a forward that has begun was not seen to end, as
        happens when it is interrupted from the keyboard, and where recording ends.

    Attributes
    ----------
    layers : list of LayerSteps
    forward : int
        Number of the forward that runs, or comes next.
    depth : int
        Forwards that are running, one inside the other.
    thread : int
        Identifier of the thread that runs it, or ran the one before.
    called : int
        Layers that were called in this forward.
    has_empty : bool
        Whether one of them has put out nothing.
    newest : int
        The newest forward that has ended by returning; -1 before there is one.
    """

    def __init__(self, running_forwards: Callable[..., int]) -> None:
        self.findings = Findings()
        self._running_forwards = running_forwards
        # Told of each end of a forward, if it has returned, and whether that is known, see `_end`.
        self.on_end: Callable[..., None] | None = None
        self.layers: list[LayerSteps] = []
        # Layers that the network has, and may therefore be missed.
        self._expected: list[LayerSteps] = []
        self.forward = 0
        self.depth = self.thread = self.called = 0
        self.has_empty = False
        self.newest = -1
        self._is_marked_by_user = False
        self._has_guessed = False
        # Layers of which was told that a forward left them out, and that they made fewer steps than others.
        self._told_left_out: set[LayerSteps] = set()
        self._told_uneven: set[LayerSteps] = set()

    def add_layer(self, name: str, *, is_expected: bool = True) -> LayerSteps:
        """One more layer, which joins the others at their next step.

        ``is_expected`` is False for layers of a resumed recording that the network has no longer.
        """
        layer = LayerSteps(name, self.next_step)
        self.layers.append(layer)
        if is_expected:
            self._expected.append(layer)
        return layer

    def give_up(self, layer: LayerSteps) -> None:
        """Expect no more calls of a layer that is not recorded any more."""
        if layer in self._expected:
            self._expected.remove(layer)

    @property
    def next_step(self) -> int:
        """Number of the step that comes next: that of the layer which is farthest."""
        return max((layer.next_step for layer in self.layers), default=0)

    @property
    def has_begun(self) -> bool:
        """True if a layer has been called."""
        return any(layer.forward >= 0 for layer in self.layers)

    @property
    def is_in_forward(self) -> bool:
        """True while a forward of the monitored module is running, so that layers are at different steps."""
        return self.depth > 0

    @property
    def is_complete(self) -> bool:
        """True if no layer is missing that was called in the forward before, as far as calls can tell."""
        return not self.called or all(layer.forward != self.forward - 1 for layer in self.layers)

    @property
    def uncalled(self) -> list[str]:
        """Layers of the network that were not called in the newest forward that has ended by returning."""
        return [layer.name for layer in self._expected if layer.forward < self.newest]

    def go_on_at(self, step: int) -> None:
        """Let all layers go on at a step, where they would be at an earlier one."""
        for layer in self.layers:
            layer.next_step = layer.start = layer.first_step = max(layer.next_step, step)

    def begin_forward(self) -> bool:
        """Note that a forward begins; whether a boundary lies before it.

        Raises
        ------
        RuntimeError
            If another thread is inside a forward.
        """
        is_boundary = False
        thread = threading.get_ident()
        if self.depth:
            is_boundary = self.notice_interrupted(beginning=1 if thread == self.thread else 0)
        if self.depth:
            self._refuse_other_thread(thread, "begins a forward")
        elif self.called:
            # Somebody has called layers by hand: that others were left out is no news.
            self._end(succeeded=True, is_whole=False, is_known=False)
            is_boundary = True
        self.thread = thread
        self.depth += 1
        return is_boundary

    def end_forward(self, *, succeeded: bool) -> bool:
        """Note that a forward has ended, by returning or by an exception; whether a boundary follows."""
        # Recording began while this forward was running, or it was refused to this thread.
        if self.depth == 0 or threading.get_ident() != self.thread:
            return False
        self.depth -= 1
        if self.depth:
            return False
        self._end(succeeded=succeeded)
        return True

    def notice_interrupted(self, beginning: int = 0) -> bool:
        """Find out whether a forward has ended unseen, as Ctrl-C ends one; whether a boundary follows.

        ``beginning`` forwards of the same thread are on its stack and not counted yet.
        """
        if self.depth and self._running_forwards(self.thread) - beginning < self.depth:
            self.depth = 0
            self._end(succeeded=False)
            return True
        return False

    def note_call(self, layer: LayerSteps) -> bool:
        """Note that a layer is called; whether a boundary lies before the call.

        Raises
        ------
        RuntimeError
            If another thread is inside the forward that this call would be part of.
        """
        is_boundary = False
        thread = threading.get_ident()
        if layer.forward == self.forward and not self.depth and not self._is_marked_by_user:
            missing = [other.name for other in self._expected if other.forward != self.forward]
            if missing and not self._has_guessed:
                self._has_guessed = True
                self.findings.guessed = layer.name, missing
            self._end(succeeded=True, is_known=False)
            is_boundary = True
        if thread != self.thread:
            if self.depth or self.called:
                self._refuse_other_thread(thread, f"calls layer {layer.name!r}")
            self.thread = thread
        if layer.forward != self.forward:
            layer.forward, layer.start = self.forward, layer.next_step
            self.called += 1
        return is_boundary

    def note_empty(self) -> None:
        """Note that the call just noted has put out nothing."""
        self.has_empty = True

    def mark_boundary(self) -> bool:
        """Note that a trial begins or ends; whether a boundary lies there."""
        if self.depth:
            return False
        if self.called:
            self._end(succeeded=True)
        return True

    def mark_step(self) -> bool:
        """Note that the user says that a step is over; whether a boundary lies there.

        Raises
        ------
        RuntimeError
            If a forward of the monitored module is running, whose end is known.
        """
        if self.depth:
            raise RuntimeError(
                "monitor.step() was called inside a forward of the monitored module, which is a step by "
                "itself. Call it after the forward, or not at all"
            )
        self._is_marked_by_user = True
        return self.mark_boundary()

    def end_all(self, *, is_in_step: bool) -> dict[str, int]:
        """Note that recording ends, whatever is running.

        Parameters
        ----------
        is_in_step : bool
            Whether a layer is being called, so that a step is under way also where no forward is known.

        Returns
        -------
        dict of str to int
            For each layer that was called in a forward, or step, that has not ended, the step it began with.
        """
        is_in_step |= self.called > 0 and self._running_forwards(self.thread, by_hand=True) > 0
        was_running, self.depth = self.depth > 0 or is_in_step, 0
        called = [layer for layer in self.layers if layer.forward == self.forward]
        cut_short = {layer.name: layer.start for layer in called} if was_running else {}
        if self.called:
            self._end(succeeded=not was_running)
        return cut_short

    def refuse_in_forward(self, what: str) -> None:
        """Raise RuntimeError, which names a call that is refused, while a forward is running."""
        if self.depth:
            raise RuntimeError(
                f"{what} cannot be done inside a forward of the monitored network: layers have not finished "
                "the same steps. Call it between two forwards"
            )

    def take_findings(self) -> Findings:
        """Take the findings since the last call."""
        findings, self.findings = self.findings, Findings()
        return findings

    def _refuse_other_thread(self, thread: int, what: str) -> None:
        if thread != self.thread:
            names = {each.ident: each.name for each in threading.enumerate()}
            raise RuntimeError(
                f"thread {names.get(thread, thread)!r} {what} while thread "
                f"{names.get(self.thread, self.thread)!r} is inside a forward of the same monitored "
                "network. One thread at a time can run it: let forwards wait for each other with a lock, or "
                "give each thread a copy of the network and a monitor of its own"
            )

    def _end(self, *, succeeded: bool, is_whole: bool = True, is_known: bool = True) -> None:
        """End a forward, or what stands for one.

        ``is_whole`` if it may be expected to call all layers, ``is_known`` if it is no guess where it ends.
        """
        if self.on_end is not None:
            self.on_end(succeeded=succeeded, is_known=is_known)
        if self.called < len(self.layers) or not succeeded or self.has_empty or self.is_uneven():
            self._align(succeeded=succeeded)
            if succeeded and is_whole and self.called:
                self._find_left_out()
        if succeeded and is_whole and self.called:
            if self.newest < 0:
                self.findings.is_first_forward = True
            self.newest = self.forward
        self.forward += 1
        self.called = 0
        self.has_empty = False

    def is_uneven(self) -> bool:
        """Whether layers are at different steps."""
        # A loop: asked at the end of every forward, and half as costly as any().
        first = self.layers[0].next_step
        for layer in self.layers:  # noqa: SIM110
            if layer.next_step != first:
                return True
        return False

    def _find_left_out(self) -> None:
        left_out = [layer for layer in self._expected if layer.forward != self.forward]
        for layer in left_out:
            if layer not in self._told_left_out:
                self._told_left_out.add(layer)
                news = self.findings.never_called if layer.forward < 0 else self.findings.left_out
                news.append(layer.name)
        self.findings.stopped += [
            layer.name for layer in left_out if 0 <= layer.forward == self.forward - STOPPED_AFTER_FORWARDS
        ]

    def _align(self, *, succeeded: bool) -> None:
        """Let layers that were at the same step before a forward be at the same one after it.

        In a forward that returned, a layer that was not called skips as many steps as the least that any
        other made (a layer may be called several times). One that made fewer than others, with which it has
        kept pace until now, skips what it lacks; one that never kept pace goes on counting its calls. A
        forward that raised is over for all of them together.
        """
        # By the step at which layers began: those that made steps, and how many.
        made: dict[int, list[int]] = {}
        for layer in self.layers:
            if layer.forward == self.forward and layer.next_step > layer.start:
                made.setdefault(layer.start, []).append(layer.next_step - layer.start)
        for layer in self.layers:
            start = layer.start if layer.forward == self.forward else layer.next_step
            if start not in made:
                continue
            least, most = min(made[start]), max(made[start])
            own = layer.next_step - start
            if own == 0 or not succeeded:
                layer.next_step = start + (least if succeeded else most)
            elif own < most and start > layer.first_step:
                layer.next_step = start + most
                if layer not in self._told_uneven:
                    self._told_uneven.add(layer)
                    self.findings.uneven.append(layer.name)
