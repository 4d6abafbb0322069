"""Names of devices on the PCI bus, from the list that distributions carry (pci.ids)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["pci_name"]

_LISTS: Final = (
    Path("/usr/share/misc/pci.ids"),
    Path("/usr/share/hwdata/pci.ids"),
    Path("/usr/share/pci.ids"),
)


def pci_name(vendor: int, device: int, lists: tuple[Path, ...] = _LISTS) -> str | None:
    """Return the device's name, in brackets its trade name; None: no list knows it."""
    for path in lists:
        try:
            with path.open(encoding="utf-8", errors="replace") as lines:
                ours = False
                for line in lines:
                    if not line.startswith(("\t", "#")):
                        ours = line.startswith(f"{vendor:04x}  ")
                    elif ours and line.startswith(f"\t{device:04x}  "):
                        return _trade_name(line[7:].strip())
        except OSError:
            continue
    return None


def _trade_name(name: str) -> str:
    """`Navi 21 [Radeon RX 6800/6800 XT]` is sold as what stands in brackets."""
    return name[name.rfind("[") + 1 : -1] if name.endswith("]") else name
