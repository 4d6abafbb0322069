"""TLS to a server whose self-signed certificate the attach link names by its SHA-256."""

from __future__ import annotations

import asyncio
import hashlib
import ssl

from pleb_agent.client.errors import UnreachableError, WrongCertificateError

__all__ = ["pinned_context"]


async def pinned_context(
    host: str, port: int, certificate: str, *, timeout_seconds: float = 10.0
) -> ssl.SSLContext:
    """Return a context that trusts exactly the certificate whose DER form has this SHA-256.

    The certificate is fetched once and checked; the context then has it as its only anchor, so
    each later connection is verified by OpenSSL itself. Names are not compared: the pin says
    more, and a self-signed server on a LAN has an address instead of a name.

    Raises:
        UnreachableError: no TLS connection.
        WrongCertificateError: the server shows another certificate.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            shown = await _shown_certificate(host, port)
    except (OSError, TimeoutError) as error:
        raise UnreachableError(
            f"{host}:{port} cannot be reached by TLS ({str(error) or 'no answer'}); "
            "it will be tried again."
        ) from error
    if hashlib.sha256(shown).hexdigest() != certificate:
        raise WrongCertificateError(
            f"{host}:{port} shows another certificate than the attach link names; somebody may "
            "be in between, or the operator made a new one: ask for a new link."
        )
    return _context_for(shown)


async def _shown_certificate(host: str, port: int) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # only looked at; nothing is sent on this connection
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return shown
    finally:
        writer.close()


def _context_for(certificate: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # Python 3.13 turns this on: a short self-signed certificate need not carry key identifiers.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=certificate)
    return context
