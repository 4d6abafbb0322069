"""What goes into a build, and archives whose bytes repeat."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from installers.build import build_agent, build_runtime
from installers.build.archive import Packed, pack
from installers.build.repository import Publisher, PublishingError
from installers.build.requirements import requirements
from pleb_agent.program.frozen import MODULES
from pleb_agent.updates.unpack import unpack


def test_all_that_may_be_run_by_name_is_in_the_build():
    own = set(build_agent.own_modules())
    assert "pleb_agent.cli.__main__" in own
    assert set(MODULES) <= own


def test_torch_finds_the_standard_library():
    modules = set(build_agent.standard_library())
    assert {"unittest.mock", "multiprocessing.reduction", "cProfile", "timeit"} <= modules
    assert not {name for name in modules if name.split(".")[0] in {"test", "tkinter", "idlelib"}}


def test_no_agent_module_outside_of_the_worker_needs_what_comes_later():
    """agentd's own imports: what the frozen build leaves out must not be among them."""
    code = (
        "import sys, pleb_agent.cli.start, pleb_agent.cli.commands, pleb_agent.updates.releases;"
        "import pleb_agent.app.agentd;"
        f"print([m for m in {build_agent.RUNTIMES!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_runtime_brings_all_that_torch_needs_here():
    needed = build_runtime.needed_distributions()
    assert {"torch", "numpy", "safetensors", "sympy", "typing-extensions", "filelock"} <= needed
    assert "setuptools" not in needed


def test_a_build_machine_installs_no_torch():
    wanted = requirements()
    assert any(line.startswith("httpx") for line in wanted)
    assert not any(line.startswith("torch") for line in wanted)


def packed_copy(tmp_path, copy, suffix):
    """Pack the same files with other times and modes."""
    folder = tmp_path / copy
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "program").write_text("run")
    (folder / "sub" / "program").chmod(0o700 if copy == "a" else 0o755)
    (folder / "text").write_text("read")
    (folder / "link").symlink_to("sub/program")
    os.utime(folder / "text", (1, 1) if copy == "a" else (2, 2))
    return pack(folder, tmp_path / f"{copy}{suffix}", level=1)


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.xz"])
def test_an_archive_depends_on_its_files_alone_and_unpacks_to_them(tmp_path, suffix):
    packed = [packed_copy(tmp_path, copy, suffix) for copy in ("a", "b")]
    first, archive = (tmp_path / f"{copy}{suffix}" for copy in ("a", "b"))
    assert first.read_bytes() == archive.read_bytes()
    assert packed == [Packed(unpacked_bytes=7, files=4)] * 2
    out = tmp_path / "out"
    unpack(archive, out, most_bytes=7, most_files=4, stop=threading.Event())
    assert (out / "link").read_text() == "run"
    assert (out / "sub" / "program").stat().st_mode & 0o777 == 0o755


# -- publishing ---------------------------------------------------------------------------------


def test_one_root_key_of_three_is_not_enough(tmp_path, publisher):
    publisher.init()
    for name in ("root-1", "root-3"):
        (tmp_path / "keys" / f"{name}.pem").unlink()
    with pytest.raises(PublishingError, match="2 root keys must sign and 1"):
        publisher.rotate("timestamp")


def test_publishing_needs_no_root_key(tmp_path, publisher):
    publisher.init()
    for name in ("root-1", "root-2", "root-3"):
        (tmp_path / "keys" / f"{name}.pem").unlink()
    publisher.renew()


def test_renewing_needs_no_targets_key(tmp_path, publisher):
    publisher.init()
    (tmp_path / "keys" / "targets.pem").unlink()
    publisher.renew()
    with pytest.raises(PublishingError, match=r"targets\.pem is not in"):
        publisher.add([])


def test_private_keys_are_the_owners_alone(tmp_path, publisher):
    publisher.init()
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()} == {0o600}


def test_a_repository_is_never_made_anew(publisher):
    publisher.init()
    with pytest.raises(PublishingError, match="already"):
        publisher.init()


def test_what_is_removed_is_offered_no_more(publisher):
    publisher.init()
    with pytest.raises(PublishingError, match="not offered"):
        publisher.remove("runtime/none.tar.gz")


def test_an_archive_without_facts_is_refused(tmp_path, publisher):
    publisher.init()
    (tmp_path / "a.tar.gz").write_bytes(b"")
    with pytest.raises(PublishingError, match=r"json is missing"):
        publisher.add([tmp_path / "a.tar.gz"])


@pytest.fixture
def publisher(tmp_path):
    from datetime import UTC, datetime

    return Publisher(tmp_path / "repository", tmp_path / "keys", datetime.now(UTC))


def test_a_build_for_cards_leaves_out_what_no_worker_loads() -> None:
    left_out = (
        "triton/backends/nvidia/bin/ptxas",
        "triton-3.8.0.dist-info/METADATA",
        "nvidia/cu13/lib/libnvrtc.alt.so.13",
        "nvidia/cu13/lib/libnvrtc-builtins.alt.so.13.0",
        "nvidia/cu13/lib/libnvperf_host.so",
        "nvidia/nvshmem/lib/nvshmem_transport_ucx.so.3",
        "nvidia/cu13/include/cublas.h",
    )
    kept = (
        "nvidia/cu13/lib/libcublasLt.so.13",
        "nvidia/cu13/lib/libnvrtc.so.13",
        "nvidia/cu13/lib/libnvrtc-builtins.so.13.0",
        "nvidia/cu13/lib/libcupti.so.13",
        "nvidia/nvshmem/lib/libnvshmem_host.so.3",
        "nvidia/cudnn/lib/libcudnn_engines_precompiled.so.9",
        "torch/lib/libtorch_cuda.so",
        "tritonlike/__init__.py",
    )
    assert all(build_runtime.NO_PACKAGES.search(name) for name in left_out)
    assert not any(build_runtime.NO_PACKAGES.search(name) for name in kept)
