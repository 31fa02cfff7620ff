"""Methods that are replaced on single modules while they are monitored.

Torch runs forward hooks in the order in which they came, so that a hook of the user's that comes later would
change what a layer puts out behind our back. To look at each call whether there is a new one would come too
late for that call, and cost all of them. So the one method that adds hooks is replaced on each monitored
module: it adds the hook, and moves ours to the end.

A replacement is an attribute of the module that hides the method of its class. In a copy or a pickle of the
module it becomes the method of the copy again.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any, ClassVar, Generic, Self, TypeVar

from torch import nn

Kept = TypeVar("Kept")


class Replacement(Generic[Kept]):
    """Stands for a method of one module, and keeps something for each monitor that put it there.

    It does not keep the module alive, as what removes the hooks of a monitor that is gone refers to it.

    Attributes
    ----------
    kept : list
    """

    name: ClassVar[str]

    def __init__(self, module: nn.Module) -> None:
        self.kept: list[Kept] = []
        self._module = weakref.ref(module)
        # Somebody else may have replaced the method before.
        self._before = module.__dict__.get(self.name)

    @property
    def module(self) -> nn.Module:
        """The module; it is there whenever one of its methods is called."""
        module = self.module_if_there
        if module is None:
            raise RuntimeError("the module of a replaced method is gone")
        return module

    @property
    def module_if_there(self) -> nn.Module | None:
        """The module; None if it is gone."""
        return self._module()

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """The replacement on a module, which is put there if there is none."""
        found = module.__dict__.get(cls.name)
        if isinstance(found, cls) and found.module is module:
            return found
        # Past nn.Module's own __setattr__, which looks for parameters.
        module.__dict__[cls.name] = made = cls(module)
        return made

    def forget(self, kept: Kept) -> None:
        """Keep something no longer; the method comes back when there is nothing left.

        What this is cut short in may be done again.
        """
        if kept in self.kept:
            self.kept.remove(kept)
        module = self._module()
        if module is None or self.kept:
            return
        newest = module.__dict__.get(self.name)
        if newest is self and self._before is None:
            del module.__dict__[self.name]
        elif newest is self:
            module.__dict__[self.name] = self._before
        while isinstance(newest, Replacement):
            # One that came later, of another monitor, goes on without it.
            if newest._before is self:  # noqa: SLF001
                newest._before = self._before  # noqa: SLF001
            newest = newest._before  # noqa: SLF001

    def call_replaced(self, *args: Any, **settings: Any) -> Any:
        """Call the method that is replaced."""
        method = self._before or MethodType(getattr(type(self.module), self.name), self.module)
        return method(*args, **settings)

    def __deepcopy__(self, memo: dict[int, Any]) -> MethodType:
        # A module's copy is there before its attributes are copied.
        copied = memo.get(id(self.module), self.module)
        return MethodType(getattr(type(copied), self.name), copied)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[nn.Module, str]]:
        # Likewise: it has no attributes yet that would hide the method of its class.
        return getattr, (self.module, self.name)


class _HookAdding(Replacement[int]):
    name = "register_forward_hook"

    def __call__(self, *args: Any, **settings: Any) -> Any:
        """Add a hook of somebody else's, before ours."""
        handle = self.call_replaced(*args, **settings)
        hooks = self.module._forward_hooks  # noqa: SLF001 - there is no other way to move a hook
        for hook in self.kept:
            hooks[hook] = hooks.pop(hook)
        return handle


class LastHooks:
    """Keeps a hook of ours behind the hooks of others."""

    def __init__(self, adding: _HookAdding, hook: int) -> None:
        self._adding = adding
        self._hook = hook

    @classmethod
    def on(cls, module: nn.Module, hook: int) -> LastHooks:
        """Keep the hook of this number last among those of a module, and behind those of ours so far."""
        adding = _HookAdding.of(module)
        adding.kept.append(hook)
        return cls(adding, hook)

    def leave(self) -> None:
        """Keep it last no longer; to be called while the hook is there."""
        self._adding.forget(self._hook)


class _Forward(Replacement[Callable[[], None]]):
    name = "forward"

    def __call__(self, *args: Any, **settings: Any) -> Any:
        """Run the forward, then tell what the module keeps in its attribute."""
        result = self.call_replaced(*args, **settings)
        for tell in self.kept:
            tell()
        return result


class ObservedForward:
    """Calls a hook after each ``forward`` of a module, whoever calls it."""

    def __init__(self, forward: _Forward, tell: Callable[[], None]) -> None:
        self._forward = forward
        self._tell = tell

    @classmethod
    def on(cls, module: nn.Module, hook: Callable[..., None], kept_in: str) -> ObservedForward:
        """Call a forward hook with what the module then has in its attribute ``kept_in`` for its output."""
        forward = _Forward.of(module)
        watched = weakref.ref(module)

        def tell() -> None:
            called = watched()
            if called is not None:
                hook(called, (), getattr(called, kept_in))

        forward.kept.append(tell)
        return cls(forward, tell)

    def leave(self) -> None:
        """Call it no longer."""
        self._forward.forget(self._tell)
