"""The layers of a sandbox on Windows: a job object, mitigations, privileges, low integrity.

All are closed by the process itself when torch is loaded, as browsers do with their own. What only
the process that starts another one can close, restricting SIDs and AppContainers, is not used:
so reading and the network are not denied.
Sources: learn.microsoft.com, jobapi2.h, processthreadsapi.h `SetProcessMitigationPolicy`,
securitybaseapi.h `SetTokenInformation`, "Mandatory Integrity Control".
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.worker.sandbox.layer import Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pleb_agent.worker.job import Bounds

__all__ = [
    "LAYERS",
    "Windows",
    "end_with",
    "forbid_children",
    "limit_job",
    "lower_integrity",
    "remove_privileges",
    "windows",
    "windows_layers",
]

LAYERS: Final = ("job", "children", "privileges", "integrity")
"""Integrity last: a process of the low level cannot change labels or make jobs."""

_LIMIT_INFORMATION: Final = 9
_UI_INFORMATION: Final = 4
_ACTIVE_PROCESS: Final = 0x8
_PROCESS_MEMORY: Final = 0x100
_DIE_ON_UNHANDLED_EXCEPTION: Final = 0x400
_KILL_ON_JOB_CLOSE: Final = 0x2000
_ALL_OF_UI: Final = 0xFF
"""Clipboard, desktops, global atoms, other processes' windows, settings, the end of the session."""

_DUPLICATE_HANDLE: Final = 0x40
_CLOSE_SOURCE_SAME_ACCESS: Final = 0x1 | 0x2
_INVALID_PARAMETER: Final = 87
"""What OpenProcess says of a process that has ended."""

_EXTENSION_POINTS: Final = 6
_IMAGE_LOADS: Final = 10
_CHILD_PROCESSES: Final = 13
_MITIGATIONS: Final = {
    _CHILD_PROCESSES: 0x1,  # none
    _IMAGE_LOADS: 0x1 | 0x2,  # no libraries from other machines, or written at a low level
    _EXTENSION_POINTS: 0x1,  # no libraries of input methods, hooks and the like
}

_TOKEN_USE: Final = 0x8 | 0x20 | 0x80
"""Query it, change its privileges, change its label."""
_TOKEN_PRIVILEGES: Final = 3
_TOKEN_INTEGRITY: Final = 25
_REMOVED: Final = 0x4
_CHANGE_NOTIFY: Final = 23
"""The privilege to pass folders without asking each, which everybody has and paths need."""
_IS_INTEGRITY: Final = 0x20
_LOW: Final = "S-1-16-4096"
_LABEL_OF_OUTPUTS: Final = "S:(ML;OICI;NW;;;LW)"
"""A folder that processes of the low level may write to, and all that will be in it."""
_REVISION: Final = 1
_FILE_OBJECT: Final = 1
_LABEL: Final = 0x10


class _BasicLimits(ctypes.Structure):
    _fields_ = (
        ("process_time", ctypes.c_int64),
        ("job_time", ctypes.c_int64),
        ("flags", ctypes.c_uint32),
        ("least_working_set", ctypes.c_size_t),
        ("most_working_set", ctypes.c_size_t),
        ("active_processes", ctypes.c_uint32),
        ("affinity", ctypes.c_size_t),
        ("priority", ctypes.c_uint32),
        ("scheduling", ctypes.c_uint32),
    )


class _Limits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

    _fields_ = (
        ("basic", _BasicLimits),
        ("io", ctypes.c_uint64 * 6),
        ("process_memory", ctypes.c_size_t),
        ("job_memory", ctypes.c_size_t),
        ("peak_process_memory", ctypes.c_size_t),
        ("peak_job_memory", ctypes.c_size_t),
    )


class _Memory(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS_EX."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("faults", ctypes.c_uint32),
        ("sizes", ctypes.c_size_t * 8),
        ("private", ctypes.c_size_t),
    )


class _Privilege(ctypes.Structure):
    """LUID_AND_ATTRIBUTES."""

    _fields_ = (("low", ctypes.c_uint32), ("high", ctypes.c_int32), ("attributes", ctypes.c_uint32))


class _Label(ctypes.Structure):
    """TOKEN_MANDATORY_LABEL."""

    _fields_ = (("sid", ctypes.c_void_p), ("attributes", ctypes.c_uint32))


