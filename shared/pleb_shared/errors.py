"""Errors that all sides share; each says what happened and what to do.

PlebError
├── InputError             a file or an argument is wrong
│   └── GraphError         a graph is not allowed to run
├── TrainingError          a unit cannot be trained: a loss is not a number
├── EncodingError          tensor bytes do not fit their layout
├── TrustError             a statement does not chain to the pinned root
└── Refusal                the other side refuses, with a `RefusalCode`; travels on the wire
"""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "EncodingError",
    "GraphError",
    "InputError",
    "PlebError",
    "Refusal",
    "RefusalCode",
    "TrainingError",
    "TrustError",
]


class PlebError(Exception):
    """Base of every error that is shown to people: one sentence that says what to do."""

    exit_code = 1


class InputError(PlebError):
    """A file or an argument is wrong; the message says where and how to fix it."""

    exit_code = 2


class GraphError(InputError):
    """A graph uses an operator, a size or a form that is not allowed."""


class TrainingError(PlebError):
    """A unit cannot be trained; the host gives it back with this message."""


class EncodingError(PlebError):
    """Encoded tensors do not fit their layout; `code` is what a refusal of them carries."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class TrustError(PlebError):
    """A signed statement is not trusted: wrong key, addressee, time, order or content."""

    exit_code = 3


class RefusalCode(StrEnum):
    """Why a request was refused; the value is what travels."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNSUPPORTED_PROTOCOL = "unsupported_protocol"
    UNKNOWN_PROJECT = "unknown_project"
    UNKNOWN_HOST = "unknown_host"
    BANNED = "banned"
    BAD_SIGNATURE = "bad_signature"
    WRONG_AUDIENCE = "wrong_audience"
    CLOCK_SKEW = "clock_skew"
    EXPIRED = "expired"
    STALE_SEQUENCE = "stale_sequence"
    SEQUENCE_REUSED = "sequence_reused"
    UNKNOWN_ASSIGNMENT = "unknown_assignment"
    LEASE_EXPIRED = "lease_expired"
    EPOCH_ENDED = "epoch_ended"
    ALREADY_REPORTED = "already_reported"
    WRONG_RESULT = "wrong_result"
    WRONG_BASE_VERSION = "wrong_base_version"
    WRONG_SIZE = "wrong_size"
    WRONG_SHAPE = "wrong_shape"
    WRONG_DTYPE = "wrong_dtype"
    WRONG_DIGEST = "wrong_digest"
    NOT_FINITE = "not_finite"
    UNKNOWN_UPLOAD = "unknown_upload"
    WRONG_OFFSET = "wrong_offset"
    UNKNOWN_BLOB = "unknown_blob"
    BAD_RANGE = "bad_range"
    INVALID_INVITE = "invalid_invite"
    UNKNOWN_ADMIN = "unknown_admin"
    NOT_PERMITTED = "not_permitted"
    WRONG_INPUT = "wrong_input"
    STALE_METADATA = "stale_metadata"
    RATE_LIMITED = "rate_limited"
    STORAGE_FULL = "storage_full"
    INTERNAL = "internal"


_STATUS: dict[RefusalCode, int] = {
    RefusalCode.TOO_LARGE: 413,
    RefusalCode.UNSUPPORTED_PROTOCOL: 426,
    RefusalCode.UNKNOWN_PROJECT: 404,
    RefusalCode.UNKNOWN_HOST: 401,
    RefusalCode.BANNED: 403,
    RefusalCode.BAD_SIGNATURE: 401,
    RefusalCode.WRONG_AUDIENCE: 403,
    RefusalCode.CLOCK_SKEW: 403,
    RefusalCode.EXPIRED: 403,
    RefusalCode.STALE_SEQUENCE: 409,
    RefusalCode.SEQUENCE_REUSED: 409,
    RefusalCode.UNKNOWN_ASSIGNMENT: 404,
    RefusalCode.LEASE_EXPIRED: 410,
    RefusalCode.EPOCH_ENDED: 410,
    RefusalCode.ALREADY_REPORTED: 409,
    RefusalCode.UNKNOWN_UPLOAD: 404,
    RefusalCode.WRONG_OFFSET: 409,
    RefusalCode.UNKNOWN_BLOB: 404,
    RefusalCode.BAD_RANGE: 416,
    RefusalCode.INVALID_INVITE: 403,
    RefusalCode.UNKNOWN_ADMIN: 401,
    RefusalCode.NOT_PERMITTED: 403,
    RefusalCode.STALE_METADATA: 409,
    RefusalCode.RATE_LIMITED: 429,
    RefusalCode.STORAGE_FULL: 507,
    RefusalCode.INTERNAL: 500,
}


class Refusal(PlebError):
    """A refused request. `retry_after_seconds` is set if trying again later makes sense."""

    exit_code = 4

    def __init__(
        self, code: RefusalCode, message: str, *, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds

    @property
    def http_status(self) -> int:
        """The HTTP status of the code; 400 if the request itself is wrong."""
        return _STATUS.get(self.code, 400)
