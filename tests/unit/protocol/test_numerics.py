"""Which PCs can compute strictly, what their processes need, and what rounding depends on then."""

from __future__ import annotations

import pytest

from pleb_shared.protocol.messages import Runtime
from pleb_shared.protocol.numerics import lacking, variables


def runtime(**changes):
    values = {"torch": "2.13.0+cpu", "device": "cpu", "threads": 4, "capability": "AVX512"}
    return Runtime(**{**values, "system": "linux-x86_64", **changes})


@pytest.mark.parametrize("system", ["linux-x86_64", "windows-amd64"])
@pytest.mark.parametrize("capability", ["AVX2", "AVX512", "AVX512_VNNI"])
def test_every_x86_pc_with_avx2_can_compute_strictly(system, capability):
    assert lacking("strict", system, capability) == ""


@pytest.mark.parametrize(
    ("system", "capability", "named"),
    [
        ("linux-x86_64", "DEFAULT", "DEFAULT"),
        ("linux-aarch64", "SVE256", "linux-aarch64"),
        ("darwin-arm64", "DEFAULT", "darwin-arm64"),
        ("darwin-x86_64", "AVX2", "darwin-x86_64"),
    ],
)
def test_other_pcs_are_told_what_is_missing_and_compute_natively(system, capability, named):
    assert named in lacking("strict", system, capability)
    assert lacking("native", system, capability) == ""


def test_strict_runtimes_differ_by_torch_and_system_only():
    strict = runtime().under("strict")
    assert strict == runtime(threads=1, capability="AVX2").under("strict")
    assert strict != runtime().under("native") == runtime()
    assert strict != runtime(torch="2.14.0").under("strict")
    assert strict != runtime(system="windows-amd64").under("strict")


def test_only_strict_processes_need_variables():
    assert not variables("native")
    assert variables("strict")["OMP_NUM_THREADS"] == "1"


def test_a_card_has_no_strict_numerics():
    card = Runtime(
        torch="2.13.0", device="cuda", threads=1, capability="sm_90x132", system="linux-x86_64"
    )
    assert card.lacks("native") == ""
    assert "only processors" in card.lacks("strict")
