"""The garbage collector does not run while modules load, and not at the end of a process."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from pleb_system.start_up import loading


def test_nothing_is_collected_while_modules_load():
    with loading():
        assert not gc.isenabled()
        with loading():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_failed_import_lets_it_run_again():
    with pytest.raises(ImportError), loading():
        raise ImportError
    assert gc.isenabled()


GARBAGE = """
import sys
from pleb_system.start_up import end_fast

class Seen:
    def __del__(self):
        sys.stdout.write("collected")

seen = Seen()
seen.itself = seen
if "fast" in sys.argv:
    end_fast()
    end_fast()
"""


@pytest.mark.parametrize(("how", "said"), [("", "collected"), ("fast", "")])
def test_a_process_that_ends_fast_looks_for_no_garbage(how, said):
    command = [sys.executable, "-c", GARBAGE + "del seen", how]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == (said, "")
