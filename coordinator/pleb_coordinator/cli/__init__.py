"""`pleb-coordinator`: the operator's commands. Exit codes: docs/exit-codes.md."""

from __future__ import annotations

from pleb_coordinator.cli.main import main

__all__ = ["main"]
