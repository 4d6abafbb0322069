"""Text where a desktop expects markup: notifications' bodies and tooltips of the tray."""

from __future__ import annotations

__all__ = ["in_markup"]


def in_markup(text: str) -> str:
    """Return the text so that it is shown as it is: a stranger's words may be in it.

    Source: Desktop Notifications Specification 1.2, "Markup"; StatusNotifierItem, "ToolTip".
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
