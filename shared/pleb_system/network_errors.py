"""What can go wrong on the way to a coordinator. Asking again is safe after each.

    NetworkError             try again later; `retry_after_seconds` if the other side asked for it
    ├── UnreachableError       no connection, a broken one, or no answer in time
    ├── BadAnswerError         an answer that is not of the protocol
    ├── WrongBytesError        a blob's bytes are not what its digest says
    └── WrongCertificateError  the server's certificate is not the one that the link pins

A refusal by the coordinator is a `pleb_shared.errors.Refusal`.
"""

from __future__ import annotations

from pleb_shared.errors import PlebError
from pleb_system.exit_codes import ExitCode

__all__ = [
    "BadAnswerError",
    "NetworkError",
    "UnreachableError",
    "WrongBytesError",
    "WrongCertificateError",
]


class NetworkError(PlebError):
    """Base: the request may or may not have arrived."""

    exit_code = ExitCode.UNREACHABLE

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UnreachableError(NetworkError):
    """There is no connection, it broke, or no answer came in time."""


class BadAnswerError(NetworkError):
    """The answer is not of the protocol: a proxy's page, a defect, a wrong address."""


class WrongBytesError(NetworkError):
    """The server sent other bytes than the requested ones."""

    exit_code = ExitCode.NOT_TRUSTED


class WrongCertificateError(NetworkError):
    """The server has another certificate than the one that the attach link pins."""

    exit_code = ExitCode.NOT_TRUSTED
