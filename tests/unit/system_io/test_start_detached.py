"""Programs that are started and that outlive their starter."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest

from pleb_system.processes import start_detached

if TYPE_CHECKING:
    from pathlib import Path


def test_a_started_program_is_detached(tmp_path: Path) -> None:
    """It has a session of its own, nothing on its standard streams, and what is added to its
    environment.
    """
    told = tmp_path / "told"
    script = (
        "import os, sys\n"
        f"open({str(tmp_path / 'new')!r}, 'w').write(repr((os.getsid(0) == os.getpid(),"
        " sys.stdin.read(), os.environ['MORE'])))\n"
        f"os.rename({str(tmp_path / 'new')!r}, {str(told)!r})"
    )
    start_detached([sys.executable, "-c", script], MORE="more")
    deadline = time.monotonic() + 30
    while not told.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert told.read_text("utf-8") == "(True, '', 'more')"


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(OSError, match="No such file"):
        start_detached(["/nowhere/at/all"])
