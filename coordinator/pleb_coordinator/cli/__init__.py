"""`pleb-coordinator`: the operator's commands.

Exit codes: 0 done; 1 error; 2 wrong argument, file or home; 3 not trusted; 4 refused;
6 home in use; 8 doctor or verify found a fault; 130 interrupted.
"""

from __future__ import annotations

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    from pleb_coordinator.cli.main import run

    return run(argv)
