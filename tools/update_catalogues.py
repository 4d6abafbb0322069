"""Find every sentence that the agent shows, and bring its catalogues up to date.

    python -m tools.update_catalogues        add new sentences untranslated, remove unused ones
    python -m tools.update_catalogues pl     the same; starts `pl.po` if there is none

Sentences are, in Jinja2 templates, in `_("...")` and `plural("...", "...")`; in Python, in
`marked`, `say`, `Sentence`, the methods `text` and `plural`, `LiveStatus.set`, `RuntimeState`,
`RuntimeMissing`, `SignalError` and the page's own errors; in data, in the core's tables, the
preferences, the presets and the coordinator's reasons.
"""

from __future__ import annotations

import ast
import json
import string
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, nodes

import pleb_agent
from pleb_agent.core.preference_table import PREFERENCES
from pleb_agent.core.preferences import Group
from pleb_agent.core.presets import PRESETS
from pleb_agent.core.schedule import DAY_NAMES
from pleb_agent.translation.catalogue import parse_po
from pleb_agent.web.page_rendering import TEMPLATES as PAGES
from pleb_shared.protocol.reasons import TEMPLATES, UNKNOWN_TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(pleb_agent.__file__).parent
FOLDER = PACKAGE / "translation"
CALLS = {
    "RuntimeMissing": 1,
    "SignalError": 1,
    "_say": 1,
    "marked": 1,
    "say": 1,
    "Sentence": 1,
    "text": 1,
    "plural": 2,
}
"""How many of the first arguments are templates."""
NEW_HEADER = """Language: {language}
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: 8bit
Plural-Forms: nplurals=2; plural=n != 1;
"""
"""The rule of German; https://www.gnu.org/software/gettext/manual/html_node/Plural-forms.html has
those of other languages."""


def main(languages: list[str]) -> None:
    """Update the catalogues of these languages, or all that exist."""
    wanted = languages or sorted(path.stem for path in FOLDER.glob("*.po"))
    for language in wanted:
        path = FOLDER / f"{language}.po"
        known = parse_po(path.read_text("utf-8")) if path.exists() else {}
        known.setdefault("", NEW_HEADER.format(language=language))
        path.write_text(po_text(known, all_messages()), "utf-8")
        missing = sum(key not in known for key in all_messages())
        print(f"{path}: {missing} to translate")


def po_text(translated: dict[str, str], places: dict[str, str]) -> str:
    """Return a .po file with the messages of `places`, translated where they are known."""
    header = translated[""]
    forms = int(header.partition("nplurals=")[2].partition(";")[0])
    lines = ['msgid ""', 'msgstr ""', *(_quoted(line) for line in header.splitlines(True))]
    for key in sorted(places, key=lambda key: (key.casefold(), key)):
        lines += ["", f"#: {places[key]}"]
        if "{" in key:
            lines.append("#, python-brace-format")
        one, _, many = key.partition("\0")
        lines.append(f"msgid {_quoted(one)}")
        if not many:
            lines.append(f"msgstr {_quoted(translated.get(key, ''))}")
            continue
        lines.append(f"msgid_plural {_quoted(many)}")
        known = translated.get(key, "\0" * (forms - 1)).split("\0")
        lines += [f"msgstr[{n}] {_quoted(form)}" for n, form in enumerate(known)]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def all_messages() -> dict[str, str]:
    """Return every message that has words of its own, as `parse_po` names it, and its file."""
    found: dict[str, str] = {}
    for key, place in (*of_templates(), *of_python(), *of_data()):
        if any(part.strip(" :.,") for part, *_ in string.Formatter().parse(key)):
            found.setdefault(key, place)
    return found


def of_templates() -> Iterator[tuple[str, str]]:
    """Yield the messages of the page's templates."""
    environment = Environment(autoescape=True)
    for path in sorted([*PAGES.glob("*.html"), *PAGES.glob("*.svg")]):
        place = str(path.relative_to(PACKAGE))
        for call in environment.parse(path.read_text()).find_all(nodes.Call):
            name = call.node.name if isinstance(call.node, nodes.Name) else ""
            texts = [one.value for one in call.args[:2] if isinstance(one, nodes.Const)]
            if name == "plural":
                yield "\0".join(texts), place
            elif name == "_" and texts:
                yield texts[0], place


def of_python() -> Iterator[tuple[str, str]]:
    """Yield the messages of Python modules."""
    for path in sorted(PACKAGE.rglob("*.py")):
        place = str(path.relative_to(PACKAGE))
        for node in ast.walk(ast.parse(path.read_text())):
            arguments: list[ast.expr] = []
            if isinstance(node, ast.Call):
                arguments = templates_of(node, page=path.parent.name == "web")
            elif isinstance(node, ast.Dict) and place.startswith("core/"):
                arguments = [
                    value for value in node.values if any(map(is_filled, constants(value)))
                ]
            texts = [text for argument in arguments for text in constants(argument)]
            if isinstance(node, ast.Call) and name_of(node) == "plural":
                texts = ["\0".join(texts)] if texts else []
            yield from ((text, place) for text in texts)


def name_of(call: ast.Call) -> str:
    """Return the name of the function or method that is called."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def templates_of(call: ast.Call, *, page: bool) -> list[ast.expr]:
    """Return the arguments of a call that are templates."""
    name = name_of(call)
    if name == "set" and len(call.args) > 1 and ast.unparse(call.args[0]).startswith("Activity."):
        return call.args[1:2]
    if name in {"text", "plural"} and not (page and isinstance(call.func, ast.Attribute)):
        return []
    if name == "RuntimeState":
        return call.args[2:3]
    if page and name.endswith("Error"):
        return call.args[:1]
    return call.args[: CALLS.get(name, 0)]


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
    """Yield the messages of tables."""
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


if __name__ == "__main__":
    main(sys.argv[1:])
