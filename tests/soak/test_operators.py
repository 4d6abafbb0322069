"""Every operator with hostile arguments, between guard pages: nothing crashes, all is typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pleb_shared.training.allow_list import ALLOWED
from pleb_shared.training.operators import is_allowed
from tests.soak.guarded import guarded
from tests.soak.operator_calls import CALLS, Call, T
from tests.soak.operators import Fuzz, try_call

ROOT = Path(__file__).parents[2]


def test_every_operator_has_calls_to_start_from():
    assert set(ALLOWED) <= set(CALLS)
    assert all(is_allowed(op) for op in CALLS)


@pytest.mark.parametrize("op", CALLS)
def test_well_formed_calls_run_as_their_dry_run_says(op):
    """Rules that refused honest models would be worse than none."""
    for call in CALLS[op]:
        assert try_call(call, Fuzz([1])), call


@pytest.mark.slow
def test_hostile_calls_are_refused_or_harmless():
    command = [sys.executable, "-m", "tests.soak.operators", "--cases", "9", "--seed", "7"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert " 0 findings" in ended.stdout


READ_BESIDE = """
import ctypes, numpy as np, torch
from tests.soak.guarded import guarded
tensor = guarded(np.arange(5, dtype=np.uint8), torch.uint8, at_end=True)
longer = (ctypes.c_char * 6).from_address(tensor.data_ptr())
torch.frombuffer(longer, dtype=torch.uint8).sum()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages are guarded on Linux only")
def test_reading_beside_a_guarded_tensor_is_noticed():
    """Otherwise none of this would show anything."""
    ended = subprocess.run([sys.executable, "-c", READ_BESIDE], cwd=ROOT, check=False)
    assert ended.returncode == -11
    tensor = guarded(np.arange(5, dtype=np.uint8), torch.uint8, at_end=True)
    assert tensor.tolist() == [0, 1, 2, 3, 4]


def test_a_whole_number_is_no_type():
    """As a type, torch looks -7 up before the start of a table."""
    assert not try_call(Call("aten.softmax.int", (T(), 1, -7)), Fuzz([1]))
