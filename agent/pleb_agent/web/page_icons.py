"""The page's drawings: the inside of a 24 x 24 SVG, stroked with the text's colour."""

from __future__ import annotations

from typing import Final

__all__ = ["ICONS"]

ICONS: Final[dict[str, str]] = {
    "now": '<path d="M3 12h4l3-8 4 16 3-8h4"/>',
    "given": '<path d="M5 21V11M12 21V4M19 21v-7"/>',
    "projects": '<circle cx="12" cy="12" r="3"/><circle cx="5" cy="5" r="2"/>'
    '<circle cx="19" cy="6" r="2"/><circle cx="6" cy="19" r="2"/><circle cx="18" cy="18" r="2"/>'
    '<path d="m6.5 6.5 3.3 3.3m7.6-2.5-3 2.6M7.4 17.6l2.5-3.5m6.7 2.5-2.4-2.4"/>',
    "preferences": '<path d="M4 7h9m5 0h2M4 17h2m5 0h9"/><circle cx="15.5" cy="7" r="2.5"/>'
    '<circle cx="8.5" cy="17" r="2.5"/>',
    "history": '<circle cx="12" cy="12" r="9"/><path d="M12 7v5l3.5 2"/>',
    "log": '<path d="M5 6h14M5 12h14M5 18h8"/>',
    "working": '<path d="M7 4.5v15l12.5-7.5z"/>',
    "paused": '<path d="M8 5v14M16 5v14"/>',
    "idle": '<path d="M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5Z"/>',
    "offline": '<path d="M3 3l18 18M8.5 5.4A7 7 0 0 1 19 11a4 4 0 0 1 1.8 6.6"/>'
    '<path d="M16 19H7a4.5 4.5 0 0 1-.8-8.9"/>',
    "problem": '<path d="M12 4 2.8 20h18.4L12 4Zm0 6v4.5m0 2.6v.2"/>',
    "stopped": '<rect x="6" y="6" width="12" height="12" rx="2"/>',
    "boost": '<path d="M13 2 4.5 13.5H11L10 22l9-12h-6.5L13 2Z"/>',
    "check": '<path d="m5 12.5 4.5 4.5L19 7.5"/>',
    "theme": '<circle cx="12" cy="12" r="8.5"/><path d="M12 3.5v17a8.5 8.5 0 0 0 0-17Z"/>',
    "link": '<path d="M9.5 14.5 14.5 9.5"/>'
    '<path d="M8 11l-2.5 2.5a4 4 0 0 0 5.7 5.7L13 17m3-4 2.5-2.5a4 4 0 0 0-5.7-5.7L11 7"/>',
    "shield": '<path d="M12 3 5 6v5.5c0 4.3 2.9 7.6 7 9.5 4.1-1.9 7-5.2 7-9.5V6l-7-3Z"/>',
    "next": '<path d="m9 5 7 7-7 7"/>',
}
