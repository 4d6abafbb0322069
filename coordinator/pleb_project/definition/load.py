"""From the text of a project file to its definition, or to an error that shows the place."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import types
import typing
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from pleb_project.definition.consistency import complaints
from pleb_project.definition.errors import DefinitionError
from pleb_project.definition.fields import ProjectDefinition
from pleb_project.definition.places import Place, find_places
from pleb_project.definition.rules import REQUIRED, rule_of
from pleb_shared.errors import InputError

if typing.TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PROJECT_FILE", "load_definition", "parse_definition", "sections"]

PROJECT_FILE: Final = "project.toml"
_SYNTAX_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_TYPE_NAMES: Final = {
    str: "a text in quotes",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "a table, such as { width = 16 }",
    tuple: "a text in quotes, or a list of such texts",
}


def load_definition(path: Path, overrides: tuple[str, ...] = ()) -> ProjectDefinition:
    """Return the project defined by `path`, a project file or the folder that has one.

    `overrides` are lines such as `training.versions=3`, which replace what the file says.

    Raises:
        DefinitionError: the file is wrong; the message shows where and what to write.
        InputError: there is no such file, or an override is not `section.key=value`.
    """
    file = path / PROJECT_FILE if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        message = f"There is no {file}: `pleb-project new {path}` makes a project to start from."
        raise InputError(message) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read as UTF-8 text: {error}.") from error
    return parse_definition(text, file, overrides)


def parse_definition(text: str, file: Path, overrides: tuple[str, ...] = ()) -> ProjectDefinition:
    """Return the project defined by `text`; `file` is where it came from, for errors and paths.

    Raises:
        DefinitionError: the text is wrong.
        InputError: an override is.
    """
    source = _Source(file, text)
    document = source.parse()
    for line in overrides:
        _override(document, line)
    values = {name: _section(source, name, kind, document) for name, kind in sections().items()}
    for name in document:
        if name not in values:
            source.unknown((name,), list(values), f"There is no section [{name}]")
    definition = ProjectDefinition(**values, folder=file.parent)
    for path, sentence in complaints(definition):
        source.fail(path, sentence)
    return definition


def sections() -> dict[str, type]:
    """Return the dataclass of every section by its name, in the order of the documentation."""
    hints = typing.get_type_hints(ProjectDefinition)
    del hints["folder"]
    return {name: _plain(hint) for name, hint in hints.items()}


@dataclass(frozen=True)
class _Source:
    file: Path
    text: str

    def parse(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise self._syntax(str(error)) from error

    def fail(self, path: tuple[str, ...], sentence: str, *, key: bool = False) -> NoReturn:
        places = find_places(self.text)
        for length in range(len(path), 0, -1):
            if path[:length] in places:
                place = places[path[:length]][0 if key else 1]
                raise DefinitionError(self.file, self.text, place, sentence)
        raise DefinitionError(self.file, self.text, Place(1, 1), sentence)

    def unknown(self, path: tuple[str, ...], known: list[str], sentence: str) -> NoReturn:
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        hint = f": did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}."
        self.fail(path, sentence + hint, key=True)

    def _syntax(self, message: str) -> DefinitionError:
        match = _SYNTAX_PLACE.search(message)
        lines = self.text.splitlines() or [""]
        end = Place(len(lines), len(lines[-1]) + 1)
        place = Place(int(match[1]), int(match[2])) if match and match[1] else end
        reason = message[: match.start()] if match else message
        sentence = f"This is not TOML: {reason[:1].lower()}{reason[1:]}. Write `key = value`."
        return DefinitionError(self.file, self.text, place, sentence)


def _section(source: _Source, name: str, kind: type, document: dict[str, Any]) -> Any:
    required = [f.name for f in dataclasses.fields(kind) if _is_required(f)]
    if name not in document:
        optional = not required or name == "target"
        if not optional:
            source.fail((), f"The section [{name}] is missing: write it with {required[0]} = ...")
        return None if name == "target" else kind()
    table = document[name]
    if not isinstance(table, dict):
        source.fail((name,), f"{name!r} must be a section: write [{name}] on a line of its own.")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    for key in table:
        if key not in fields:
            source.unknown((name, key), list(fields), f"[{name}] has no key {key!r}")
    for key in required:
        if key not in table:
            text = rule_of(fields[key]).text
            source.fail((name,), f"[{name}] needs {key} = ... ({text}).")
    return kind(**{k: _value(source, (name, k), v, fields[k], hints[k]) for k, v in table.items()})


def _value(
    source: _Source, path: tuple[str, ...], value: Any, field: dataclasses.Field[Any], hint: Any
) -> Any:
    kind = _plain(hint)
    converted = _convert(value, kind)
    if converted is None:
        source.fail(path, f"{path[-1]} must be {_TYPE_NAMES[kind]}, not {_spelled(value)}.")
    complaint = rule_of(field).complaint(converted)
    if complaint:
        source.fail(path, f"{path[-1]} {complaint}, not {_spelled(value)}.")
    return converted


def _convert(value: Any, kind: type) -> Any:
    """Return `value` as `kind`, or None where it is something else."""
    if kind is tuple:
        items = [value] if isinstance(value, str) else value
        fits = isinstance(items, list) and all(isinstance(item, str) for item in items)
        return tuple(items) if fits else None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, bool):
        return None
    return value if isinstance(value, kind) else None


def _plain(hint: Any) -> type:
    """Return the class behind `X | None`, `tuple[str, ...]` or `dict[str, Any]`."""
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    origin = typing.get_origin(hint) or hint
    return typing.cast("type", origin)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is REQUIRED and field.default_factory is REQUIRED


def _spelled(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)


def _override(document: dict[str, Any], line: str) -> None:
    key, equals, value = line.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and name):
        message = f"--set {line!r} is not SECTION.KEY=VALUE, such as training.versions=3."
        raise InputError(message)
    try:
        parsed = tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    table = document.setdefault(section, {})
    if isinstance(table, dict):
        table[name] = parsed
