"""`pleb-agent`: commands for the volunteer. Exit codes: docs/exit-codes.md."""

from __future__ import annotations

from pleb_agent.cli.main import main

__all__ = ["main"]
