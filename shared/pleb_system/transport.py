"""HTTP to a coordinator, for clients that wait and for those in an event loop.

Which certificates they trust, which proxy they use, and what their failures and the
coordinator's refusals mean. Requests, retries and time-outs are the clients' own.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import ssl
from typing import Any, Final, TypeVar

import httpx

from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.messages import RefusalBody
from pleb_system.network_errors import (
    BadAnswerError,
    NetworkError,
    UnreachableError,
    WrongCertificateError,
)
from pleb_system.proxies import NO_PROXY, proxy_url

Client = TypeVar("Client", httpx.Client, httpx.AsyncClient)

__all__ = [
    "REFUSAL_BYTES",
    "is_loopback",
    "network_error",
    "open_http",
    "parse_proxy",
    "pinned_context",
    "refusal_of",
]

REFUSAL_BYTES: Final = 16 * 1024
"""More than any refusal's body has."""

_LONGEST_WAIT_SECONDS: Final = 24 * 3600.0
_MOST_CHARACTERS: Final = 500
_BROKEN_OFF: Final = ("disconnected", "peer closed")
"""In h11's messages about a connection that ended before its answer did."""


def open_http(
    kind: type[Client],
    url: httpx.URL,
    *,
    certificate: str | None = None,
    proxy: str = "",
    **options: Any,
) -> Client:
    """Return a client for one server.

    Args:
        kind: `httpx.Client` or `httpx.AsyncClient`.
        url: the server's base URL; a proxy is never asked for what runs on this PC.
        certificate: the pin of a self-signed certificate; None: the system's own anchors.
        proxy: a preference: empty for what the system or the environment says.
        options: more arguments of `kind`.

    Raises:
        InputError: the proxy's address cannot be used.
    """
    direct = proxy == NO_PROXY or is_loopback(url.host)
    verify: ssl.SSLContext | bool = False  # plain HTTP: reading the system's anchors takes 20 ms
    if certificate is not None:
        verify = pinned_context(certificate)
    elif url.scheme == "https":
        import truststore

        verify = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return kind(
            verify=verify,
            proxy=parse_proxy(proxy) if proxy and not direct else None,
            trust_env=not proxy and not direct,
            headers={"accept-encoding": "identity"},
            **options,
        )
    except (ValueError, ImportError) as error:  # a SOCKS proxy in the environment, for instance
        raise InputError(
            f"The system's proxy cannot be used ({error}): set the preference `proxy` to an "
            f"http:// address, or to `{NO_PROXY}`."
        ) from error


def parse_proxy(text: str) -> httpx.Proxy:
    """Return the proxy that a preference names: `[http://][USER:PASSWORD@]HOST:PORT`.

    Raises:
        InputError: it is not such an address. The message does not repeat a password.
    """
    try:
        return httpx.Proxy(httpx.URL(proxy_url(text)))
    except (ValueError, httpx.InvalidURL) as error:
        raise InputError(
            "The preference `proxy` is not an address like http://HOST:PORT (SOCKS is not "
            f"supported): correct it, set it to `{NO_PROXY}`, or clear it."
        ) from error


def is_loopback(host: str) -> bool:
    """Whether the name or address is this PC itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def pinned_context(certificate: str) -> ssl.SSLContext:
    """Return a context that accepts only the certificate whose DER form has this SHA-256.

    Each handshake ends with the comparison, before a byte of ours is sent, also inside a
    proxy's tunnel; the handshake itself proves that the server has the certificate's key. Names
    and dates are not checked: the pin says more, and a self-signed server on a LAN has an
    address instead of a name. A handshake with another certificate raises
    `WrongCertificateError`.
    """

    def check(shown: bytes | None, server: str | None) -> None:
        if hashlib.sha256(shown or b"").hexdigest() != certificate:
            raise WrongCertificateError(
                f"{server} has another certificate than the attach link pins. Somebody may be "
                "intercepting the connection, or the operator made a new one: ask for a new link."
            )

    class PinnedObject(ssl.SSLObject):  # in an event loop, and inside a tunnel
        def do_handshake(self) -> None:
            super().do_handshake()
            check(self.getpeercert(binary_form=True), self.server_hostname)

    class PinnedSocket(ssl.SSLSocket):  # of a client that waits
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            try:
                check(self.getpeercert(binary_form=True), self.server_hostname)
            except WrongCertificateError:
                self.close()
                raise

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # `check` verifies
    context.sslobject_class = PinnedObject
    context.sslsocket_class = PinnedSocket
    return context


_PLAIN: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
"""OpenSSL's words for an answer that is no TLS."""
_SAID: Final = (
    ("CERTIFICATE_VERIFY_FAILED", "this PC does not trust its certificate: ask for a new link"),
    ("Connection refused", "nothing answers at that port"),
    ("All connection attempts failed", "nothing answers there"),
    ("ECONNREFUSED", "nothing answers at that port"),
    ("Name or service not known", "there is no such name, or no network"),
    ("nodename nor servname", "there is no such name, or no network"),
    ("getaddrinfo failed", "there is no such name, or no network"),
    ("No address associated with hostname", "there is no such name, or no network"),
    ("Temporary failure in name resolution", "names cannot be looked up: is there a network?"),
    ("No route to host", "there is no way to it from this network"),
    ("Network is unreachable", "there is no network"),
)
"""What the system's words for a failed connection mean."""


def network_error(
    error: httpx.HTTPError | TimeoutError, url: str, hint: str, *, proxy: str = ""
) -> NetworkError:
    """Return what a failed request means. `hint`: what a person can do, or what happens next."""
    if isinstance(error, (httpx.DecodingError, httpx.ProtocolError, httpx.TooManyRedirects)):
        broken_off = any(sign in str(error) for sign in _BROKEN_OFF)
        if not broken_off:
            return BadAnswerError(f"{url} does not answer with valid HTTP ({error}); {hint}.")
    if url.startswith("https:") and any(sign in str(error) for sign in _PLAIN):
        return BadAnswerError(
            f"{url} speaks http and not https: an address that begins with http:// leads there, "
            f"or the port is another one's; {hint}."
        )
    what = str(error) or "no answer in time"
    what = next((said for sign, said in _SAID if sign in what), what)
    way = "" if proxy in {"", NO_PROXY} else " through your proxy"
    return UnreachableError(f"The coordinator at {url} cannot be reached{way} ({what}); {hint}.")


def refusal_of(response: httpx.Response, body: bytes) -> Refusal | BadAnswerError:
    """Return what an answer without success means.

    That is the coordinator's typed refusal, or `BadAnswerError` for any other failure, for
    instance a proxy's page.
    """
    wait: float | None
    try:
        wait = float(response.headers.get("retry-after", ""))
        wait = min(max(0.0, wait), _LONGEST_WAIT_SECONDS) if math.isfinite(wait) else None
    except ValueError:  # there is none, or one in its date form
        wait = None
    try:
        refusal = strict_json.decode(body, RefusalBody)
    except Refusal as error:
        bad = BadAnswerError(
            f"{response.request.url.host} did not answer as a coordinator (status "
            f"{response.status_code}); check the address or try later.",
            retry_after_seconds=wait,
        )
        bad.__cause__ = error
        return bad
    message = refusal.message
    if refusal.code is RefusalCode.CLOCK_SKEW:
        date = response.headers.get("date")
        known = f" (it is {date} there)" if date else ""
        message = f"Your clock differs too much from the coordinator's{known}: set it. {message}"
    return Refusal(
        refusal.code,
        message[:_MOST_CHARACTERS],
        retry_after_seconds=refusal.retry_after_seconds if wait is None else wait,
    )
