"""The sandboxes of Windows and macOS, with fakes that refuse what those systems refuse."""

from __future__ import annotations

import ctypes
import errno
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from pleb_agent.worker.job import Bounds
from pleb_agent.worker.sandbox.macos import close_profile, mac_layers, profile
from pleb_agent.worker.sandbox.windows import (
    LAYERS,
    Windows,
    end_with,
    forbid_children,
    limit_job,
    lower_integrity,
    remove_privileges,
    windows,
    windows_layers,
)

BOUNDS = Bounds(memory_bytes=100 * 2**20, file_bytes=2**20, threads=2)
COMMITTED = 300 * 2**20
PRIVILEGES = [(19, 0), (23, 3), (33, 0)]
"""SeShutdown, SeChangeNotify, SeIncreaseWorkingSet, with their attributes."""
SELF, PARENT_PID = 2**64 - 1, 4711


def target(pointer: Any) -> Any:
    return pointer._obj  # what ctypes.byref was given


class Function:
    """One function of a library; ctypes lets its answer's type be set."""

    def __init__(self, library: FakeLibrary, name: str) -> None:
        self.library, self.name = library, name
        self.restype: object = ctypes.c_int

    def __call__(self, *arguments: Any) -> int | None:
        plain = [one.value if isinstance(one, ctypes.c_size_t) else one for one in arguments]
        machine = self.library.machine
        machine.called.append(self.name)
        if self.name in machine.refused:
            return 0
        answer: int | None = getattr(self.library, f"do_{self.name}")(*plain)
        if self.name in {"CreateJobObjectW", "GetCurrentProcess", "OpenProcess"}:
            assert self.restype is ctypes.c_void_p, "a handle was cut to 32 bits"
        return answer


