"""The tray of Windows and macOS on the one back end of pystray that can run here, X11's.

That one has no menu and never gets a click (pystray 0.19.5), which is why Linux does not use it; it
shows icons, runs pystray's event loop and is called from another thread, as the others are.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.fake_agentd import FakeAgentd, status_of
from tests.system.desktop import until
from tests.system.tray_desktop import desktop

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.system

SCRIPT = """
import sys, time
from pleb_agent.tray.pystray_tray import run
from pleb_agent.tray.tray import Tray
from pleb_agent.tray.words import words_in

run(Tray(sys.argv[1], time.monotonic, words_in("en")))
"""


def test_it_shows_each_state_and_ends_with_the_agent(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    agentd = FakeAgentd(home)
    with desktop(tmp_path) as place, ExitStack() as panel:
        panel.enter_context(place.trayer())
        place.pointer_away()
        until(place.has_panel, "the old tray")
        pictures = [place.still_picture()]
        environment = place.environment | {"PYSTRAY_BACKEND": "xorg"}
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(home)], env=environment)
        try:
            for state in ("working", "paused", "problem"):
                agentd.change(status_of(state))
                place.change(pictures[-1], f"the icon of {state}")
                pictures.append(place.still_picture())
            place.keep("tray-pystray-problem")
            assert not _stopped_following(process)
            agentd.change(status_of("stopped", running=False))
            # pystray's X11 loop sleeps on when another thread has read the message that ends it
            # (python-xlib's queue wakes nobody): what the panel's end sends wakes it.
            until(lambda: _stopped_following(process), "the tray stops following")
            panel.close()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
            agentd.stop()
    assert len({picture.tobytes() for picture in pictures}) == 4


def _stopped_following(process: subprocess.Popen[bytes]) -> bool:
    """Whether the thread that follows agentd has ended."""
    return process.poll() is not None or psutil.Process(process.pid).num_threads() == 1
