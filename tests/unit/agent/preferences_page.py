"""The tables of docs/preferences.md, from the declarations of the preferences and the presets.

`python -m tests.unit.agent.preferences_page` writes them into the page, between their markers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pleb_agent.core.languages import LANGUAGES
from pleb_agent.core.preference_table import PREFERENCES, Kind, Preference, show, show_value
from pleb_agent.core.preferences import Group, Preferences
from pleb_agent.core.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[3] / "docs" / "preferences.md"
WORDS = {
    Kind.FLAG: "on, off",
    Kind.HOURS: "hours",
    Kind.NAMES: "names",
    Kind.LANGUAGE: ", ".join(LANGUAGES),
    Kind.PROXY: "an address, none",
    Kind.SIGNAL: "a signal's name",
}
PARTS = {"shares": "shares.PROJECT", "device_shares": "device_shares.DEVICE"}
SHARE_OF_CORES = {0.25: "a quarter of the cores", 0.5: "half", 1.0: "all"}


def tables() -> dict[str, str]:
    """Return the text between each pair of markers."""
    return {"presets": "\n".join(presets()), "preferences": "\n".join(preferences())}


def presets() -> Iterator[str]:
    yield "| preference | " + " | ".join(PRESETS) + " |"
    yield "|---" * (1 + len(PRESETS)) + "|"
    cores = [SHARE_OF_CORES[preset.cores_share] for preset in PRESETS.values()]
    yield f"| `threads` | {' | '.join(cores)} |"
    for name in PRESETS["full"].values:
        cells = [show(name, preset.values[name]) for preset in PRESETS.values()]
        yield f"| `{name}` | {' | '.join(cells)} |"


def preferences() -> Iterator[str]:
    for group in Group:
        yield from ("", f"### {group.value}", "")
        yield from ("| name | default | takes | |", "|---|---|---|---|")
        yield from (row(one) for one in PREFERENCES.values() if one.group is group)
    yield ""


def row(one: Preference) -> str:
    name = PARTS.get(one.name, one.name)
    default = show_value(Preferences(), name) or "empty"
    default = "half of them" if name == "threads" else default
    takes = WORDS.get(one.kind) or f"{show(one.name, one.least)} to {show(one.name, one.most)}"
    takes += f", none: {one.none}" if one.none else ""
    return f"| `{name}` | {default} | {takes} | {one.description} |"


def with_tables(page: str) -> str:
    """Return the page with its tables as they should be."""
    for name, table in tables().items():
        marked = re.search(rf"(?s)<!-- {name}: [^\n]*-->\n(.*?)<!-- end -->", page)
        assert marked, f"the page has no markers for {name}"
        page = f"{page[: marked.start(1)]}{table}\n{page[marked.end(1) :]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
