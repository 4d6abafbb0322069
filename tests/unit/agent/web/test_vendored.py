"""The scripts of others are the same files in the agent and in the coordinator."""

from __future__ import annotations

from pathlib import Path

import pleb_agent
import pleb_coordinator

OURS = Path(pleb_agent.__file__).parent / "web" / "static" / "vendor"
THEIRS = Path(pleb_coordinator.__file__).parent / "web_app" / "static" / "vendor"


def test_both_copies_are_equal_byte_for_byte():
    names = sorted(path.name for path in OURS.iterdir())
    assert names == sorted(path.name for path in THEIRS.iterdir())
    for name in names:
        assert (OURS / name).read_bytes() == (THEIRS / name).read_bytes(), name
