"""Describe what was recorded, where and with what, as JSON values.

Anything that may hold a secret is left out: environment variables, arguments and folder of the command, the
address of the store. Users who want to keep arguments pass them as ``metadata``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from torch import nn
from torch.nn.parameter import UninitializedParameter

from recorder.circumstances import describe

# The description is written with every commit, so it must stay small.
MAX_MODULES: Final = 2000


def describe_run(
    network: nn.Module,
    metadata: Mapping[str, Any] | None = None,
    *,
    dt: float | None = None,
    dt_unit: str | None = None,
    licence: str | None = None,
    citation: str | None = None,
) -> dict[str, Any]:
    """Describe a recording of ``network``; the other parameters are those of `recorder.Monitor`.

    Raises
    ------
    TypeError
        If ``metadata`` does not consist of JSON values, or one of ``dt_unit``, ``licence`` and ``citation``
        is no text.
    ValueError
        If only one of ``dt`` and ``dt_unit`` is given, ``dt`` is not positive, or the description is too
        large.
    """
    modules = list(network.named_modules())
    described: dict[str, Any] = {
        "network": class_name(network),
        # Of nn.Module itself: rockpool's method of that name returns a dict.
        "parameters": _count(nn.Module.parameters(network)),
        "modules": [_describe_module(name, module) for name, module in modules[:MAX_MODULES]],
    }
    if len(modules) > MAX_MODULES:
        described["modules_left_out"] = len(modules) - MAX_MODULES
    return describe(described, metadata, dt=dt, dt_unit=dt_unit, licence=licence, citation=citation)


def _describe_module(name: str, module: nn.Module) -> dict[str, Any]:
    """Describe a module and its own parameters, without those of its submodules."""
    own = {
        key: parameter
        for key, parameter in nn.Module.named_parameters(module, recurse=False)
        if _is_known(parameter)
    }
    described: dict[str, Any] = {"name": name, "class": class_name(module)}
    if own:
        described["parameters"] = _count(own.values())
        described["shapes"] = {key: list(parameter.shape) for key, parameter in own.items()}
    return described


def _count(parameters: Iterable[nn.Parameter]) -> int:
    """Number of elements in parameters; lazy parameters, which have no shape yet, do not count."""
    return sum(parameter.numel() for parameter in parameters if _is_known(parameter))


def _is_known(parameter: nn.Parameter) -> bool:
    return not isinstance(parameter, UninitializedParameter)


def class_name(module: nn.Module) -> str:
    """Qualified name of a module's class; only its last 1024 characters if it is longer."""
    kind = type(module)
    return f"{kind.__module__}.{kind.__qualname__}"[-1024:]
