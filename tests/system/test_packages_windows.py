"""The Windows set-up is built by makensis on Linux, up to the payload, which is a stand-in here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from installers.build.build_windows import build_setup

pytestmark = pytest.mark.system
SCRIPT = Path(__file__).parents[2] / "installers/windows/pleb-agent.nsi"


@pytest.fixture(scope="module")
def payload(tmp_path_factory):
    folder = tmp_path_factory.mktemp("payload")
    (folder / "_internal").mkdir()
    (folder / "pleb-agent.exe").write_bytes(b"MZ stand-in")
    (folder / "_internal" / "data").write_bytes(bytes(10**6))
    return folder


def test_makensis_builds_the_set_up_without_a_warning(payload, tmp_path):
    setup = build_setup(payload, "0.2.0", tmp_path)
    data = setup.read_bytes()
    assert setup.name == "pleb-agent-0.2.0-windows-setup.exe"
    assert data[:2] == b"MZ"
    header = int.from_bytes(data[0x3C:0x40], "little")
    assert data[header : header + 4] == b"PE\0\0"
    assert b"NullsoftInst" in data
    assert b'level="asInvoker"' in data or b"asInvoker" in data, "no administrator's rights"


def test_the_payload_is_in_it(payload, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(payload, other)
    (other / "_internal" / "data").write_bytes(os.urandom(10**6))  # does not compress
    small = build_setup(payload, "0.2.0", tmp_path / "small").stat().st_size
    assert build_setup(other, "0.2.0", tmp_path / "big").stat().st_size - small > 900_000


def test_a_missing_payload_fails(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        build_setup(tmp_path / "nothing", "0.2.0", tmp_path)


def test_the_uninstaller_removes_what_the_set_up_writes():
    """Every registry key and file that a section writes is deleted by an uninstaller's section."""
    text = SCRIPT.read_text("utf-8")
    lines = [line.strip() for line in text.splitlines()]
    removed = " ".join(line for line in lines if line.startswith(("DeleteReg", "RMDir", "Delete ")))
    written = {
        part.split('"')[1]
        for part in lines
        if part.startswith(("WriteRegStr", "WriteRegDWORD", "CreateShortcut"))
    }
    roots = {key.split("\\shell")[0].split("\\DefaultIcon")[0] for key in written}
    assert len(roots) == 4
    assert [key for key in roots if f'"{key}"' not in removed] == []
    assert 'RMDir /r "${APP}"' in removed
    taken, left = (
        {line.split('"')[1] for line in lines if line.startswith(f"!insertmacro {macro} ")}
        for macro in ("TAKE_LINKS", "LEAVE_LINKS")
    )
    assert taken == left == {"pleb", "pleb+http"}
