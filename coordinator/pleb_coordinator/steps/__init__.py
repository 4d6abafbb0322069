"""The steps of a unit's life.

Each takes a `Transaction` and what else it needs, and returns values. None calls another: what
several need is in `outcome` below them, and only `serve` above them puts some in order. Who calls
them, and when:

    HTTP, for a work request (tests and benchmarks too):
        serve(tx, deps, asked) -> Answered         (runs accept, issue and tell)
    HTTP, for the rest:
        enrol(tx, deps, project, request, network) -> EnrolReply
        upload = find_upload(tx, deps, token);  upload_status(deps, upload) -> UploadStatus
        append_part(deps, upload, offset, data) -> int         (no transaction: files only)
        check_upload(deps, upload, encoding)                   (no transaction; may take long)
        finish_upload(tx, deps, upload)  or  refuse_upload(tx, deps, upload, refusal)
        publication = open_publication(envelope)               (no transaction: signatures)
        admit(tx, deps, publication)
        findings = examine(deps, publication)                  (no transaction; may take long)
        publish(tx, deps, publication, findings, link_base) -> PublishReply
        new_invite(tx, deps, role, note=..., lifetime_seconds=...) -> str
    background, over and over, for each project (see `jobs.loop`):
        expire_leases(tx, deps);  expire_uploads(tx, deps);  retire_versions(tx, deps, project)
        record_calibrations(tx, deps, project)
        measurement = next_measurement(tx, project);  found = measure(deps, measurement)
        record_measurement(tx, project, measurement, found)
        case = next_case(tx, project);  findings = examine_case(deps, case)
        settle(tx, deps, case, findings)
        work = ready_round(tx, deps, project);  made = compute(deps, work)
        record_version(tx, deps, work, made)
        sweep_round(tx, deps, project)
        plan_round(tx, deps, project)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_coordinator.blobs.local import LocalBlobs
    from pleb_coordinator.core.records import Host, Project
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.signing import SigningKey

__all__ = ["Deps", "RequestContext"]


@dataclass(frozen=True)
class Deps:
    """What steps need from the world; built once in each process's composition root."""

    clock: Callable[[], float]
    """Seconds since 1970 (UTC)."""
    random_bytes: Callable[[int], bytes]
    """Unpredictable bytes, for nonces and tokens (`secrets.token_bytes`)."""
    secret: bytes
    """32 bytes from which audits are drawn; never leaves the coordinator."""
    online_key: SigningKey
    """The key that root keys delegate to; it signs every reply."""
    blobs: LocalBlobs


@dataclass(frozen=True)
class RequestContext:
    """What stays the same while one work request is served."""

    tx: Transaction
    deps: Deps
    project: Project
    host: Host
    now: float