class Machine:
    """What the process has done to itself."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.refused: set[str] = set()
        self.error = 5
        self.next_handle = 2**40
        self.jobs: dict[int, dict[str, Any]] = {}
        self.assigned: list[int] = []
        self.moved: list[tuple[int, int, int]] = []
        self.closed: list[int] = []
        self.policies: dict[int, int] = {}
        self.privileges: list[tuple[int, int]] = []
        self.label: tuple[str, int] | None = None
        self.labelled: list[tuple[str, int, int, str]] = []
        self.texts: dict[int, str] = {}

    def handle(self) -> int:
        self.next_handle += 4
        return self.next_handle

    def api(self) -> Windows:
        return Windows(FakeKernel32(self), FakeAdvapi32(self), lambda: self.error)


class FakeLibrary:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def __getattr__(self, name: str) -> Function:
        if name.startswith("do_") or f"do_{name}" not in dir(type(self)):
            raise AttributeError(name)
        function = Function(self, name)
        setattr(self, name, function)
        return function


class FakeKernel32(FakeLibrary):
    def do_GetCurrentProcess(self) -> int:
        return SELF

    def do_CreateJobObjectW(self, security: None, name: None) -> int:
        handle = self.machine.handle()
        self.machine.jobs[handle] = {}
        return handle

    def do_SetInformationJobObject(self, job: int, kind: int, value: Any, size: int) -> int:
        assert size == {9: 144, 4: 4}[kind] == ctypes.sizeof(target(value))
        self.machine.jobs[job][{9: "limits", 4: "ui"}[kind]] = target(value)
        return 1

    def do_AssignProcessToJobObject(self, job: int, process: int) -> int:
        assert process == SELF
        self.machine.assigned.append(job)
        return 1

    def do_OpenProcess(self, access: int, inherit: int, pid: int) -> int | None:
        if (access, inherit, pid) == (0x40, 0, PARENT_PID):
            return 2**41
        self.machine.error = 87
        return None

    def do_DuplicateHandle(self, *arguments: Any) -> int:
        source, handle, other, moved, access, inherit, options = arguments
        assert (source, access, inherit) == (SELF, 0, 0)
        target(moved).value = handle + 1
        self.machine.moved.append((handle, other, options))
        return 1

    def do_CloseHandle(self, handle: Any) -> int:
        self.machine.closed.append(getattr(handle, "value", handle))
        return 1

    def do_K32GetProcessMemoryInfo(self, process: int, memory: Any, size: int) -> int:
        assert process == SELF
        assert target(memory).size == size == 80
        target(memory).private = COMMITTED
        return 1

    def do_SetProcessMitigationPolicy(self, policy: int, value: Any, size: int) -> int:
        assert size == 4
        self.machine.policies[policy] = target(value).value
        return 1

    def do_LocalFree(self, pointer: Any) -> int:
        self.machine.texts.pop(pointer.value)
        return 0  # it was freed


class FakeAdvapi32(FakeLibrary):
    def do_OpenProcessToken(self, process: int, access: int, token: Any) -> int:
        assert (process, access) == (SELF, 0xA8)
        target(token).value = self.machine.handle()
        return 1

    def do_GetTokenInformation(self, *arguments: Any) -> int:
        _, kind, buffer, size, needed = arguments
        assert kind == 3
        target(needed).value = 4 + 12 * len(PRIVILEGES)
        if size < target(needed).value:
            return 0
        words = [len(PRIVILEGES)]
        for low, attributes in PRIVILEGES:
            words += [low, 0, attributes]
        ctypes.memmove(buffer, struct.pack(f"{len(words)}I", *words), 4 * len(words))
        return 1

    def do_AdjustTokenPrivileges(self, *arguments: Any) -> int:
        _, disable_all, buffer, size, before, needed = arguments
        assert (disable_all, size, before, needed) == (0, 0, None, None)
        words = list((ctypes.c_uint32 * (1 + 3 * len(PRIVILEGES))).from_buffer(buffer))
        self.machine.privileges = list(zip(words[1::3], words[3::3], strict=True))
        return 1

    def do_ConvertStringSidToSidW(self, text: Any, sid: Any) -> int:
        target(sid).value = pointer = self.machine.handle()
        self.machine.texts[pointer] = text.value
        return 1

    def do_GetLengthSid(self, sid: Any) -> int:
        assert sid.value in self.machine.texts
        return 12

    def do_SetTokenInformation(self, token: Any, kind: int, label: Any, size: int) -> int:
        assert (kind, size) == (25, 16 + 12)
        told = target(label)
        self.machine.label = self.machine.texts[told.sid], told.attributes
        return 1

    def do_ConvertStringSecurityDescriptorToSecurityDescriptorW(self, *arguments: Any) -> int:
        text, revision, descriptor, size = arguments
        assert (revision, size) == (1, None)
        target(descriptor).value = pointer = self.machine.handle()
        self.machine.texts[pointer] = text.value
        return 1

    def do_GetSecurityDescriptorSacl(self, *arguments: Any) -> int:
        descriptor, present, rules, _ = arguments
        target(present).value = 1
        target(rules).value = descriptor.value
        return 1

    def do_SetNamedSecurityInfoW(self, *arguments: Any) -> int:
        path, kind, what, owner, group, access, rules = arguments
        assert (owner, group, access) == (None, None, None)
        self.machine.labelled.append((path.value, kind, what, self.machine.texts[rules.value]))
        return 5 if "SetNamedSecurityInfoW itself" in self.machine.refused else 0


def test_windows_ends_the_worker_with_the_agent_by_a_job_whose_one_handle_the_agent_has() -> None:
    machine = Machine()
    end_with(machine.api(), PARENT_PID)
    [job] = machine.assigned
    assert machine.jobs[job]["limits"].basic.flags == 0x2000
    assert machine.moved == [(job, 2**41, 0x1 | 0x2)]
    assert machine.closed == [2**41]


def test_a_worker_whose_agent_has_gone_learns_it_before_it_ties_itself() -> None:
    machine = Machine()
    with pytest.raises(ProcessLookupError):
        end_with(machine.api(), PARENT_PID + 1)
    assert machine.assigned == []


def test_a_job_bounds_memory_from_what_the_warm_runtime_has_and_forbids_a_second_process() -> None:
    machine = Machine()
    limit_job(machine.api(), BOUNDS.memory_bytes)
    [job] = machine.assigned
    limits = machine.jobs[job]["limits"]
    assert limits.basic.flags == 0x8 | 0x100 | 0x400
    assert limits.basic.active_processes == 1
    assert limits.process_memory == COMMITTED + BOUNDS.memory_bytes
    assert machine.jobs[job]["ui"].value == 0xFF


def test_mitigations_forbid_children_and_libraries_of_others() -> None:
    machine = Machine()
    forbid_children(machine.api())
    assert machine.policies == {13: 1, 10: 3, 6: 1}


def test_every_privilege_is_removed_but_the_one_that_paths_need() -> None:
    machine = Machine()
    remove_privileges(machine.api())
    assert machine.privileges == [(19, 4), (23, 3), (33, 4)]
    assert len(machine.closed) == 1


def test_the_outputs_get_the_low_label_before_the_process_gets_it() -> None:
    machine = Machine()
    lower_integrity(machine.api(), Path("home", "out"))
    label = "S:(ML;OICI;NW;;;LW)"
    assert machine.labelled == [(str(Path("home", "out")), 1, 0x10, label)]
    assert machine.label == ("S-1-16-4096", 0x20)
    assert machine.called.index("SetNamedSecurityInfoW") < machine.called.index(
        "SetTokenInformation"
    )
    assert machine.texts == {}, "what Windows allocated was not freed"


@pytest.mark.parametrize(
    ("layer", "refused"),
    [
        ("job", "AssignProcessToJobObject"),
        ("job", "SetInformationJobObject"),
        ("children", "SetProcessMitigationPolicy"),
        ("privileges", "AdjustTokenPrivileges"),
        ("integrity", "SetTokenInformation"),
        ("integrity", "SetNamedSecurityInfoW itself"),
    ],
)
def test_a_layer_that_windows_refuses_costs_that_layer_only(layer: str, refused: str) -> None:
    machine = Machine()
    machine.refused.add(refused)
    layers = windows_layers(machine.api(), Path("out"), BOUNDS)
    states = {state.layer: state for state in (one.close() for one in layers)}
    assert tuple(states) == LAYERS
    assert [name for name, state in states.items() if not state.holds] == [layer]
    assert "Windows' error 5" in states[layer].sentence
    assert machine.texts == {}


def test_another_system_has_no_windows() -> None:
    with pytest.raises(OSError, match="only Windows"):
        windows()


class FakeSeatbelt:
    def __init__(self, words: bytes = b"") -> None:
        self.words = words
        self.profiles: list[tuple[bytes, int]] = []

    def sandbox_init(self, profile: bytes, flags: int, error: Any) -> int:
        self.profiles.append((profile, flags))
        target(error).value = self.words or None
        return -1 if self.words else 0


def expressions(text: str) -> list[str]:
    """Split a profile into its outermost expressions; raises ValueError if one does not end."""
    found, depth, start, is_text = [], 0, 0, False
    for place, character in enumerate(text):
        if character == '"' and text[place - 1] != "\\":
            is_text = not is_text
        if is_text:
            continue
        if character == "(":
            start = place if depth == 0 else start
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                found.append(text[start : place + 1])
    if depth or is_text:
        raise ValueError(text)
    return found


def test_a_profile_denies_all_but_reading_python_and_writing_the_outputs(tmp_path: Path) -> None:
    odd = tmp_path / 'a "quoted" (folder) \\ it'
    outputs = odd / "out"
    outputs.mkdir(parents=True)
    rules = expressions(profile([odd, Path("/opt/python")], outputs, card=False))
    assert rules[:2] == ["(version 1)", "(deny default)"]
    quoted = str(odd).replace("\\", "\\\\").replace('"', '\\"')
    reading = next(rule for rule in rules if rule.startswith("(allow file-read* (subpath"))
    assert f'(subpath "{quoted}")' in reading
    assert '(subpath "/opt/python")' in reading
    writing = [rule for rule in rules if "file-write" in rule]
    assert writing == [
        f'(allow file-write-data (subpath "{quoted}/out"))',
        '(allow file-read* file-write-data (literal "/dev/null"))',
    ]
    allowed = {word for rule in rules[2:] for word in re.findall(r"\(allow ([a-z-]+)", rule)}
    assert not [word for word in allowed if word.startswith(("network", "process-exec", "mach"))]
    names = next(rule for rule in rules if rule.startswith("(allow file-read-metadata"))
    assert '(literal "/opt")' in names
    assert "subpath" not in names


def test_a_card_of_apple_keeps_its_driver_and_compiler() -> None:
    rules = expressions(profile([Path("/opt/python")], Path("/project/out"), card=True))
    assert "(allow iokit-open)" in rules
    assert '(allow mach-lookup (xpc-service-name "com.apple.MTLCompilerService"))' in rules


def test_a_refused_profile_says_why() -> None:
    seatbelt = FakeSeatbelt(b"unbound variable: ipc-posix-shm*")
    with pytest.raises(OSError, match=r"unbound variable: ipc-posix-shm\*"):
        close_profile(seatbelt, "(version 1)")
    assert seatbelt.profiles == [(b"(version 1)", 0)]
    close_profile(FakeSeatbelt(), "(version 1)")


def test_the_layers_of_macos_are_those_that_are_named(tmp_path: Path) -> None:
    layers = mac_layers(tmp_path, tmp_path / "out", BOUNDS, card=False)
    assert [layer.name for layer in layers] == ["dumps", "sizes", "profile"]


def test_errors_of_windows_keep_their_number() -> None:
    machine = Machine()
    machine.error, machine.refused = errno.EBADF, {"CreateJobObjectW"}
    with pytest.raises(OSError, match="CreateJobObjectW") as caught:
        limit_job(machine.api(), 1)
    assert caught.value.errno == errno.EBADF


def test_a_windows_without_a_function_says_so() -> None:
    with pytest.raises(OSError, match="no GetTime"):
        Machine().api().ask("GetTime")
