"""How a project stands, as its coordinator tells everybody: only what the plots need.

The answer is not signed and nothing is decided by it. Unknown fields are passed over, missing ones
have defaults, so that the page works with older and newer coordinators.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from pleb_agent.client.errors import BadAnswerError

__all__ = ["ProjectStatus", "VersionPoint", "read_status"]

_MOST_POINTS = 4000

Text = Annotated[str, msgspec.Meta(max_length=4000)]


class VersionPoint(msgspec.Struct, frozen=True):
    """One version. `made_at`: seconds since 1970 on the coordinator's clock."""

    version: Annotated[int, msgspec.Meta(ge=0)]
    made_at: float = 0.0
    train_loss: float | None = None
    metrics: Annotated[dict[str, float], msgspec.Meta(max_length=64)] = {}


class ProjectTarget(msgspec.Struct, frozen=True):
    """What the project wants to reach."""

    metric: Text = ""
    value: float | None = None


class ProjectStatus(msgspec.Struct, frozen=True):
    """The whole, as far as it is used. `series`: oldest first."""

    project: Text
    target: ProjectTarget | None = None
    series: list[VersionPoint] = []


def read_status(body: bytes) -> ProjectStatus:
    """Return what the answer's JSON says; of very long series the newest points.

    Raises:
        BadAnswerError: it is no such JSON.
    """
    try:
        status = msgspec.json.decode(body, type=ProjectStatus)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadAnswerError(
            f"The coordinator's status cannot be read ({error}); it will be asked again later."
        ) from error
    return msgspec.structs.replace(status, series=status.series[-_MOST_POINTS:])
