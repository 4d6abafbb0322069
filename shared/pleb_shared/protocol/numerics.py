"""What `numerics = "strict"` means to a process, before it loads torch.

torch, oneDNN and MKL choose instructions by the processor and split work by the number of threads;
each choice adds numbers up in another order. The variables below take the choices away. They count
only if they are set before torch is loaded; `training.numerics` does what is left after that.

MKL has no setting that is fast and the same on Intel and AMD: `COMPATIBLE` is the only one that
both have. So products of matrices, where most time goes, are given to oneDNN, whose generated code
depends on the instruction set alone.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_shared.protocol.project import Numerics

__all__ = ["STRICT_CAPABILITY", "STRICT_THREADS", "lacking", "variables"]

STRICT_THREADS: Final = 1
STRICT_CAPABILITY: Final = "AVX2-strict"
"""What a runtime says instead of the processor's own instructions."""
_CAPABILITIES: Final = ("AVX2", "AVX512")
"""What torch calls processors with AVX2 and FMA, as the names begin."""
_SYSTEMS: Final = frozenset({"linux-x86_64", "windows-amd64"})
"""torch for macOS computes with Accelerate and without MKL."""
_STRICT: Final = MappingProxyType(
    {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "COMPATIBLE",
        "MKL_DYNAMIC": "FALSE",
        "OMP_DYNAMIC": "FALSE",
        "OMP_NUM_THREADS": str(STRICT_THREADS),
        "MKL_NUM_THREADS": str(STRICT_THREADS),
    }
)


def variables(numerics: Numerics) -> Mapping[str, str]:
    """Return the environment variables that a process needs before it loads torch."""
    return _STRICT if numerics == "strict" else MappingProxyType({})


def lacking(numerics: Numerics, system: str, capability: str) -> str:
    """Return why a PC cannot compute so, as a sentence, or the empty string.

    Args:
        numerics: how it is to compute.
        system: as a `Runtime` has it, such as linux-x86_64.
        capability: what torch uses of the processor by itself, such as AVX512.
    """
    if numerics == "native":
        return ""
    needed = "The project runs in strict numerics, which need"
    if system not in _SYSTEMS:
        return f"{needed} Linux or Windows on an x86-64 processor; this PC is {system}."
    if not capability.startswith(_CAPABILITIES):
        return f"{needed} a processor with AVX2; torch finds only {capability} on this PC."
    return ""
