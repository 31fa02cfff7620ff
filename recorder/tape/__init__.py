"""The promises: what is written and when it is safe, who may write, what a reader may rely on.

The recorder writes here, `recorder.keeping` and `analysis` read. Neither torch nor dask is needed.
"""

from recorder.tape.layer_reading import LayerReader
from recorder.tape.layer_writing import LayerProgress
from recorder.tape.reading import TapeReader
from recorder.tape.writing import TapeWriter

__all__ = ["LayerProgress", "LayerReader", "TapeReader", "TapeWriter"]
