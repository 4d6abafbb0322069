"""The layers of a sandbox on macOS: limits, and a profile that the kernel's Seatbelt enforces.

`sandbox_init` has been called deprecated since macOS 10.8, and browsers keep their processes in it
to this day; App Sandbox, which would replace it, is for signed bundles alone.
Sources: sandbox(7), sandbox_init(3); the operations' names are those of the profiles in
/System/Library/Sandbox/Profiles.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final, Protocol

from pleb_agent.worker.sandbox.layer import Layer, dumps, sizes
from pleb_agent.worker.sandbox.readable import python_folders

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pleb_agent.worker.job import Bounds

__all__ = ["LAYERS", "Seatbelt", "close_profile", "mac_layers", "profile"]

LAYERS: Final = ("dumps", "sizes", "profile")

_SYSTEM: Final = (
    "/usr/lib", "/usr/share/zoneinfo", "/private/var/db/timezone", "/System/Library",
    "/System/Volumes/Preboot/Cryptexes", "/dev/urandom", "/dev/random",
)  # fmt: skip
_OPENMP_MEMORY: Final = "^/__KMP_REGISTERED_LIB_"
"""By which LLVM's OpenMP notices that it is loaded twice: it ends a process that may not do so."""
_METAL: Final = """\
(allow iokit-open)
(allow mach-lookup (xpc-service-name "com.apple.MTLCompilerService"))
"""


class Seatbelt(Protocol):
    """The part of libSystem that is used."""

    def sandbox_init(self, profile: bytes, flags: int, error: object) -> int:
        """Return 0, or -1 and set the text that `error` points to."""


def mac_layers(folder: Path, outputs: Path, bounds: Bounds, *, card: bool) -> list[Layer]:
    """Return the layers in the order in which they close; `card`: Metal must stay usable.

    - `dumps`: core files.
    - `sizes`: longer files than the limit, many open ones.
    - `profile`: reading but the system's libraries, Python, its packages and the folder; writing
      but the files that are in `outputs`; network, programs, processes, other processes' signals.

    Memory and threads are left to the agent's look, since macOS bounds neither for one process.
    """
    text = profile([*python_folders(), folder], outputs, card=card)
    return [
        dumps(),
        sizes(bounds),
        Layer(
            "profile",
            lambda: close_profile(_seatbelt(), text),
            (
                "only the project's outputs can be written, only its folder and Python can be "
                "read, and there is no network"
            ),
            "a worker could read and change your files and reach the network",
        ),
    ]


def profile(readable: Iterable[Path], outputs: Path, *, card: bool) -> str:
    """Return the rules in Seatbelt's language; what no rule allows is denied.

    Names and sizes are told of the folders above, without which no path can be followed.
    """
    folders = sorted({path.resolve() for path in readable})
    above = sorted({parent for path in folders for parent in path.parents})
    reading = [f"(subpath {_quoted(str(path))})" for path in [*folders, *_SYSTEM]]
    naming = [f"(literal {_quoted(str(path))})" for path in above]
    return f"""\
(version 1)
(deny default)
(allow file-read* {" ".join(reading)})
(allow file-read-metadata {" ".join(naming)})
(allow file-write-data (subpath {_quoted(str(outputs.resolve()))}))
(allow file-read* file-write-data (literal "/dev/null"))
(allow ipc-posix-shm* (ipc-posix-name-regex #"{_OPENMP_MEMORY}"))
(allow process-info* (target self))
(allow signal (target self))
(allow sysctl-read)
{_METAL if card else ""}"""


def _seatbelt() -> Seatbelt:
    library = ctypes.CDLL(None)
    if not hasattr(library, "sandbox_init"):
        raise OSError("this system has no sandbox_init")
    return library


def close_profile(seatbelt: Seatbelt, text: str) -> None:
    """Put this process under the profile for good, all of its threads.

    Raises:
        OSError: macOS refuses, with its words.
    """
    words = ctypes.c_char_p()
    if seatbelt.sandbox_init(text.encode(), 0, ctypes.byref(words)) != 0:
        reason = (words.value or b"no reason given").decode(errors="replace")
        message = f"macOS refuses the profile: {reason}"
        raise OSError(message)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
