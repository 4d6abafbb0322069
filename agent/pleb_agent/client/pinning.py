"""TLS to a server whose self-signed certificate the attach link names by its SHA-256."""

from __future__ import annotations

import hashlib
import ssl

from pleb_agent.client.errors import WrongCertificateError

__all__ = ["pinned_context"]


def pinned_context(certificate: str) -> ssl.SSLContext:
    """Return a context that accepts exactly the certificate whose DER form has this SHA-256.

    Each handshake ends with the comparison, before a byte of ours is sent, also inside of a
    proxy's tunnel; the handshake itself proves that the server has the certificate's key. Names
    and dates are not looked at: the pin says more, and a self-signed server on a LAN has an
    address instead of a name. A handshake with another certificate raises
    `WrongCertificateError`.
    """

    class PinnedObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            shown = self.getpeercert(binary_form=True) or b""
            if hashlib.sha256(shown).hexdigest() != certificate:
                raise WrongCertificateError(
                    f"{self.server_hostname} shows another certificate than the attach link "
                    "names; somebody may be in between, or the operator made a new one: ask for "
                    "a new link."
                )

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # PinnedObject verifies
    context.sslobject_class = PinnedObject
    return context
