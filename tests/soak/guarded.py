"""Tensors between two pages that nothing may touch: reading or writing beside them is a crash.

A page ends where the tensor ends, or where it begins. What torch itself allocates is guarded by
`guarded_malloc.c`, where a C compiler is found to build it.
"""

from __future__ import annotations

import ctypes
import mmap
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

SOURCE: Final = Path(__file__).parent / "guarded_malloc.c"
_PAGE: Final = mmap.PAGESIZE


def guarded(array: NDArray[np.generic], dtype: torch.dtype, *, at_end: bool) -> torch.Tensor:
    """Return the bytes of `array`, of any shape, as a tensor of that shape beside a guard page.

    The memory is never given back, so that nothing else lies there later. On systems other than
    Linux the tensor is an ordinary one.
    """
    if array.nbytes == 0 or sys.platform != "linux":
        return torch.from_numpy(array.copy()).view(dtype).reshape(array.shape)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    inside = -(-array.nbytes // _PAGE) * _PAGE
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    start = libc.mmap(None, inside + 2 * _PAGE, 0, flags, -1, 0)
    if start is None or start == ctypes.c_void_p(-1).value:
        raise MemoryError("no room for a guarded tensor")
    if libc.mprotect(start + _PAGE, inside, mmap.PROT_READ | mmap.PROT_WRITE):
        raise MemoryError("too many guarded tensors")
    place = start + _PAGE + (inside - array.nbytes if at_end else 0)
    ctypes.memmove(place, np.ascontiguousarray(array).ctypes.data, array.nbytes)
    buffer = (ctypes.c_char * array.nbytes).from_address(place)
    return torch.frombuffer(buffer, dtype=dtype).reshape(array.shape)


def build_malloc(folder: Path) -> Path | None:
    """Build the library that guards what torch allocates; None where that is not possible."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    library = folder / "guarded_malloc.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library
