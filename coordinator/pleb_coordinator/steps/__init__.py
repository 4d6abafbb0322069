"""The steps of a unit's life. Each takes a `Transaction` and what else it needs, and returns
values; none calls another. Who calls them, and in which order:

    HTTP, for a work request (all in one transaction, after `core.sequence.check_sequence`):
        receipts = accept_reports(tx, deps, project, host, request.reports, attached)
        manifests, no_work = issue_work(tx, deps, project, host, request)
        verdicts = take_verdicts(tx, host)
        ... sign the reply ...
        tx.hosts.saw(host.id, Seen(sequence, digest, reply, network, agent, now, asked))
    HTTP, for the rest:
        enrol(tx, deps, project, request, network) -> EnrolReply
        upload = find_upload(tx, token);  upload_status(deps, upload) -> UploadStatus
        append_part(deps, upload, offset, data) -> int         (no transaction: files only)
        check_upload(deps, project, upload)                    (no transaction; may take long)
        finish_upload(tx, deps, upload)  or  refuse_upload(tx, deps, upload, refusal)
        publication = open_publication(envelope, now)          (no transaction: signatures)
        findings = examine(deps, publication)                  (no transaction; may take long)
        publish(tx, deps, publication, findings, base_url) -> PublishReply
        new_invite(tx, deps, role, note, lifetime_seconds) -> str
    background, over and over, for each project (see `jobs.loop`):
        expire(tx, deps, project)
        case = next_case(tx, project);  findings = examine_case(deps, case);  settle(tx, ...)
        work = ready_round(tx, deps, project);  made = compute(deps, work);  record(tx, ...)
        plan_round(tx, deps, project)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
