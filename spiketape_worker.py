"""What lets a Dask task find our packages, whatever the folder holds that its worker was started in.

Pickles name functions and classes by their module. A worker that was started beside a user's own
``analysis.py`` or ``recorder.py`` would import that file instead of ours. A `Parcel` therefore travels as
bytes and is opened where it is used, inside the task, after `claim_packages` has made both names ours.
Schedulers never open one. In a process that has imported a file of the user's by one of these names the task
fails, and its error says so. To fail while the message is unpickled would end the worker, and the client
would wait for ever. Standard library only.
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

# Our packages, and a file by which each is known.
_PACKAGES = {"recorder": "format/FORMAT.md", "analysis": "kernels/counting.py"}
_HERE = Path(__file__).parent
_lock = threading.RLock()


class Parcel:
    """Something of ours on its way to another process: a function, or what it is given.

    Parameters
    ----------
    content : object
        A function, which is called by calling the parcel; parcels among the arguments are unwrapped. Or any
        value that can be pickled.
    """

    def __init__(self, content: Any) -> None:
        self._content = content
        self._sealed: bytes | None = None
        # Dask names tasks by their function.
        self.__name__ = str(getattr(content, "__name__", type(content).__name__))

    @property
    def content(self) -> Any:
        """What is inside.

        Raises
        ------
        ImportError
            In another process, as `claim_packages`.
        """
        with _lock:
            if self._sealed is not None:
                claim_packages()
                self._content = pickle.loads(self._sealed)  # noqa: S301 - whoever sends tasks may run any code
                self._sealed = None
            return self._content

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the function inside."""
        function = self.content
        return function(
            *map(_unwrapped, arguments), **{name: _unwrapped(value) for name, value in named.items()}
        )

    @property
    def __signature__(self) -> inspect.Signature:
        # Dask looks there for the arguments that it fills in, such as block_id.
        return inspect.signature(self.content)

    def __getstate__(self) -> dict[str, Any]:
        sealed = pickle.dumps(self._content) if self._sealed is None else self._sealed
        return {"_content": None, "_sealed": sealed, "__name__": self.__name__}

    def __repr__(self) -> str:
        return f"Parcel({self.__name__})"


def _unwrapped(value: Any) -> Any:
    return value.content if isinstance(value, Parcel) else value


def claim_packages() -> None:
    """Make ``recorder`` and ``analysis`` the packages beside this file, unless they are ours already.

    Raises
    ------
    ImportError
        If the process has imported something else by one of these names: others may be using it.
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
