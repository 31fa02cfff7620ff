"""The tape keeps the promises of FORMAT.md: who may write, in which order, and what a reader may rely on.

The recorder enters to write, `recorder.keeping` and `analysis` to read; neither torch nor dask is needed.
"""

from recorder.tape.layers.layer_reading import LayerReader
from recorder.tape.layers.layer_writing import LayerProgress
from recorder.tape.reading import TapeReader
from recorder.tape.writing import TapeWriter

__all__ = ["LayerProgress", "LayerReader", "TapeReader", "TapeWriter"]
