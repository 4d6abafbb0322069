"""Leaves torch's compiler out of the worker's process, which compiles nothing.

FakeTensors and determinism read settings of it, for which torch would load all of it: a quarter of
the processor's time that a worker takes to start, and a tenth of the memory that it keeps.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["leave_out_compiler"]

_PACKAGES: Final = ("torch._dynamo", "torch._inductor")


def leave_out_compiler() -> None:
    """Put packages in the compiler's place from which only submodules can be imported.

    They mark functions as not to be compiled by leaving them as they are. Does nothing where the
    compiler is loaded already.
    """
    if any(name in sys.modules for name in _PACKAGES):
        return
    for name in _PACKAGES:
        spec = find_spec(name)
        if spec is not None:
            package = sys.modules[name] = module_from_spec(spec)
            package.__dict__.update(disable=_as_it_is, __getattr__=partial(_submodule, name))
            torch.__dict__[name.rpartition(".")[2]] = package


def _submodule(package: str, name: str) -> ModuleType:
    if name.startswith("__") or find_spec(f"{package}.{name}") is None:
        raise AttributeError(f"{package}.{name}: a worker's process has no compiler")
    return import_module(f"{package}.{name}")


def _as_it_is(function: Callable[..., Any] | None = None, *_: object, **__: object) -> Any:
    return (lambda decorated: decorated) if function is None else function
