"""Finds the line of the researcher's code that a traced node comes from."""

from __future__ import annotations

import re
from typing import Final

from torch import fx

__all__ = ["source_line"]

_FRAME: Final = re.compile(r'File "([^"]+)", line (\d+), in [^\n]*\n\s*([^\n]*)')


def source_line(node: fx.Node) -> str:
    """Return file, line and code of the innermost frame outside torch that made `node`."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    own = [frame for frame in frames if "/torch/" not in frame[0].replace("\\", "/")]
    if not (own or frames):
        return "its place in the code is unknown"
    path, line, code = (own or frames)[-1]
    return f"{path}, line {line}: {code.strip()}"
