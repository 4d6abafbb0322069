"""Leaves packages out of agentd that others would load only because they are installed.

httpx loads pygments and rich for a command of its own, and httpcore loads trio for programs that
run on it. Where a researcher's or a developer's packages are in the same environment, that is a
tenth of the memory which the agent keeps all day.
"""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["leave_out_unused"]

_UNUSED: Final = ("pygments", "rich", "trio")


def leave_out_unused() -> None:
    """Let imports of what agentd never uses fail, as if it were not installed.

    What is loaded already stays.
    """
    for name in _UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
