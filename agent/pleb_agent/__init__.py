"""The volunteer's side: asks for units, trains them in a sandboxed worker, reports."""

from typing import Final

__all__ = ["AGENT"]

AGENT: Final = "pleb-agent/0.1.0"
"""What this software calls itself in requests."""
