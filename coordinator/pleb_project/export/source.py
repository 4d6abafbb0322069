"""Finds the line of the researcher's code that a traced node comes from."""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING, Any, Final

from torch.overrides import TorchFunctionMode
from typing_extensions import override

from pleb_shared.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import fx

__all__ = ["RefusedNodeError", "called_at", "is_theirs", "source_line"]

_FRAME: Final = re.compile(r'File "([^"]+)", line (\d+), in [^\n]*\n\s*([^\n]*)')
_NOT_THEIRS: Final = ("/torch/", "/pleb_project/export/", "/pleb_project/check/", "/pleb_shared/")


class RefusedNodeError(GraphError):
    """A node cannot be part of a graph; `line` is the code that made it, if that is known."""

    def __init__(self, name: str, line: str | None, advice: str) -> None:
        super().__init__(f"{name} is not allowed ({line or 'in an unknown line'}). {advice}")
        self.name = name
        self.line = line
        self.advice = advice

    def located(self, run: Callable[[], object]) -> RefusedNodeError:
        """Return the same error with its line, found by running the code again if need be."""
        short = self.name.removeprefix("aten.").split(".")[0]
        return RefusedNodeError(self.name, self.line or called_at(short, run), self.advice)


class _CallLines(TorchFunctionMode):
    """Inside this context, notes the line that first called each of torch's functions."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, str] = {}
        """Line by the function's name, such as `randn`."""

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name not in self.lines:
            stack = traceback.extract_stack()
            frames = [(f.filename, str(f.lineno), f.line or "") for f in stack]
            own = [frame for frame in frames if is_theirs(frame[0])]
            if own:
                self.lines[name] = _shown(own[-1])
        return func(*args, **(kwargs or {}))


def called_at(name: str, run: Callable[[], object]) -> str | None:
    """Return file, line and code of the first call of torch's function `name` in `run()`.

    torch.export remembers the lines of a module's forward() only; this finds those in loss()
    and evaluate() by running them once more. A function whose name is the beginning of `name` is
    taken as well: `embedding` calls `embedding_renorm_`.
    """
    calls = _CallLines()
    with calls:
        run()
    begins = [known for known in calls.lines if known and name.startswith(known)]
    return calls.lines.get(max(begins, key=len, default=""))


def source_line(node: fx.Node) -> str | None:
    """Return file, line and code of the innermost frame of the researcher's code that made `node`.

    None if torch.export recorded none, because the call is in loss() or evaluate() itself.
    """
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    own = [frame for frame in frames if is_theirs(frame[0])]
    return _shown(own[-1]) if own else None


def is_theirs(path: str) -> bool:
    """Whether a file is of the researcher or of a library of theirs, neither torch's nor ours."""
    return not any(part in path.replace("\\", "/") for part in _NOT_THEIRS)


def _shown(frame: tuple[str, str, str]) -> str:
    path, line, code = frame
    return f"{path}, line {line}: {code.strip()}"
