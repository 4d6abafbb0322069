"""What can go wrong on the way to a coordinator. None of it loses anything.

    NetworkError             try again later; `retry_after_seconds` says when if it was asked for
    ├── UnreachableError       no connection, a broken one, or no answer in time
    ├── BadAnswerError         an answer that is not of the protocol
    ├── WrongBytesError        a blob's bytes are not what its digest says
    └── WrongCertificateError  the server's certificate is not the one that the link pins

A typed no of the coordinator is a `pleb_shared.errors.Refusal`.
"""

from __future__ import annotations

from pleb_shared.errors import PlebError

__all__ = [
    "BadAnswerError",
    "NetworkError",
    "UnreachableError",
    "WrongBytesError",
    "WrongCertificateError",
]


class NetworkError(PlebError):
    """Base: the request may or may not have arrived; asking again is safe."""

    exit_code = 5

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UnreachableError(NetworkError):
    """The coordinator cannot be reached, or broke off."""


class BadAnswerError(NetworkError):
    """What answered does not speak the protocol: a proxy's page, a defect, a wrong address."""


class WrongBytesError(NetworkError):
    """The server sent other bytes than those that were asked for."""


class WrongCertificateError(NetworkError):
    """The server shows another certificate than the one that the attach link names."""
