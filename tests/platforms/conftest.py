"""Each system's own tests are collected on that system alone, so that nowhere a test is skipped."""

from __future__ import annotations

import sys

_OF_SYSTEMS = {"win32": "test_windows.py", "darwin": "test_macos.py"}
collect_ignore = [name for system, name in _OF_SYSTEMS.items() if system != sys.platform]
