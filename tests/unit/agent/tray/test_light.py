"""The tray imports almost nothing: each of these modules would cost a megabyte or more."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "argparse",
    "asyncio",
    "ctypes",
    "dataclasses",
    "http.client",
    "httpx",
    "logging",
    "msgspec",
    "numpy",
    "pathlib",
    "PIL",
    "pystray",
    "ssl",
    "subprocess",
    "threading",
    "unicodedata",
    "urllib.request",
)


def test_the_linux_tray_is_light() -> None:
    script = (
        "import sys\n"
        "import pleb_agent.tray.main, pleb_agent.tray.linux, pleb_agent.dbus.events\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    # -S: what the installation's .pth files import is not the tray's; its packages are passed on.
    code = f"import sys; sys.path[:] = {sys.path!r}\n{script}"
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
