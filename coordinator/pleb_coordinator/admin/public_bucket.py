"""Whether hosts can put results into the bucket, and no more than was signed."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import httpx

from pleb_shared.errors import PlebError
from pleb_shared.protocol.direct import part_place, sealed_part
from pleb_system.transport import open_http

if TYPE_CHECKING:
    from pleb_coordinator.blobs.signing import UploadSigner
    from pleb_coordinator.blobs.store import Blobs

__all__ = ["fault_of_public"]

_TIMEOUT: Final = httpx.Timeout(10.0)
_TRIED: Final = b"tried by doctor"


def fault_of_public(blobs: Blobs, signer: UploadSigner) -> str:
    """Put a small part where hosts put theirs, and remove it again.

    Returns:
        What is wrong and how to fix it; empty: nothing.

    Raises:
        Refusal: the bucket does not do its work.
    """
    token = secrets.token_hex(16)
    [part] = signer.parts(token, 0, len(_TRIED)).parts
    url = f"{signer.address}/{part_place(token, 0)}?{part.query}"
    try:
        with open_http(httpx.Client, httpx.URL(signer.address), timeout=_TIMEOUT) as http:
            larger = http.put(url, content=sealed_part(_TRIED) + b"x")
            right = http.put(url, content=sealed_part(_TRIED))
        arrived = blobs.upload_offset(token) == len(_TRIED)
    except (httpx.HTTPError, PlebError) as error:
        return f"{signer.address} cannot be used from here ({error}): correct `public` in [s3]"
    finally:
        blobs.drop_upload(token)
    if not right.is_success:
        return (
            f"{signer.address} answers {right.status_code} to what is signed for it: check `public`"
            ", `region` and the access key in [s3]"
        )
    if not arrived:
        return f"what is put at {signer.address} does not come to `blobs`: they must be one place"
    if larger.is_success:
        return (
            f"{signer.address} takes more bytes than were signed, so hosts could fill it: leave "
            "`public` in [s3] empty, or take a server that checks signed headers"
        )
    return ""
