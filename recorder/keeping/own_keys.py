"""The keys that a recording may have, whatever its layers, signals and columns are."""

from __future__ import annotations

import re

from recorder.format.arrays import PLANE_GROUPS, LayerTables, SignalTables
from recorder.format.layout import CATEGORIES, ROOT_DOCUMENT, SPIKES
from recorder.format.operations import OPERATIONS
from recorder.format.signals import SIGNALS, VALUES
from recorder.format.values import PLANES

# Keys that a recording may have. All other keys are foreign, and are never deleted.
_ARRAYS = "|".join([SPIKES, *LayerTables._fields])
_SIGNAL_ARRAYS = "|".join([VALUES, *SignalTables._fields])
_NODE = rf"({ROOT_DOCUMENT}|c(/[0-9]+)*)"
OURS = re.compile(
    rf"layers/[^/]+/({ROOT_DOCUMENT}|({_ARRAYS})/{_NODE})"
    rf"|layers/[^/]+/({'|'.join(PLANE_GROUPS)})/({ROOT_DOCUMENT}|({'|'.join(PLANES)})/{_NODE})"
    rf"|layers/[^/]+/{SIGNALS}/({ROOT_DOCUMENT}|[^/]+/({ROOT_DOCUMENT}|({_SIGNAL_ARRAYS})/{_NODE}))"
    rf"|{OPERATIONS}/({ROOT_DOCUMENT}|({_SIGNAL_ARRAYS})/{_NODE})"
    rf"|{CATEGORIES}/{ROOT_DOCUMENT}|(trials|{CATEGORIES})/[^/]+/({ROOT_DOCUMENT}|c/[0-9]+)|.+\.[0-9a-f]{{16}}\.partial"
)
