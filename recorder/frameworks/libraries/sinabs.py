"""The neurons of sinabs, as in version 3.1.3.

sinabs puts time second, or folds it into the batch, and never leaves the batch out. Not taken is what does
not spike, such as ``ExpLeak``.
"""

from __future__ import annotations

import functools
from typing import Any

from recorder.frameworks.libraries.neuron_class import NeuronClass, NeuronClasses
from recorder.frameworks.outputs import SpikeOutput
from recorder.frameworks.potentials import SINABS


def _squeezed_or_not(module: Any) -> SpikeOutput:
    if not any(cls.__name__ == "SqueezeMixin" for cls in type(module).__mro__):
        return _BATCHES
    # sinabs puts -1 for the one that is not given.
    sizes = (size if size > 0 else None for size in (module.batch_size, module.num_timesteps))
    return _folded(*sizes)


_BATCHES = SpikeOutput("n t ...", item=None)


@functools.lru_cache
def _folded(batch_size: int | None, num_steps: int | None) -> SpikeOutput:
    return SpikeOutput("(n t) ...", None, batch_size, num_steps)


NEURON_CLASSES: NeuronClasses = {
    "sinabs.layers": {
        # Several spikes a step by default.
        "StatefulLayer": NeuronClass(
            _squeezed_or_not,
            lambda module: module.does_spike,
            is_always_batched=True,
            is_graded=True,
            potential=SINABS,
        )
    },
}
