"""Recordings in the forms that others read: Parquet, NWB, dask, pynapple, neo.

`Recording` and `Layer` inherit what users call, and nobody else enters; what tasks do is in
`analysis.kernels.exporting`.
"""

from analysis.export.contents import Contents
from analysis.export.methods import FORMS, LayerExport, RecordingExport

__all__ = ["FORMS", "Contents", "LayerExport", "RecordingExport"]
