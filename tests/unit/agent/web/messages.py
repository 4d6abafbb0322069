"""Finds every template that the agent can show to a person, wherever it is written.

In Jinja2 templates: `_("…")` and `several("…", "…")`. In Python: `marked`, `say`, `Sentence`, the
methods `text` and `several`, `LiveStatus.set`, `RuntimeState`, and the page's own errors. In
data: the core's tables of sentences, the preferences' declarations and the presets.
"""

from __future__ import annotations

import ast
import string
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, nodes

import pleb_agent
from pleb_agent.core.preference_table import PREFERENCES
from pleb_agent.core.preferences import Group
from pleb_agent.core.presets import PRESETS
from pleb_agent.core.schedule import DAY_NAMES
from pleb_agent.web.page_rendering import TEMPLATES as PAGES
from pleb_shared.protocol.reasons import TEMPLATES, UNKNOWN_TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(pleb_agent.__file__).parent
COUNTS = {"RuntimeMissing": 1, "marked": 1, "say": 1, "Sentence": 1, "text": 1, "several": 2}
"""How many of the first arguments are templates."""


def all_messages() -> dict[str, str]:
    """Return every template that has words of its own, and where it stands."""
    found: dict[str, str] = {}
    for text, place in (*of_templates(), *of_python(), *of_data()):
        if any(part.strip(" :.,") for part, *_ in string.Formatter().parse(text)):
            found.setdefault(text, place)
    return found


def of_templates() -> Iterator[tuple[str, str]]:
    environment = Environment(autoescape=True)
    for path in sorted(PAGES.glob("*.html")):
        tree = environment.parse(path.read_text())
        for call in tree.find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name in {"_", "several"}:
                count = 2 if call.node.name == "several" else 1
                for argument in call.args[:count]:
                    if isinstance(argument, nodes.Const):
                        yield argument.value, path.name


def of_python() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        page = path.parent.name == "web"
        place = str(path.relative_to(PACKAGE))
        for node in ast.walk(ast.parse(path.read_text())):
            arguments: list[ast.expr] = []
            if isinstance(node, ast.Call):
                arguments = templates_of(node, page=page)
            elif isinstance(node, ast.Dict) and place.startswith("core/"):
                arguments = [
                    value for value in node.values if any(map(is_filled, constants(value)))
                ]
            for argument in arguments:
                for text in constants(argument):
                    yield text, place


def templates_of(call: ast.Call, *, page: bool) -> list[ast.expr]:
    """Return the arguments of a call that are templates."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name == "set" and len(call.args) > 1 and ast.unparse(call.args[0]).startswith("Activity."):
        return call.args[1:2]
    if name in {"text", "several"} and not (page and isinstance(function, ast.Attribute)):
        return []
    if name == "RuntimeState":
        return call.args[2:3]
    if page and name.endswith("Error"):
        return call.args[:1]
    return call.args[: COUNTS.get(name, 0)]


def is_filled(text: str) -> bool:
    """Whether a text of one of the core's tables has values to fill in, and so is a template."""
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    except ValueError:
        return False
    return any(name.isidentifier() for name in fields)


def constants(node: ast.expr) -> Iterator[str]:
    """Return the texts that an argument can be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from constants(node.body)
        yield from constants(node.orelse)


def of_data() -> Iterator[tuple[str, str]]:
    for text in (*TEMPLATES.values(), UNKNOWN_TEMPLATE):
        yield text, "pleb_shared/protocol/reasons.py"
    for text in DAY_NAMES.values():
        yield text, "core/schedule.py"
    for one in PREFERENCES.values():
        for text in (one.title, one.description, one.none):
            if text:
                yield text, "core/preferences.py"
    for group in Group:
        if group is not Group.PROJECTS:  # the page shows shares with the projects
            yield group.value, "core/preferences.py"
    for preset in PRESETS.values():
        yield preset.label, "core/presets.py"
        yield preset.help, "core/presets.py"
