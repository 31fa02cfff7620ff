"""The statistics that the command line offers, and a question to some of them, in words that files can hold.

Statistics are found by their signatures: what is a public method of `analysis.statistics.Statistics`, or of
a signal, and returns an array. Those of a signal have its name in front, as in ``v:mean``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import click
import xarray as xr
from click.shell_completion import CompletionItem
from dask.base import is_dask_collection

from analysis.arguments import QuestionError, listed
from analysis.cli.running import warnings_as_lines
from analysis.cli.tables.choosing import CHOSEN, need_one_layer, parse_settings, select
from analysis.display import printable
from analysis.questions import PooledPartsWarning, UncoveredOperationsWarning
from analysis.recording import Recording
from analysis.statistics import Statistics
from analysis.statistics.counted import CountedOperations
from analysis.statistics.signals import SignalStatistics

# Parameters that have an option of their own.
OPTIONS: Final = ("window", "boundary", "unit", "neurons")
# Statistics of one layer, and of pairs of layers: if nothing is said, nothing more is kept apart.
_OWN_LAYERS: Final = ("accuracy", "similarity")
# Statistics that are per second where they have a unit; all others are times.
_RATES: Final = ("firing_rate",)
_RATE_UNITS: Final = ("Hz",)
# What is kept apart if nothing is said; statistics that say so themselves take nothing else.
DEFAULT_PER: Final = ("layer",)


def statistics(owner: type = Statistics) -> dict[str, inspect.Signature]:
    """Signatures of the statistics, by name. Those without ``per`` have axes of their own."""
    found = {}
    for name, method in inspect.getmembers(owner, inspect.isfunction):
        signature = inspect.signature(method)
        returned = str(signature.return_annotation)
        if not name.startswith("_") and returned == "xr.DataArray":
            found[name] = signature
    return found


def complete_statistics(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The statistics whose names begin like the last word of a list joined by commas."""
    before, comma, begun = incomplete.rpartition(",")
    names = [*statistics(), *statistics(CountedOperations)]
    return [CompletionItem(before + comma + name) for name in names if name.startswith(begun)]


