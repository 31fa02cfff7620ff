"""What lets a task find our packages, whatever the folder holds that its worker was started in.

Pickles name functions and classes by their module. A worker that was started in a folder with the user's
own ``recorder.py`` would import that file for ``recorder.format``. So whatever tasks carry of ours is wrapped
in a `Parcel`. Its pickle names this module first, and nobody else's file is called like it; importing it
makes ``recorder`` the package that lies beside it, as it is in the process that asked. The same holds for a
scheduler, which unpickles tasks too. Standard library only.
"""

from __future__ import annotations

import inspect
import sys
import threading
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

_PACKAGE = "recorder"
_lock = threading.Lock()


class Parcel:
    """Something of ``recorder.format`` on its way to another process: a function, or what it is given.

    Parameters
    ----------
    content : object
        A function, which is called by calling the parcel; parcels among the arguments are unwrapped. Or any
        value that can be pickled.
    """

    def __init__(self, content: Any) -> None:
        self.content = content

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the function inside."""
        return self.content(
            *map(_unwrapped, arguments), **{name: _unwrapped(value) for name, value in named.items()}
        )

    @property
    def __name__(self) -> str:
        # Dask names tasks by their function.
        return str(getattr(self.content, "__name__", type(self.content).__name__))

    @property
    def __signature__(self) -> inspect.Signature:
        # Dask looks there for the arguments that it fills in, such as block_id.
        return inspect.signature(self.content)

    def __reduce__(self) -> tuple[type[Parcel], tuple[Any]]:
        # The class is unpickled, and so this module imported, before the content is.
        return Parcel, (self.content,)

    def __repr__(self) -> str:
        return f"Parcel({self.content!r})"


def _unwrapped(value: Any) -> Any:
    return value.content if isinstance(value, Parcel) else value


def claim_package(folder: Path) -> None:
    """Make ``recorder`` in this process the package in ``folder``, unless it is one of spiketape already.

    Raises
    ------
    ImportError
        If the process has imported something else by that name: others may be using it.
    """
    with _lock:
        found = sys.modules.get(_PACKAGE)
        if found is None:
            _import_from(folder)
        elif not _is_ours(found):
            raise ImportError(
                f"this process has imported {getattr(found, '__file__', found)!r} as {_PACKAGE!r}, which is "
                f"also the name of a package of spiketape ({folder}). Start schedulers and workers with "
                "PYTHONSAFEPATH=1, which leaves their working folder out, or rename that file",
                name=_PACKAGE,
            )


def _is_ours(module: ModuleType) -> bool:
    return any(Path(folder, "format", "FORMAT.md").is_file() for folder in getattr(module, "__path__", ()))


def _import_from(folder: Path) -> None:
    spec = spec_from_file_location(_PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} cannot be imported", name=_PACKAGE)
    module = module_from_spec(spec)
    sys.modules[_PACKAGE] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[_PACKAGE]
        raise


claim_package(Path(__file__).with_name(_PACKAGE))
