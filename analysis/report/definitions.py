"""What the words and figures of the report mean, as the docstrings of the statistics define them."""

from __future__ import annotations

from typing import Final

DEFINITIONS: Final = (
    ("slot", "One neuron in one frame; a frame is one sample at one step."),
    (
        "presentation",
        "One sample of one trial, from its first step to its last: one input. It lasts T steps.",
    ),
    ("time", "A frame's step minus the first step of its trial: 0 to T - 1."),
    ("spike, event", "A slot whose value is not 0."),
    (
        "firing rate",
        "Spikes ÷ slots, pooled over what is not kept apart: between 0 and 1 per neuron and step.",
    ),
    (
        "never fired",
        "Silent ratio: neurons without a spike ÷ neurons. A layer is dead if that is all of them.",
    ),
    ("saturated", "Neurons that fired in at least 90 % of their slots ÷ neurons."),
    ("distribution of neuron rates", "Neurons by spikes ÷ frames; bins are closed at the left."),
    (
        "interspike interval",
        "Steps from a spike of a neuron to its next, within one presentation and without a gap.",
    ),
    (
        "CV of intervals",
        "Standard deviation ÷ mean of all intervals: near 1 if spikes come by chance, 0 if regular.",
    ),
    (
        "first spike",
        "Mean time of a neuron's first spike in a presentation. Presentations in which it did not fire are "
        "counted, and not in the mean.",
    ),
    (
        "selectivity",
        "(highest - mean of the others) ÷ (highest + mean of the others) of a neuron's rates at the labels: "
        "1 if it fires at one label only, 0 if at all alike.",
    ),
    (
        "accuracy",
        "Presentations in which the output neuron of the right label has the most spikes so far ÷ "
        "presentations; of equals the first one.",
    ),
    (
        "synchrony χ²",
        "Variance of a layer's rate over frames ÷ mean variance of its neurons: 1 if all fire together, "
        "about 1 / neurons if independent (Golomb & Rinzel 1994).",
    ),
    (
        "correlation",
        "Pearson correlation of two neurons over the steps of presentations; none where one never changes.",
    ),
    (
        "synaptic operations",
        "Spikes × fan-out: each spike counts once for each weight that it meets in the layers that read its "
        "own; biases do not count. Layers whose readers are not known are left out: they are not 0.",
    ),
    (
        "energy",
        "Picojoules of arithmetic, at 45 nm and 32 bits (Horowitz 2014): no memory, no communication, no "
        "leakage, no dynamics of neurons.",
    ),
    (
        "drift",
        "A finding names it where the rates of the first and the last fifth differ by 20 % and more than "
        "noise.",
    ),
    (
        "–",
        "Nothing can be said, such as an interval of neurons that never fire; in CSV an empty cell, never 0.",
    ),
)