class Windows:
    """Calls of kernel32 and advapi32 that raise what they refuse."""

    def __init__(self, kernel32: Any, advapi32: Any, last_error: Callable[[], int]) -> None:
        self._libraries = kernel32, advapi32
        self.last_error = last_error
        for library in self._libraries:  # handles are pointers, which ctypes takes for ints
            for name in ("CreateJobObjectW", "GetCurrentProcess", "OpenProcess"):
                if hasattr(library, name):
                    getattr(library, name).restype = ctypes.c_void_p

    def call(self, name: str, *arguments: object) -> int:
        """Call the function of either library; returns its answer, which is not 0.

        Raises:
            OSError: it answers 0; the number is Windows' own.
        """
        answer = self.ask(name, *arguments)
        if not answer:
            number = self.last_error()
            message = f"{name} fails with Windows' error {number}"
            raise OSError(number, message)
        return answer

    def ask(self, name: str, *arguments: object) -> int:
        """Call it, whatever it answers.

        Raises:
            OSError: this Windows does not have it.
        """
        for library in self._libraries:
            if hasattr(library, name):
                answer: int | None = getattr(library, name)(*map(_as_c, arguments))
                return answer or 0
        message = f"this Windows has no {name}"
        raise OSError(message)


def _as_c(argument: object) -> object:
    """Return a number as wide as a pointer, which all those of these calls may be."""
    return ctypes.c_size_t(argument) if isinstance(argument, int) else argument


def windows() -> Windows:
    """Return the libraries of the system that this runs on.

    Raises:
        OSError: it is another one.
    """
    if sys.platform == "win32":
        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
        return Windows(kernel32, advapi32, ctypes.get_last_error)
    raise OSError("only Windows has its libraries")


def windows_layers(api: Windows, outputs: Path, bounds: Bounds) -> list[Layer]:
    """Return the layers in the order in which they close.

    - `job`: more memory than the limit, a second process, the clipboard and other windows.
    - `children`: starting programs, and libraries that others put in its way.
    - `privileges`: what the user's token allows beyond an ordinary user's files.
    - `integrity`: writing to files, keys and processes of the user, all but to `outputs`.
    """
    return [
        Layer(
            "job",
            lambda: limit_job(api, bounds.memory_bytes),
            f"no more than {bounds.memory_bytes >> 20} MiB beyond the runtime can be allocated",
            "the agent ends a worker that takes too much memory, up to two seconds later",
        ),
        Layer(
            "children",
            lambda: forbid_children(api),
            "no program can be started",
            "a worker could start programs",
        ),
        Layer(
            "privileges",
            lambda: remove_privileges(api),
            "no privilege of yours can be used",
            "a worker could use what your account may do beyond others'",
        ),
        Layer(
            "integrity",
            lambda: lower_integrity(api, outputs),
            "only the project's outputs can be written (files can be read, the network reached)",
            "a worker could change your files",
        ),
    ]


def end_with(api: Windows, parent: int) -> None:
    """Let Windows end this process when the process `parent` ends.

    A job that ends with its last handle is made here, and the handle is moved into the parent.

    Raises:
        OSError: Windows refuses.
        ProcessLookupError: the parent has ended already.
    """
    ours = api.call("GetCurrentProcess")
    job = api.call("CreateJobObjectW", None, None)
    _set_limits(api, job, _Limits(basic=_BasicLimits(flags=_KILL_ON_JOB_CLOSE)))
    try:
        theirs = api.call("OpenProcess", _DUPLICATE_HANDLE, 0, parent)
    except OSError as error:
        if error.errno == _INVALID_PARAMETER:
            raise ProcessLookupError("the process that started this one has ended") from error
        raise
    api.call("AssignProcessToJobObject", job, ours)
    moved = ctypes.c_void_p()
    how = _CLOSE_SOURCE_SAME_ACCESS
    api.call("DuplicateHandle", ours, job, theirs, ctypes.byref(moved), 0, 0, how)
    api.ask("CloseHandle", theirs)


