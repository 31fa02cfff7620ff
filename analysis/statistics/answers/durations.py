"""Units of time: steps as durations, and rates per second, where the duration of a step was recorded."""

from __future__ import annotations

from typing import Any, Final

import xarray as xr

from analysis.arguments import QuestionError, check_choice
from analysis.members import Members, StepDuration

SECONDS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}


def in_unit(steps: xr.DataArray, unit: str | None, members: Members) -> xr.DataArray:
    """Numbers of steps in a unit of time; as they are without one.

    Raises
    ------
    QuestionError
        If the unit is unknown, or the recordings do not say how long a step is.
    """
    if unit is None:
        return steps
    check_choice(unit, "unit", SECONDS)
    factor = _seconds_of_step(steps, members, unit) / SECONDS[unit]
    result: xr.DataArray = steps * factor
    return result.assign_attrs({**steps.attrs, "units": unit})


def per_second(rate: xr.DataArray, unit: str | None, members: Members) -> xr.DataArray:
    """Rates per step as rates per second, if the unit is ``"Hz"``; as they are without one."""
    if unit is None:
        return rate
    check_choice(unit, "unit", ["Hz"], ", or none for a rate per step")
    long_name = str(rate.attrs["long_name"]).replace("and step", "and second")
    result: xr.DataArray = rate / _seconds_of_step(rate, members, unit)
    return result.assign_attrs(long_name=long_name, units="Hz")


def _seconds_of_step(answer: xr.DataArray, members: Members, unit: str) -> Any:
    """Duration of a step in seconds, for an answer in this unit; along its recordings, where they differ."""
    if members.step_duration is not None or None in members.step_durations:
        return _seconds(members.step_duration, unit)
    if "recording" not in answer.coords:
        raise QuestionError(
            f"unit={unit!r}: steps are not equally long in these recordings, which are pooled; keep them "
            'apart with per="recording" and what else there is, or look at one: select(recordings=...)'
        )
    each = {
        name: _seconds(duration, unit)
        for name, duration in zip(members.names, members.step_durations, strict=True)
    }
    along = answer.coords["recording"].variable
    return xr.Variable(along.dims, [each[name] for name in along.values.tolist()])


def _seconds(step_duration: StepDuration | None, unit: str) -> float:
    if step_duration is None:
        raise QuestionError(
            f"unit={unit!r}: how long a step is was not recorded; "
            'record with Monitor(net, ..., dt=1.0, dt_unit="ms")'
        )
    duration, recorded = step_duration
    if recorded not in SECONDS:
        raise QuestionError(
            f"unit={unit!r}: a step takes {duration:g} {recorded!r}, which is none of "
            f"{', '.join(map(repr, SECONDS))}"
        )
    return duration * SECONDS[recorded]
