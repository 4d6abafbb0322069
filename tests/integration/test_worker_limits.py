"""The limit of threads, as an ordinary user: root is not bound by it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.ordinary_user import as_ordinary_user

ROOT = Path(__file__).parents[2]

TOO_LOW = """
import os
from pleb_agent.worker.sandbox.limits import limit_threads
try:
    limit_threads(0, apart=True)  # as where the user's other processes are hidden
except OSError as error:
    print(error)
if os.fork() == 0:
    os._exit(0)
os.wait()
"""
ROOM = """
import threading, time
from pleb_agent.worker.sandbox.limits import limit_threads
threads = [threading.Thread(target=time.sleep, args=(1,)) for _ in range(40)]
for thread in threads[:20]:
    thread.start()
print(limit_threads(5, apart=False))
for thread in threads[20:]:
    thread.start()
"""


def run(script: str) -> str:
    place = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(
        as_ordinary_user([sys.executable, "-c", script]),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env=os.environ | {"PYTHONPATH": place, "HOME": "/"},
        timeout=120,
    )
    return done.stdout


def test_a_limit_that_would_stop_the_worker_itself_is_not_set() -> None:
    assert "more processes than are shown" in run(TOO_LOW)


def test_what_the_user_has_now_does_not_count_against_the_worker() -> None:
    assert 2048 + 5 + 20 < int(run(ROOM)) < 2048 + 20_000
