"""Let Dask tasks import the packages of spiketape, whatever files are in the folder of their worker.

A pickle names functions and classes by their module. A worker that was started in a folder with a user's own
``analysis.py`` or ``recorder.py`` would import that file instead of our package. Therefore a `Parcel` holds
its content as bytes, and opens them inside the task, after `claim_packages` has imported our packages under
both names. Schedulers never open a parcel, see `spiketape_scheduler`.

If the worker has imported a user's file under one of these names before, the task fails with an error that
says so. It must not fail earlier, while Dask unpickles the message: this would end the worker, and the client
would wait for ever. This module uses the standard library only.
"""

from __future__ import annotations

import inspect
import pickle
import sys
import threading
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

# Our packages, and a file in each by which it is recognised.
_PACKAGES = {"recorder": "format/FORMAT.md", "analysis": "kernels/comparing.py"}
_HERE = Path(__file__).parent
_lock = threading.RLock()


class Parcel:
    """A function of ours, or an argument of one, on its way to another process.

    Parameters
    ----------
    content : object
        A function or any value that can be pickled. Calling the parcel calls the function; arguments that are
        parcels are unwrapped.
    """

    def __init__(self, content: Any) -> None:
        self._content = content
        self._sealed: bytes | None = None
        # Dask names tasks by their function.
        self.__name__ = str(getattr(content, "__name__", type(content).__name__))

    @property
    def content(self) -> Any:
        """The content; in another process it is unpickled when it is first asked for.

        Raises
        ------
        ImportError
            If it has to be unpickled, and `claim_packages` fails.
        """
        with _lock:
            if self._sealed is not None:
                claim_packages()
                self._content = pickle.loads(self._sealed)  # noqa: S301 - whoever sends tasks may run any code
                self._sealed = None
            return self._content

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the function in the parcel."""
        function = self.content
        return function(
            *map(_unwrapped, arguments), **{name: _unwrapped(value) for name, value in named.items()}
        )

    @property
    def __signature__(self) -> inspect.Signature:
        # Dask looks here for arguments that it supplies itself, such as block_id.
        return inspect.signature(self.content)

    def __getstate__(self) -> dict[str, Any]:
        sealed = pickle.dumps(self._content) if self._sealed is None else self._sealed
        return {"_content": None, "_sealed": sealed, "__name__": self.__name__}

    def __repr__(self) -> str:
        return f"Parcel({self.__name__})"


def _unwrapped(value: Any) -> Any:
    return value.content if isinstance(value, Parcel) else value


def claim_packages() -> None:
    """Import ``recorder`` and ``analysis`` from the folder of this file, unless they are imported already.

    Raises
    ------
    ImportError
        If the process has imported something else under one of these names. It is not replaced, because other
        code may be using it.
    """
    with _lock:
        for name, known_by in _PACKAGES.items():
            found = sys.modules.get(name)
            if found is None:
                _import(name)
            elif not any(Path(folder, known_by).is_file() for folder in getattr(found, "__path__", ())):
                raise ImportError(
                    f"this process has imported {getattr(found, '__file__', found)!r} as {name!r}, which is "
                    f"also the name of a package of spiketape ({_HERE}). Start workers with "
                    "PYTHONSAFEPATH=1, which leaves their working folder out, or rename that file",
                    name=name,
                )


def _import(name: str) -> None:
    folder = _HERE / name
    spec = spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} cannot be imported", name=name)
    module: ModuleType = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
