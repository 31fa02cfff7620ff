"""From a tensor to packed rows: on the host, or on the accelerator where the network runs.

Only the recorder enters, as this room needs torch. It knows of steps and frames, and nothing of files.
"""

from recorder.capture.layer_recorder import LayerRecorder
from recorder.capture.refusals import LayerError, NeuronShapeError, SpikeValueError

__all__ = ["LayerError", "LayerRecorder", "NeuronShapeError", "SpikeValueError"]
