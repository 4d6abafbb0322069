"""The coordinator's endpoints, for a program that waits for each answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx

from pleb_shared.errors import InputError, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import CoordinatorInfo
from pleb_shared.protocol.sealing import unseal
from pleb_shared.protocol.status import VersionStatus
from pleb_system.network_errors import BadAnswerError
from pleb_system.transport import is_loopback, network_error, open_http, refusal_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from pleb_shared.protocol.sealing import Reading

__all__ = ["Address", "Coordinator", "parse_address"]

_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)
_PIN: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Address:
    """The base URL; `certificate` is the SHA-256 of a self-signed certificate's DER form."""

    url: str
    certificate: str | None = None

    def __str__(self) -> str:
        """Return what `parse_address` reads."""
        return self.url if self.certificate is None else f"{self.url}#{self.certificate}"


def parse_address(text: str) -> Address:
    """Return the address that `https://HOST[:PORT][#CERTIFICATE]` spells.

    Raises:
        InputError: the text is something else.
    """
    parts = urlsplit(text.strip())
    pin = parts.fragment
    if (
        parts.scheme not in {"http", "https"}
        or not parts.netloc
        or (pin and not _PIN.fullmatch(pin))
    ):
        raise InputError(
            f"{text!r} is not a coordinator's address: give https://HOST, with "
            "#CERTIFICATE-FINGERPRINT after it if the certificate is self-signed."
        )
    return Address(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", pin or None)


class Coordinator:
    """A coordinator at `address`. Use it as a context manager."""

    def __init__(self, address: Address, reading: Reading | None = None) -> None:
        self.address = address
        self.reading: Reading | None = None
        """By what a private project is read here; None: only public ones."""
        self._http = open_http(
            httpx.Client,
            httpx.URL(address.url),
            certificate=address.certificate,
            base_url=address.url,
            timeout=_TIMEOUT,
        )
        if reading is not None:
            self.read_with(reading)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def read_with(self, reading: Reading) -> None:
        """Show with each request from now on who reads.

        Raises:
            InputError: somebody on the way could read it, too.
        """
        url = httpx.URL(self.address.url)
        if url.scheme != "https" and not is_loopback(url.host):
            raise InputError(
                f"A private project needs HTTPS, and {self.address.url} is http://: ask the "
                "operator for an address with https://."
            )
        self.reading = reading
        self._http.headers["Authorization"] = f"Pleb {reading.reader}"

    def info(self) -> CoordinatorInfo:
        """Return what the coordinator says about itself."""
        return strict_json.decode(self._get("/coordinator"), CoordinatorInfo)

    def metadata(self, project: str) -> bytes:
        """Return the envelope of a project's metadata; its signature is not checked here."""
        return self._get(f"/projects/{project}/metadata")

    def status(self, project: str) -> bytes:
        """Return the JSON status of a project, for people and programs that watch."""
        return self._get(f"/projects/{project}/status")

    def metadata_at(self, project: str, number: int) -> bytes:
        """Return the envelope of earlier metadata; its signature is not checked here."""
        return self._get(f"/projects/{project}/metadata/{number}")

    def file(self, project: str, name: str) -> bytes:
        """Return a file that coordinators and mirrors have of a project; it is not checked here."""
        return self._get(f"/projects/{project}/{name}")

    def hand_in(self, project: str, envelope: bytes) -> None:
        """Give the coordinator newer metadata, for instance that the project has moved."""
        self._request("POST", f"/projects/{project}/metadata", content=envelope)

    def records(self, project: str, envelope: bytes) -> bytes:
        """Send a signed `RecordsRequest`; return what the coordinator has signed of hosts."""
        return self._request("POST", f"/projects/{project}/records", content=envelope).content

    def version(self, project: str, epoch: int, version: str) -> VersionStatus:
        """Return how a version is put together: a number in digits, `best` or `newest`."""
        answer = self._get(f"/projects/{project}/versions/{epoch}/{version}")
        return strict_json.decode(answer, VersionStatus)

    def ask_to_publish(self, envelope: bytes) -> bytes:
        """Send a signed `PublishQuestion` and return the answer's envelope."""
        return self._request("POST", "/publish/question", content=envelope).content

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

    def content(self, digest: str) -> bytes:
        """Return what is in a blob: of a private project it is sealed.

        Raises:
            TrustError: as `blob`; its key is not here.
        """
        data = self.blob(digest)
        return data if self.reading is None else unseal(data, self.reading.keyring)

    def upload(self, token: str, data: bytes) -> None:
        """Send `data` in parts, from the upload's offset on."""
        answer = self._request("HEAD", f"/uploads/{token}")
        offset = _offset_of(answer)
        while not _is_complete(answer):  # none is left if it has not looked at the whole yet
            part = data[offset : offset + LIMITS.sent_part_bytes]
            headers = {"Upload-Offset": str(offset)}
            answer = self._request("PATCH", f"/uploads/{token}", content=part, headers=headers)
            before, offset = offset, _offset_of(answer)
            if offset <= before and not _is_complete(answer):
                raise BadAnswerError(
                    "The coordinator accepts no more bytes of an upload: try later."
                )

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
        except httpx.RequestError as error:
            hint = "check the address and that the coordinator is running"
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                hint = "if its certificate is self-signed, add #FINGERPRINT, as `serve` prints it"
            raise network_error(error, self.address.url, hint) from error
        if not answer.is_success:
            raise refusal_of(answer, answer.content)
        return answer


def _is_complete(answer: httpx.Response) -> bool:
    """Whether the coordinator has an upload, and has looked at the whole."""
    return bool(answer.headers.get("Upload-Complete") == "?1")


def _offset_of(answer: httpx.Response) -> int:
    """Return how many bytes the coordinator has of an upload."""
    text = answer.headers.get("Upload-Offset", "")
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise BadAnswerError(
            "The coordinator does not say how much of the upload it has: try later."
        )
    return int(text)
