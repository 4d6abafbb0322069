"""What coordinators and the worker say of why there is no work: listed to be translated.

They come as text, with a number in the place of `{number}`; others are shown as they come.
"""

from __future__ import annotations

from typing import Final

from pleb_agent.web.translation import marked

__all__ = ["HEARD"]

HEARD: Final[tuple[str, ...]] = (
    marked("A new host holds one unit at a time until its first results are confirmed."),
    marked("Your PC's calibration comes first; other units follow it."),
    marked("The project has reached its last version, {number}."),
    marked("Trusted hosts make version {number} alone, as a warm start."),
    marked("What computes (torch) is not here yet; work begins when it is."),
    marked("All units of version {number} are given out; the next version is awaited."),
)
