"""Which step each layer is at: forwards, the boundaries between them, and how layers stay aligned.

Integers only: nothing here waits, or knows of spikes, files or threads.
"""

from __future__ import annotations

from collections.abc import Callable


class LayerSteps:
    """Where one layer is.

    Attributes
    ----------
    next_step : int
        Number of the step that the layer's next output is. Whoever records an output moves it on.
    forward : int
        Number of the forward in which the layer was called last; -1 before its first call.
    start : int
        What ``next_step`` was when that forward began.
    """

    __slots__ = ("forward", "next_step", "start")

    def __init__(self) -> None:
        self.next_step = 0
        self.forward = -1
        self.start = 0


class Steps:
    """The steps of all layers of a network.

    A *forward* is a call of the monitored module. Where layers are called without it, what they do between
    two calls of the same layer stands for a forward. Within a forward a layer makes one step in a single-step
    network, T in a multi-step one. A *boundary* lies where a forward ends: all layers have finished the same
    steps. Commits fall on boundaries only.

    Layers stay aligned: those that were at the same step before a forward are at the same step after it. A
    layer that a forward left out skips as many steps as the others made, and so does one that a forward did
    not reach because it raised. Such a layer has no frames at these steps.

        forward    0     1       2     3
        layer a    0     1       2     3
        layer b    0     -       2     3      left out of forward 1
        layer c    0     1       -     3      forward 2 raised before it
    """

    def __init__(self, running_forwards: Callable[[], int]) -> None:
        self._running_forwards = running_forwards
        self._layers: list[LayerSteps] = []
        self._forward = 0
        # Layers called in this forward, and forwards that are running, one inside the other.
        self._called = 0
        self._depth = 0

    def add_layer(self) -> LayerSteps:
        """One more layer, which joins the others at their next step."""
        layer = LayerSteps()
        layer.next_step = self.next_step
        self._layers.append(layer)
        return layer

    @property
    def next_step(self) -> int:
        """Number of the step that comes next: that of the layer which is farthest."""
        return max((layer.next_step for layer in self._layers), default=0)

    @property
    def is_in_forward(self) -> bool:
        """Whether a forward is running, so that layers are at different steps."""
        return self._depth > 0

    def go_on_at(self, step: int) -> None:
        """Let all layers go on at a step, where they would be at an earlier one."""
        for layer in self._layers:
            layer.next_step = max(layer.next_step, step)

    def begin_forward(self) -> bool:
        """Note that a forward begins; whether a boundary lies before it."""
        has_ended = self._depth > 0 and self._end_unseen(self._running_forwards() - 1)
        is_boundary = has_ended or (self._depth == 0 and self._called > 0)
        if self._depth == 0 and self._called:
            self._begin_next()
        self._depth += 1
        return is_boundary

    def end_forward(self, *, succeeded: bool) -> bool:
        """Note that a forward has ended, by returning or by an exception; whether a boundary follows."""
        if self._depth == 0:
            return False  # recording began while this forward was running
        self._depth -= 1
        if self._depth:
            return False
        if not succeeded or self._called < len(self._layers):
            self._align(succeeded=succeeded)
        self._begin_next()
        return True

    def notice_interrupted(self) -> bool:
        """Find out whether a forward has ended unseen, as Ctrl-C ends one; whether a boundary follows."""
        return self._depth > 0 and self._end_unseen(self._running_forwards())

    def note_call(self, layer: LayerSteps) -> bool:
        """Note that a layer is called; whether a boundary lies before the call."""
        is_boundary = layer.forward == self._forward and not self._depth
        if is_boundary:
            self._begin_next()
        if layer.forward != self._forward:
            layer.forward, layer.start = self._forward, layer.next_step
            self._called += 1
        return is_boundary

    def begin_trial(self) -> bool:
        """Note that a trial begins; whether a boundary lies before it."""
        if self._depth:
            return False
        self._begin_next()
        return True

    def end_all(self) -> None:
        """Note that recording ends, whatever is running."""
        self._depth = 0

    def _begin_next(self) -> None:
        self._forward += 1
        self._called = 0

    def _end_unseen(self, running: int) -> bool:
        if running >= self._depth:
            return False
        self._align(succeeded=False)
        self._depth = 0
        self._begin_next()
        return True

    def _align(self, *, succeeded: bool) -> None:
        """Let layers that were at the same step before a forward be at the same one after it.

        In a forward that returned, a layer that was not called skips as many steps as the least that any
        other made (a layer may be called several times). One that raised is over for all of them together.
        """
        # By the step at which layers began: the steps that those which were called made.
        made: dict[int, list[int]] = {}
        for layer in self._layers:
            if layer.forward == self._forward and layer.next_step > layer.start:
                made.setdefault(layer.start, []).append(layer.next_step - layer.start)
        for layer in self._layers:
            start = layer.start if layer.forward == self._forward else layer.next_step
            has_made = layer.next_step > start
            if start in made and not (has_made and succeeded):
                layer.next_step = start + (min(made[start]) if succeeded else max(made[start]))
