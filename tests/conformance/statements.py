"""All statements of the store by name, whichever module has them."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from pleb_coordinator.store import queries

PARTS = "parts"
"""The module whose texts are no statements."""


def statements():
    """Return the text of each statement, or its texts where it is several, by its name."""
    found = {}
    for module in pkgutil.iter_modules(queries.__path__):
        if module.name == PARTS:
            continue
        source = import_module(f"{queries.__name__}.{module.name}")
        shared = vars(import_module(f"{queries.__name__}.{PARTS}"))
        for name, value in vars(source).items():
            ours = name.isupper() and not name.startswith("_") and name not in shared
            if ours and isinstance(value, (str, tuple)):
                assert name not in found, f"two modules have {name}"
                found[name] = value
    return found
