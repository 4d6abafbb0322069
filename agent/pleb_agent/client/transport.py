"""Making the HTTP client of one coordinator: which certificates it trusts, and which way out."""

from __future__ import annotations

import ipaddress
import ssl
from typing import Final

import httpx
import truststore

from pleb_agent.client.pinning import pinned_context
from pleb_shared.errors import InputError

__all__ = ["NO_PROXY", "is_loopback", "open_http", "parse_proxy"]

NO_PROXY: Final = "none"
"""The preference that asks for a direct way whatever the system says."""

_HIGHEST_PORT: Final = 65_535


def open_http(url: httpx.URL, certificate: str | None, proxy: str) -> httpx.AsyncClient:
    """Return a client for the coordinator at `url`.

    Args:
        url: the base URL; what runs on this PC is never asked by a proxy.
        certificate: the pin of a self-signed certificate; None: the system's own anchors hold.
        proxy: a preference: empty for what the system or the environment says.

    Raises:
        InputError: the proxy's address cannot be used.
    """
    direct = proxy == NO_PROXY or is_loopback(url.host)
    try:
        return httpx.AsyncClient(
            verify=_verify(url, certificate),
            proxy=parse_proxy(proxy) if proxy and not direct else None,
            trust_env=not proxy and not direct,
            limits=httpx.Limits(max_connections=8, keepalive_expiry=60.0),
            headers={"accept-encoding": "identity"},
        )
    except (ValueError, ImportError) as error:  # a SOCKS proxy in the environment, for instance
        raise InputError(
            f"The system's proxy cannot be used ({error}): set the preference `proxy` to an "
            f"http:// address, or to `{NO_PROXY}`."
        ) from error


def parse_proxy(text: str) -> httpx.Proxy:
    """Return the proxy that a preference names: `[http://][USER:PASSWORD@]HOST:PORT`.

    Raises:
        InputError: it is not such an address. The message tells no password.
    """
    try:
        url = httpx.URL(text if "://" in text else f"http://{text}")
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in {"http", "https"} or not url.host or (url.port or 0) > _HIGHEST_PORT:
        raise InputError(
            "The preference `proxy` is not an address like http://HOST:PORT (SOCKS is not "
            f"spoken): correct it, or set it to `{NO_PROXY}` or to nothing."
        )
    return httpx.Proxy(url)


def is_loopback(host: str) -> bool:
    """Whether the name or address is this PC itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _verify(url: httpx.URL, certificate: str | None) -> ssl.SSLContext | bool:
    if certificate is not None:
        return pinned_context(certificate)
    if url.scheme == "http":
        return False  # nothing to verify; reading the system's anchors takes 20 ms
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
