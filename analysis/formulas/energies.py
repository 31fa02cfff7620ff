"""What one operation of arithmetic takes, as the literature gives it: arithmetic only.

No memory, no communication, no leakage, no dynamics of neurons: on real hardware these often take the most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class OperationEnergies:
    """Energies of operations in one technology.

    Attributes
    ----------
    accumulate, multiply_accumulate : fractions.Fraction
        In picojoules: of an addition, and of a multiplication and an addition.
    source : str
    """

    accumulate: Fraction
    multiply_accumulate: Fraction
    source: str


def _of(add: str, multiply: str, source: str) -> OperationEnergies:
    return OperationEnergies(Fraction(add), Fraction(multiply) + Fraction(add), source)


_HOROWITZ: Final = (
    "Horowitz 2014, Computing's energy problem, ISSCC, 10.1109/ISSCC.2014.6757323: 45 nm, 0.9 V"
)
_JOUPPI: Final = "Jouppi et al. 2021, Ten lessons, ISCA, 10.1109/ISCA52012.2021.00010, table 2: 7 nm"

PRESETS: Final[Mapping[str, OperationEnergies]] = MappingProxyType(
    {
        "45nm": _of("0.9", "3.7", f"{_HOROWITZ}, 32-bit floats"),
        "45nm-fp16": _of("0.4", "1.1", f"{_HOROWITZ}, 16-bit floats"),
        "45nm-int32": _of("0.1", "3.1", f"{_HOROWITZ}, 32-bit integers"),
        "45nm-int8": _of("0.03", "0.2", f"{_HOROWITZ}, 8-bit integers"),
        "7nm": _of("0.38", "1.31", f"{_JOUPPI}, 32-bit floats"),
    }
)
