"""Capture turns the output of a layer into packed rows, on the host or on the accelerator of the network.

Only the recorder enters, as this room needs torch; it knows steps and frames, and nothing of files.
"""

from recorder.capture.layer_recorder import LayerRecorder
from recorder.capture.refusals import LayerError, NeuronShapeError, SpikeValueError

__all__ = ["LayerError", "LayerRecorder", "NeuronShapeError", "SpikeValueError"]