def statistics_text() -> str:
    """A line for each statistic: its name, its meaning, and what --set takes."""
    lines = []
    for owner, front in ((Statistics, ""), (CountedOperations, ""), (SignalStatistics, "SIGNAL:")):
        for name, signature in statistics(owner).items():
            meaning = (inspect.getdoc(getattr(owner, name)) or "").partition("\n")[0]
            further = [key for key in signature.parameters if key not in ("self", "per", *OPTIONS)]
            takes = f" --set {', '.join(further)}" if further else ""
            lines.append(f"{front + name:30} {meaning}{takes}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Asked:
    """A question as it is written on the command line; empty where an option is left out.

    Attributes
    ----------
    what, per : tuple of str
    layers, recordings, conditions, settings : tuple of str
        As often as the options ``--layer``, ``--recording``, ``--where`` and ``--set`` are given.
    steps, time, trials, samples, neurons, channels, window, boundary, unit : str
    """

    what: tuple[str, ...]
    per: tuple[str, ...]
    layers: tuple[str, ...] = ()
    recordings: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    steps: str = ""
    time: str = ""
    trials: str = ""
    samples: str = ""
    neurons: str = ""
    channels: str = ""
    window: str = ""
    boundary: str = ""
    unit: str = ""

    def of(self, recording: Recording) -> xr.Dataset:
        """The answer: a variable for each statistic, and for each lazy coordinate of one.

        Raises
        ------
        click.UsageError
            If no statistic has such a name or takes such an option, or if they differ in dimensions.
        """
        arguments = self._arguments()
        recording = select(recording, **{name: getattr(self, name) for name in CHOSEN})
        need_one_layer(recording, self.per, ",".join(self.per))
        answers = {}
        with warnings_as_lines(UncoveredOperationsWarning, PooledPartsWarning):
            for name in self.what:
                signal, _, method = name.rpartition(":")
                try:
                    if signal:
                        answers[name] = _of_signal(recording, signal, method, arguments[name])
                    else:
                        answers[name] = getattr(recording, name)(**arguments[name])
                except QuestionError as error:
                    if len(self.what) == 1:
                        raise
                    raise QuestionError(f"{name}: {error}") from error
        return _joined(answers)

    def _arguments(self) -> dict[str, dict[str, Any]]:
        """What each statistic is given."""
        counted, of_signals = statistics(CountedOperations), statistics(SignalStatistics)
        known = statistics() | counted
        known |= {
            name: of_signals[method]
            for name in self.what
            for signal, _, method in [name.rpartition(":")]
            if signal and method in of_signals
        }
        unknown = [name for name in self.what if name not in known]
        if unknown or not self.what:
            what = f"{printable(repr(unknown[0]))} is no statistic" if unknown else "no statistic is named"
            further = f"{listed([*known])}; of signals SIGNAL:{', SIGNAL:'.join(of_signals)}"
            raise click.BadParameter(f"{what}; expected {further}", param_hint="--what")
        doubled = [name for name in dict.fromkeys(self.what) if self.what.count(name) > 1]
        if doubled:
            raise click.BadParameter(f"{doubled[0]!r} is there twice", param_hint="--what")
        given: dict[str, Any] = {}
        for name, values in parse_settings(self.settings, "set", may_be_null=True).items():
            if name in ("self", "per", *OPTIONS) or len(values) > 1:
                why = "is set twice" if len(values) > 1 else "has an option of its own"
                raise click.BadParameter(f"{printable(repr(name))} {why}", param_hint="--set")
            given[name] = values[0]
        given |= {"window": int(self.window)} if self.window else {}
        given |= {"boundary": self._boundary()} if self.boundary else {}
        given |= {"unit": self.unit} if self.unit else {}
        arguments: dict[str, dict[str, Any]] = {}
        for name in self.what:
            parameters = known[name].parameters
            arguments[name] = {key: value for key, value in given.items() if key in parameters}
            if "per" in parameters:
                # Operations are of weight layers, and so of no layer, if nothing is said.
                is_plain = (name in counted or name in _OWN_LAYERS) and self.per == DEFAULT_PER
                arguments[name]["per"] = () if is_plain else self.per
            else:
                self._refuse_per(name)
            missing = [
                key for key, each in parameters.items() if each.default is each.empty and key != "self"
            ]
            missing = [key for key in missing if key not in arguments[name]]
            if missing:
                needed = " ".join(f"--set {key}=VALUE" for key in missing)
                raise click.UsageError(f"{name} needs {needed}")
        for key in given:
            if not any(key in taken for taken in arguments.values()):
                raise click.UsageError(f"none of {listed(self.what, 'and')} takes {printable(repr(key))}")
        _give_units(arguments)
        return arguments

    def _refuse_per(self, name: str) -> None:
        if self.per != DEFAULT_PER:
            raise click.BadParameter(
                f"{name} has axes of its own, and keeps nothing else apart: leave --per out, and choose "
                "a layer with --layer",
                param_hint="--per",
            )

    def _boundary(self) -> Any:
        if self.boundary == "none":
            return "none"
        try:
            return int(self.boundary)
        except ValueError:
            raise click.BadParameter(
                f"{printable(repr(self.boundary))}; expected none, or a number of steps",
                param_hint="--boundary",
            ) from None


def _give_units(arguments: Mapping[str, dict[str, Any]]) -> None:
    """Of several units, joined by commas, give each statistic the only one of its kind.

    Raises
    ------
    click.BadParameter
        If several are of the kind of a statistic, or none is; or if one is of no statistic.
    """
    asked = {name: taken["unit"] for name, taken in arguments.items() if "unit" in taken}
    units = [unit.strip() for unit in next(iter(asked.values()), "").split(",")]
    if len(units) == 1:
        return
    for name in asked:
        fitting = [unit for unit in units if (unit in _RATE_UNITS) == (name in _RATES)]
        if len(fitting) != 1:
            raise click.BadParameter(
                f"{printable(','.join(units))} has {len(fitting)} units that {name} could be in; expected "
                "one, as in Hz,ms for rates and times",
                param_hint="--unit",
            )
        arguments[name]["unit"] = fitting[0]
    for unit in units:
        if unit not in [arguments[name]["unit"] for name in asked]:
            wrong = f"none of {listed([*asked], 'and')} is in {printable(unit)}"
            raise click.BadParameter(wrong, param_hint="--unit")


def _of_signal(recording: Recording, name: str, method: str, arguments: Mapping[str, Any]) -> xr.DataArray:
    """A statistic of a signal, of all layers that have it.

    Raises
    ------
    click.UsageError
        If no layer has it, or several have it and are not kept apart, or have other steps.
    """
    layers = [layer for layer in recording.layers.values() if name in layer.signals]
    if not layers:
        there = dict.fromkeys(signal for layer in recording.layers.values() for signal in layer.signals)
        raise click.UsageError(
            f"no layer has a signal {printable(repr(name))}; the signals are: "
            + (", ".join(printable(repr(each)) for each in there) or "none")
        )
    answers: list[xr.DataArray] = [getattr(layer.signals[name], method)(**arguments) for layer in layers]
    if len(answers) == 1:
        return answers[0]
    shown = f"{printable(repr(name))} is a signal of the layers {listed([one.name for one in layers], 'and')}"
    if "layer" not in answers[0].dims:
        raise click.UsageError(
            f"{printable(shown)}, whose values are not pooled: keep layers apart with --per layer,..., or "
            "choose one with --layer"
        )
    try:
        joined: xr.DataArray = xr.concat(answers, "layer", join="exact", coords="minimal", compat="override")
    except ValueError:
        along = ", ".join(str(axis) for axis in answers[0].dims if axis != "layer")
        raise click.UsageError(
            f"{printable(shown)}, which have other places along {along}: choose one with --layer"
        ) from None
    return joined


def _joined(answers: Mapping[str, xr.DataArray]) -> xr.Dataset:
    """Answers of equal dimensions as variables; a coordinate that is not read yet is one, too."""
    first_name, first = next(iter(answers.items()))
    variables = {}
    for name, answer in answers.items():
        if answer.dims != first.dims or answer.shape != first.shape or not _same_indexes(answer, first):
            raise click.UsageError(
                f"{first_name} is along {_dimensions(first)} and {name} along {_dimensions(answer)}: no "
                "table holds both, ask for them one by one"
            )
        lazy = [key for key, coordinate in answer.coords.items() if is_dask_collection(coordinate.variable)]
        variables[name] = answer.drop_vars(lazy)
        variables |= {f"{name}_{key}": answer.coords[key].drop_vars(lazy) for key in lazy}
    return xr.Dataset(variables)


def _same_indexes(one: xr.DataArray, other: xr.DataArray) -> bool:
    return all(one.indexes[name].equals(other.indexes.get(name)) for name in one.indexes)


def _dimensions(answer: xr.DataArray) -> str:
    along = [f"{name} ({length})" for name, length in zip(answer.dims, answer.shape, strict=True)]
    return ", ".join(along) or "nothing"
