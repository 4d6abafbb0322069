"""The worker's process has torch without its compiler, and would still have it if it were asked."""

from __future__ import annotations

import json
import subprocess
import sys

from pleb_agent.worker.compiler import leave_out_compiler


def loaded_after(code: str) -> set[str]:
    """Return the compiler's modules that a new process has loaded after `code`."""
    told = "import json, sys; print(json.dumps([*sys.modules]))"
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}\n{told}"], capture_output=True, text=True, check=True
    )
    parts = {"torch._dynamo", "torch._inductor"}
    modules = json.loads(ended.stdout.splitlines()[-1])
    return {name for name in modules if any(name.startswith(f"{part}.") for part in parts)}


WARM = """
from pleb_agent.worker.devices.choice import choose_device
device = choose_device()
device.warm_up("native")
device.pin(1)
"""
"""What a worker does before its first job."""


def test_a_warm_worker_has_its_settings_and_no_more():
    settings = {"torch._dynamo.config", "torch._inductor.config"}
    assert loaded_after(WARM) - settings <= {"torch._inductor.custom_graph_pass"}


def test_a_fake_run_of_a_kernel_without_a_fake_one_needs_no_more_than_submodules():
    run = """
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
with FakeTensorMode(allow_non_fake_inputs=True):
    scores = torch.zeros(3, 4, requires_grad=True)
    torch.ops.aten.multi_margin_loss.default(scores, torch.zeros(3, dtype=torch.int64)).backward()
"""
    assert "torch._dynamo.convert_frame" not in loaded_after(WARM + run)


def test_a_compiler_that_is_loaded_stays():
    import torch._dynamo
    import torch._inductor

    before = torch._dynamo, torch._inductor, torch._dynamo.disable
    leave_out_compiler()
    assert (sys.modules["torch._dynamo"], torch._inductor, torch._dynamo.disable) == before
