"""How a person writes the proxy for all connections; no HTTP library is needed to read it."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

__all__ = ["NO_PROXY", "proxy_url"]

NO_PROXY: Final = "none"
"""The preference for a direct connection, whatever the system says."""


def proxy_url(text: str) -> str:
    """Return the address of `[http://][USER:PASSWORD@]HOST:PORT` as a URL.

    Raises:
        ValueError: it is not such an address. The message does not repeat it, since it may hold a
            password.
    """
    url = text if "://" in text else f"http://{text}"
    try:
        found = urlsplit(url)
        usable = found.scheme in {"http", "https"} and found.hostname and found.port
    except ValueError:
        usable = False
    if not usable or any(character.isspace() for character in url):
        raise ValueError("it is not an address like http://HOST:PORT (SOCKS is not supported)")
    return url