def limit_job(api: Windows, more_bytes: int) -> None:
    """Put this process into a job that has one process, and so much more memory than it has now.

    Memory is what is committed: private pages, used or not. The job lasts as long as the process.

    Raises:
        OSError: Windows refuses.
    """
    ours = api.call("GetCurrentProcess")
    memory = _Memory(size=ctypes.sizeof(_Memory))
    api.call("K32GetProcessMemoryInfo", ours, ctypes.byref(memory), ctypes.sizeof(memory))
    flags = _ACTIVE_PROCESS | _PROCESS_MEMORY | _DIE_ON_UNHANDLED_EXCEPTION
    limits = _Limits(
        basic=_BasicLimits(flags=flags, active_processes=1),
        process_memory=memory.private + more_bytes,
    )
    job = api.call("CreateJobObjectW", None, None)
    _set_limits(api, job, limits)
    windows_of_others = ctypes.c_uint32(_ALL_OF_UI)
    api.call(
        "SetInformationJobObject",
        job,
        _UI_INFORMATION,
        ctypes.byref(windows_of_others),
        ctypes.sizeof(windows_of_others),
    )
    api.call("AssignProcessToJobObject", job, ours)


def forbid_children(api: Windows) -> None:
    """Forbid other programs, and libraries from places that others can write to.

    Raises:
        OSError: this Windows does not know one of the policies.
    """
    for policy, flags in _MITIGATIONS.items():
        value = ctypes.c_uint32(flags)
        size = ctypes.sizeof(value)
        api.call("SetProcessMitigationPolicy", policy, ctypes.byref(value), size)


def remove_privileges(api: Windows) -> None:
    """Take all privileges from this process's token for good, but that to pass folders.

    Raises:
        OSError: Windows refuses.
    """
    with _own_token(api) as token:
        size = ctypes.c_uint32()
        api.ask("GetTokenInformation", token, _TOKEN_PRIVILEGES, None, 0, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(max(size.value, ctypes.sizeof(ctypes.c_uint32)))
        api.call(
            "GetTokenInformation",
            token,
            _TOKEN_PRIVILEGES,
            buffer,
            len(buffer),
            ctypes.byref(size),
        )
        count = ctypes.c_uint32.from_buffer(buffer).value
        listed = (_Privilege * count).from_buffer(buffer, ctypes.sizeof(ctypes.c_uint32))
        for privilege in listed:
            if (privilege.low, privilege.high) != (_CHANGE_NOTIFY, 0):
                privilege.attributes = _REMOVED
        api.call("AdjustTokenPrivileges", token, 0, buffer, 0, None, None)


def lower_integrity(api: Windows, outputs: Path) -> None:
    """Let this process write to nothing but `outputs`, which gets the low label, too.

    Raises:
        OSError: Windows refuses.
    """
    _label(api, outputs)
    with _own_token(api) as token:
        sid = ctypes.c_void_p()
        api.call("ConvertStringSidToSidW", ctypes.c_wchar_p(_LOW), ctypes.byref(sid))
        label = _Label(sid=sid, attributes=_IS_INTEGRITY)
        size = ctypes.sizeof(label) + api.call("GetLengthSid", sid)
        try:
            api.call("SetTokenInformation", token, _TOKEN_INTEGRITY, ctypes.byref(label), size)
        finally:
            api.ask("LocalFree", sid)


def _label(api: Windows, folder: Path) -> None:
    descriptor = ctypes.c_void_p()
    text = ctypes.c_wchar_p(_LABEL_OF_OUTPUTS)
    api.call(
        "ConvertStringSecurityDescriptorToSecurityDescriptorW",
        text,
        _REVISION,
        ctypes.byref(descriptor),
        None,
    )
    present, defaulted, rules = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
    try:
        api.call(
            "GetSecurityDescriptorSacl",
            descriptor,
            ctypes.byref(present),
            ctypes.byref(rules),
            ctypes.byref(defaulted),
        )
        number = api.ask(
            "SetNamedSecurityInfoW",
            ctypes.c_wchar_p(str(folder)),
            _FILE_OBJECT,
            _LABEL,
            None,
            None,
            None,
            rules,
        )
    finally:
        api.ask("LocalFree", descriptor)
    if number:
        message = f"the outputs' folder gets no label: Windows' error {number}"
        raise OSError(number, message)


def _set_limits(api: Windows, job: int, limits: _Limits) -> None:
    size = ctypes.sizeof(limits)
    api.call("SetInformationJobObject", job, _LIMIT_INFORMATION, ctypes.byref(limits), size)


@contextmanager
def _own_token(api: Windows) -> Iterator[ctypes.c_void_p]:
    token = ctypes.c_void_p()
    ours = api.call("GetCurrentProcess")
    api.call("OpenProcessToken", ours, _TOKEN_USE, ctypes.byref(token))
    try:
        yield token
    finally:
        api.ask("CloseHandle", token)
