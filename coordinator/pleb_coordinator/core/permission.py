"""What the coordinator's faces say about a researcher's permission that ends soon."""

from __future__ import annotations

from pleb_shared.protocol.permission import ends_soon
from pleb_system.durations import shown_day, shown_duration

__all__ = ["permission_warning"]


def permission_warning(project: str, ends_at: float, now: float) -> str:
    """Return one sentence for operator and researcher; empty while there is time."""
    if not ends_soon(ends_at, now):
        return ""
    if ends_at <= now:
        return (
            f"The researcher's permission for {project} ended on {shown_day(ends_at)}: agents take "
            f"no work until the researcher runs `pleb-project renew {project}`."
        )
    return (
        f"The researcher's permission for {project} ends on {shown_day(ends_at)}, in "
        f"{shown_duration(ends_at - now)}: the researcher must run `pleb-project renew {project}`."
    )
