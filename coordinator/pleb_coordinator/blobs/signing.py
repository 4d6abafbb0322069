"""Queries by which a bucket takes one part of a result from its host: AWS Signature Version 4.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html

Not obstore's: it signs no length, and a host could then put anything of any size there.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from pleb_shared.errors import InputError
from pleb_shared.protocol.direct import SEAL_BYTES, DirectPart, DirectParts, part_place
from pleb_shared.protocol.ids import check_base_url
from pleb_shared.protocol.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SIGNED_SECONDS", "UploadSigner"]

SIGNED_SECONDS: Final = 900
"""How long a signature is good; whoever needs longer asks for another one."""
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)*")
"""Of the bucket's address: what is encoded alike by everybody."""
_HEADERS: Final = "content-length;host"
_PORTS: Final = {"http": ":80", "https": ":443"}


class UploadSigner:
    """Signs for the parts of results below `address`, with the bucket's access key.

    What is empty comes from the environment, as obstore has it.

    Raises:
        InputError: `address` is none, or there is no key.
    """

    def __init__(
        self,
        address: str,
        *,
        region: str = "",
        access_key_id: str = "",
        secret_access_key: str = "",
        clock: Callable[[], float] = time.time,  # noqa: TID251 - the bucket's clock is a real one
    ) -> None:
        try:
            check_base_url(address, "a bucket's")
        except ValueError as error:
            raise InputError(f"[s3] public: {error}.") from error
        parts = urlsplit(address)
        if not _PATH.fullmatch(parts.path):
            message = f"[s3] public: {parts.path!r} may have letters, digits and . _ ~ - alone."
            raise InputError(message)
        self.address = address
        self._host = parts.netloc.lower().removesuffix(_PORTS[parts.scheme])
        self._path = parts.path
        found = os.environ.get
        self._region = region or found("AWS_REGION") or found("AWS_DEFAULT_REGION") or "us-east-1"
        self._key = access_key_id or found("AWS_ACCESS_KEY_ID", "")
        self._secret = secret_access_key or found("AWS_SECRET_ACCESS_KEY", "")
        self._session = "" if access_key_id else found("AWS_SESSION_TOKEN", "")
        self._clock = clock
        if not (self._key and self._secret):
            raise InputError(
                "[s3] public: hosts' uploads are signed with an access key, and there is none: set "
                "access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY; or leave `public` empty."
            )

    def parts(self, token: str, offset: int, size: int) -> DirectParts:
        """Return the next parts of an upload of `size` bytes, of which `offset` are there."""
        places = range(offset, size, LIMITS.direct_part_bytes)[: LIMITS.direct_parts]
        found = []
        for at in places:
            length = min(LIMITS.direct_part_bytes, size - at)
            query = self.query(part_place(token, at), length + SEAL_BYTES)
            found.append(DirectPart(size=length, query=query))
        return DirectParts(offset=offset, parts=found)

    def query(self, place: str, size: int) -> str:
        """Return the query with which a PUT of exactly `size` bytes to `place` is allowed."""
        at = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{at[:8]}/{self._region}/s3/aws4_request"
        fields = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self._key}/{scope}",
            "X-Amz-Date": at,
            "X-Amz-Expires": str(SIGNED_SECONDS),
            "X-Amz-SignedHeaders": _HEADERS,
        }
        if self._session:
            fields["X-Amz-Security-Token"] = self._session
        query = "&".join(f"{name}={quote(fields[name], safe='-_.~')}" for name in sorted(fields))
        headers = f"content-length:{size}\nhost:{self._host}\n"
        request = ["PUT", f"{self._path}/{place}", query, headers, _HEADERS, "UNSIGNED-PAYLOAD"]
        digest = hashlib.sha256("\n".join(request).encode()).hexdigest()
        key = f"AWS4{self._secret}".encode()
        for word in scope.split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        text = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{digest}"
        return f"{query}&X-Amz-Signature={hmac.digest(key, text.encode(), 'sha256').hex()}"
