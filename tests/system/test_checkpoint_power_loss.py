"""What the kernel is told when checkpoints are written, replayed on a disk that loses power.

strace writes down every system call of a process that saves checkpoints, so that nothing between
our code and the kernel (buffers, libraries) is taken on trust.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.worker.checkpoints import steps_left
from tests.unit.worker.power_loss import (
    Append,
    Create,
    Done,
    Operation,
    Rename,
    SyncDirectory,
    SyncFile,
    crashes,
)

pytestmark = pytest.mark.system

SAVES = 3
SAVE = """
import os, sys
from pathlib import Path
from pleb_agent.worker.checkpoint import CheckpointFiles
from tests.unit.worker.checkpoints import checkpoint, new_files

new_files(Path(sys.argv[1]))
files = CheckpointFiles(Path(sys.argv[1]))
for number in range(1, int(sys.argv[2]) + 1):
    files.save(checkpoint(number))
    os.write(1, b"%d" % number)
"""
CALLS = (
    "open,openat,creat,write,pwrite64,writev,pwritev,fsync,fdatasync,rename,renameat,renameat2,"
    "ftruncate,truncate,unlink,unlinkat,link,linkat,sendfile,copy_file_range"
)
CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (\d+)")
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"|(\d+)<((?:\\x[0-9a-f]{2})*)>')


def plain(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal.replace("\\x", ""))


def operations_of(log: str, directory: Path) -> list[Operation]:
    """Return what the calls in strace's log did in `directory`; fails at one not known here."""
    operations: list[Operation] = []
    for line in log.splitlines():
        call = CALL.match(line)
        if call is None:
            continue
        name, arguments, answer = call.groups()
        texts = [plain(text or target) for text, _, target in TEXT.findall(arguments)]
        if name == "write" and arguments.startswith("1<"):
            operations.append(Done(int(texts[1])))
        elif any(text.startswith(str(directory).encode()) for text in texts):
            operations += operation_of(name, texts, arguments, int(answer), directory)
    return operations


def operation_of(
    name: str, texts: list[bytes], arguments: str, answer: int, directory: Path
) -> list[Operation]:
    paths = [Path(text.decode()) for text in texts if text.startswith(b"/")]
    match name:
        case "openat" if "O_WRONLY|O_CREAT|O_EXCL" in arguments:
            return [Create(paths[-1].name)]
        case "openat" if "O_RDONLY" in arguments or "O_RDWR|O_CLOEXEC" in arguments:
            return []
        case "ftruncate":
            return [Create(paths[0].name)]
        case "write":
            assert answer == len(texts[1])
            return [Append(paths[0].name, texts[1])]
        case "fsync":
            return [SyncDirectory() if paths[0] == directory else SyncFile(paths[0].name)]
        case "rename":
            return [Rename(paths[0].name, paths[1].name)]
        case _:
            raise AssertionError(f"{name}({arguments}) is not known to the model")


def test_power_lost_between_any_two_system_calls(tmp_path: Path) -> None:
    before, after, log = tmp_path / "before", tmp_path / "after", tmp_path / "log"
    before.mkdir()
    after.mkdir()
    strace = ["strace", "-f", "-y", "-xx", "-s", "1000000", "-e", f"trace={CALLS}", "-o", str(log)]
    subprocess.run(
        [*strace, sys.executable, "-c", SAVE, str(before), str(SAVES)],
        check=True,
        stdout=subprocess.PIPE,
        timeout=120,
    )
    operations = operations_of(log.read_text("ascii"), before)
    assert sum(isinstance(operation, SyncFile) for operation in operations) == SAVES
    found = {(done, steps_left(after, files)) for done, files in crashes(operations)}
    both = {(done, done + more) for done in range(SAVES) for more in (0, 1)}
    assert found == both | {(SAVES, SAVES)}
