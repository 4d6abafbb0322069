"""tell: collect the verdicts on a host's earlier results, each once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import UnitVerdict

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Host
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["take_verdicts"]


def take_verdicts(tx: Transaction, host: Host) -> list[UnitVerdict]:
    """Return verdicts that the host has not received, and mark them as sent.

    In the same transaction as the reply that carries them: a reply that is lost is stored,
    and asked for again with the same sequence.
    """
    return [
        UnitVerdict(
            assignment=assignment.id,
            verdict=assignment.verdict,
            credit=assignment.credit,
            reason=assignment.reason,
        )
        for assignment in tx.assignments.take_verdicts(host.id, LIMITS.reports_per_request)
        if assignment.verdict is not None
    ]
