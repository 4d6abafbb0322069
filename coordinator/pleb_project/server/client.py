"""HTTP requests to a coordinator; whatever httpx or the other side says becomes one sentence."""

from __future__ import annotations

import hashlib
import socket
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx

from pleb_shared.errors import PlebError, Refusal, RefusalCode, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import CoordinatorInfo, RefusalBody

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from pleb_project.server.address import Address

__all__ = ["Coordinator", "UnreachableError"]

_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)


class UnreachableError(PlebError):
    """No answer came; trying again may help."""

    exit_code = 5


class Coordinator:
    """A coordinator at `address`. Use it as a context manager."""

    def __init__(self, address: Address) -> None:
        self.address = address
        verify = _pinned(address) if address.certificate else True
        self._http = httpx.Client(base_url=address.url, timeout=_TIMEOUT, verify=verify)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def info(self) -> CoordinatorInfo:
        """Return what the coordinator says about itself."""
        return strict_json.decode(self._get("/coordinator"), CoordinatorInfo)

    def metadata(self, project: str) -> bytes:
        """Return the envelope of a project's metadata; its signature is not checked here."""
        return self._get(f"/projects/{project}/metadata")

    def status(self, project: str) -> bytes:
        """Return the JSON status of a project, for people and programs that watch."""
        return self._get(f"/projects/{project}/status")

    def publish(self, envelope: bytes) -> bytes:
        """Send a signed `PublishRequest` and return the reply's envelope."""
        return self._request("POST", "/publish", content=envelope).content

    def blob(self, digest: str) -> bytes:
        """Return a blob whose bytes have that digest.

        Raises:
            TrustError: the coordinator sent other bytes.
        """
        data = self._get(f"/blobs/{digest}")
        if digest_of(data) != digest:
            raise TrustError(f"The blob {digest[:12]} came with other bytes: try again.")
        return data

    def upload(self, token: str, data: bytes) -> None:
        """Send `data` in parts, from where the upload stands."""
        offset = int(self._request("HEAD", f"/uploads/{token}").headers["Upload-Offset"])
        while offset < len(data):
            part = data[offset : offset + LIMITS.upload_part_bytes]
            headers = {"Upload-Offset": str(offset)}
            answer = self._request("PATCH", f"/uploads/{token}", content=part, headers=headers)
            offset = int(answer.headers["Upload-Offset"])

    def _get(self, path: str) -> bytes:
        return self._request("GET", path).content

    def _request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            answer = self._http.request(method, path, content=content, headers=headers)
        except httpx.TransportError as error:
            raise UnreachableError(
                f"{self.address.url} does not answer ({error}): {_remedy(error)}."
            ) from error
        if answer.status_code >= 400:
            raise _refusal(answer)
        return answer


def _remedy(error: httpx.TransportError) -> str:
    """Return what a person can do about it."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "if its certificate is its own, add #FINGERPRINT, as `serve` prints it"
    return "check the address and that the coordinator runs"


def _refusal(answer: httpx.Response) -> Refusal:
    try:
        body = strict_json.decode(answer.content, RefusalBody)
    except Refusal:
        message = (
            f"{answer.request.url} answered {answer.status_code} without a reason: is this a "
            "coordinator of Pleb-Cluster?"
        )
        return Refusal(RefusalCode.INTERNAL, message)
    return Refusal(body.code, body.message, retry_after_seconds=body.retry_after_seconds)


def _pinned(address: Address) -> ssl.SSLContext:
    """Return a context that trusts exactly the certificate whose fingerprint is pinned."""
    parts = urlsplit(address.url)
    try:
        text = ssl.get_server_certificate((parts.hostname or "", parts.port or 443), timeout=10)
    except (OSError, socket.gaierror) as error:
        raise UnreachableError(
            f"{address.url} does not answer ({error}): check the address and that the "
            "coordinator runs."
        ) from error
    found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(text)).hexdigest()
    if found != address.certificate:
        raise TrustError(
            f"{address.url} shows the certificate {found[:16]}..., not the pinned "
            f"{str(address.certificate)[:16]}...: ask the operator for the link again."
        )
    context = ssl.create_default_context(cadata=text)
    context.check_hostname = False  # the pin names the certificate; its name says nothing more
    return context
