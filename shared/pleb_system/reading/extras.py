"""Libraries that only some data sources need."""

from __future__ import annotations

import importlib
from typing import Any

from pleb_shared.errors import InputError

__all__ = ["need"]


def need(module: str, package: str, what: str) -> Any:
    """Return the module, imported; `what` needs it, in the plural.

    Raises:
        InputError: its package is not installed; the message has pip's command.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: soundfile without its C library
        raise InputError(
            f"{what} need {package}, which is missing: install it with `pip install {package}`."
        ) from error
