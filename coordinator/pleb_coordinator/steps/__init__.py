"""The steps of a unit's life.

Each takes a `Transaction` and what else it needs, and returns values; none calls another. Who
calls them, and in which order:

    HTTP, for a work request (all in one transaction, after `core.sequence.check_sequence`):
        receipts = accept_reports(tx, deps, project, host, request.reports, attached)
        manifests, no_work = issue_work(tx, deps, project, host, request)
        verdicts = take_verdicts(tx, host)
        ... sign the reply ...
        tx.hosts.saw(host.id, Seen(sequence, digest, reply, network, agent, now, asked))
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

    from pleb_coordinator.blobs.interface import Blobs

__all__ = ["Deps"]


@dataclass(frozen=True)
class Deps:
    """What steps need from the world; built once in each process's composition root."""

    clock: Callable[[], float]
    """Seconds since 1970 (UTC)."""
    random_bytes: Callable[[int], bytes]
    """Unpredictable bytes, for nonces and tokens (`secrets.token_bytes`)."""
    secret: bytes
    """32 bytes from which audits are drawn; never leaves the coordinator."""
    online_key: str
    """The public key that root keys must delegate to, hexadecimal."""
    blobs: Blobs
