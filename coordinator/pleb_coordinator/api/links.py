"""The address in attach links."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pleb_shared.protocol.ids import AttachLink, fingerprint_of

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project

__all__ = ["LinkBase"]


@dataclass(frozen=True)
class LinkBase:
    """The address that attach links begin with, and the certificate that they pin."""

    url: str
    certificate: str | None = None

    @property
    def base_path(self) -> str:
        """What every path of the pages begins with: a proxy may serve them below one of its own."""
        return urlsplit(self.url).path.rstrip("/")

    def attach_link(self, project: Project) -> AttachLink:
        """Return the link by which agents attach to the project."""
        root = fingerprint_of(project.root_key)
        return AttachLink(self.url, project.name, root, self.certificate)
