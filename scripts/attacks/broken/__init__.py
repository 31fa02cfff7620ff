"""Ways to break the code on purpose, by what they break, each with the test that notices."""

from broken.answers import ANSWERS_MUTANTS
from broken.devices import DEVICES_MUTANTS
from broken.handing_over import HANDING_OVER_MUTANTS
from broken.mutant import Mutant
from broken.recording import RECORDING_MUTANTS
from broken.tape import TAPE_MUTANTS

MUTANTS = (*RECORDING_MUTANTS, *DEVICES_MUTANTS, *TAPE_MUTANTS, *ANSWERS_MUTANTS, *HANDING_OVER_MUTANTS)

__all__ = ["MUTANTS", "Mutant"]
