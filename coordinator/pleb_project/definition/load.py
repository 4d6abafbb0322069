"""From the text of a project file to its definition, or to an error that shows the place."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec
from msgspec import inspect

from pleb_project.definition.chunk_words import parse_chunk
from pleb_project.definition.keys import NO_DEFAULT, Key, keys_of, type_words
from pleb_project.definition.places import DefinitionError, Place, find_places
from pleb_project.definition.sections import (
    OPTIMIZERS,
    OPTIONAL,
    SECTIONS,
    DataSection,
    ProjectDefinition,
    SweepSection,
    Trial,
)
from pleb_shared.errors import InputError
from pleb_shared.protocol import strict_toml
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.own_data import (
    LEAST_QUORUM,
    OWN_READERS,
    OwnSetting,
    refused_for,
    unbounded_by,
)
from pleb_shared.protocol.privacy import SENTENCES, Setting, unearned_by

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["PROJECT_FILE", "load_definition", "parse_definition"]

PROJECT_FILE: Final = "project.toml"
_LEARNING_RATES: Final = {"muon": 0.02, "adamw": 0.003, "sgd": 0.05}
_SOURCES: Final = {
    "csv": "'data.csv'",
    "parquet": "'data/*.parquet'",
    "jsonl": "'data.jsonl'",
    "huggingface": "'my_dataset'",
    "text": "",
    "tokens": "'train.bin'",
    "images": "'train'",
    "audio": "'recordings'",
    "webdataset": "'shards/*.tar'",
    "idx": "['images.gz', 'labels.gz']",
    "npy": "['x.npy', 'y.npy']",
    "npz": "'data.npz'",
    "python": "",
}
"""Each with an example of its files, where it needs some."""
_Complaint = tuple[tuple[str, str], str]
"""Section and key, and the sentence."""
_SWEPT: Final = frozenset({"model", "training", "outer", "codec", "round"})
"""Sections in whose keys trials of a sweep may differ. With other data or another evaluation they
could not be compared."""
_LONGEST_NAME: Final = 40
"""Characters of a `ProjectName`."""
_SHOWN_CHARACTERS: Final = 80
"""Of a value that is refused."""
_PROVISIONAL_TOLERANCE: Final = 0.01
"""Until the tolerance is measured."""


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
    definition = _parse(source, overrides)
    if definition.sweep is None:
        return definition
    trials = tuple(_trials(source, definition.sweep, overrides))
    for trial in trials:
        versions = trial.definition.training.versions
        if any(rung >= versions for rung in definition.sweep.rungs):
            sentence = f"rungs must be below versions, which is {versions}: later ones do nothing."
            source.fail(("sweep", "rungs"), sentence)
    return msgspec.structs.replace(definition, trials=trials)


def _trials(source: _Source, sweep: SweepSection, overrides: tuple[str, ...]) -> Iterator[Trial]:
    """Yield every combination of a sweep's settings with the definition that it gives."""
    for values in product(*sweep.grid.values()):
        texts = [msgspec.json.encode(value).decode() for value in values]
        settings = dict(zip(sweep.grid, texts, strict=True))
        lines = [f"{name}={text}" for name, text in settings.items()]
        try:
            definition = _parse(source, (*overrides, *lines), of_trial=True)
        except InputError as error:
            said = error.sentence if isinstance(error, DefinitionError) else str(error)
            source.fail(("sweep", "grid"), f"A trial with {', '.join(lines)} is refused: {said}")
        yield Trial({name: text.strip('"') for name, text in settings.items()}, definition)


def _parse(
    source: _Source, overrides: tuple[str, ...], *, of_trial: bool = False
) -> ProjectDefinition:
    document = source.parse()
    if of_trial:
        document.pop("sweep", None)
    for line in overrides:
        if not (of_trial and line.startswith("sweep.")):
            _override(document, line)
    for name in document:
        if name not in SECTIONS:
            source.unknown((name,), list(SECTIONS), f"There is no section [{name}]")
    given = {
        name: _section(source, name, keys_of(struct), document)
        for name, struct in SECTIONS.items()
        if name in document or name not in OPTIONAL
    }
    measured = {"tolerance", "tolerance_ceiling", "numerics"} - given["verification"].keys()
    if given["data"].get("where") != "host":  # there a unit reads one shard of its host's own
        measured |= {"shards_per_unit"} - given["training"].keys()
    _work_out(given)
    values: dict[str, Any] = {name: SECTIONS[name](**fields) for name, fields in given.items()}
    values = dict.fromkeys(OPTIONAL) | values
    folder = source.file.parent
    definition = ProjectDefinition(**values, measured=frozenset(measured), folder=folder)
    for path, sentence in _complaints(definition):
        source.fail(path, sentence)
    return definition


@dataclass(frozen=True)
class _Source:
    file: Path
    text: str

    def parse(self) -> dict[str, Any]:
        try:
            return strict_toml.parse(self.text)
        except strict_toml.TomlError as error:
            if error.path:
                self.fail(error.path, f"This value is not read: {error.reason}.")
            lines = self.text.splitlines() or [""]
            place = Place(len(lines), len(lines[-1]) + 1)
            if error.line is not None and error.column is not None:
                place = Place(error.line, error.column)
            sentence = f"This is not TOML: {error.reason}. Write `key = value`."
            raise DefinitionError(self.file, self.text, place, sentence) from error

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


def _section(
    source: _Source, name: str, keys: dict[str, Key], document: dict[str, Any]
) -> dict[str, Any]:
    """Return the fields of a section's struct that the file gives or that have a file default."""
    required = [key for key in keys.values() if key.required]
    if required and name not in document:
        source.fail((), f"The section [{name}] is missing: write it with {required[0].name} = ...")
    table = document.get(name, {})
    if not isinstance(table, dict):
        source.fail((name,), f"{name!r} must be a section: write [{name}] on a line of its own.")
    for key in required:
        if key.name not in table:
            source.fail((name,), f"[{name}] needs {key.name} = ... ({key.text}).")
    defaults = {
        key.field: key.default
        for key in keys.values()
        if key.default is not NO_DEFAULT and not key.default_text
    }
    if name == "training":
        defaults["optimizer"] = _optimizer(source, table)
        table = {key: value for key, value in table.items() if key in keys}
    return defaults | _values(source, name, keys, table)


def _optimizer(source: _Source, table: dict[str, Any]) -> Any:
    """Return the optimizer with those keys of [training] that are its options."""
    name = table.get("optimizer", "muon")
    if name not in OPTIMIZERS:
        choices = ", ".join(map(repr, OPTIMIZERS))
        source.fail(("training", "optimizer"), f"optimizer must be one of {choices}, not {name!r}.")
    options = {optimizer: keys_of(struct) for optimizer, struct in OPTIMIZERS.items()}
    known = keys_of(SECTIONS["training"]) | options[name]
    for key in table:
        owners = [f"{owner!r}" for owner, keys in options.items() if key in keys]
        if key not in known and owners:
            sentence = (
                f"{key} is not an option of {name!r} but of {' and '.join(owners)}: remove it or "
                "change the optimizer."
            )
            source.fail(("training", key), sentence)
        if key not in known:
            source.unknown(("training", key), list(known), f"[training] has no key {key!r}")
    given = {key: value for key, value in table.items() if key in options[name]}
    return OPTIMIZERS[name](**_values(source, "training", options[name], given))


def _values(
    source: _Source, section: str, keys: dict[str, Key], table: dict[str, Any]
) -> dict[str, Any]:
    """Return the checked values of a table, by the names of the struct's fields."""
    values = {}
    for name, value in table.items():
        if name not in keys:
            source.unknown((section, name), list(keys), f"[{section}] has no key {name!r}")
        key = keys[name]
        if key.field == "optimizer":
            continue
        try:
            values[key.field] = _converted(key, value)
        except (msgspec.ValidationError, OverflowError):
            kind, shown = key.kind, repr(value)
            # A text's form is better said by its description than by its type.
            has_form = isinstance(kind, inspect.StrType) and (kind.pattern or kind.min_length)
            wanted = key.text if has_form else type_words(kind)
            if isinstance(value, bool):
                shown = shown.lower()
            shown = shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}..."
            source.fail((section, name), f"{name} must be {wanted}, not {shown}.")
    return values


def _converted(key: Key, value: Any) -> Any:
    if isinstance(value, str) and isinstance(key.kind, inspect.VarTupleType | inspect.ListType):
        value = [value]
    converted = msgspec.convert(value, key.type)
    if isinstance(converted, float) and not math.isfinite(converted):
        message = "not finite"
        raise msgspec.ValidationError(message)
    return converted


def _work_out(given: dict[str, dict[str, Any]]) -> None:
    """Fill in what follows from other keys, or is measured later."""
    training, rounds, rules = given["training"], given["round"], given["verification"]
    name = next(n for n, s in OPTIMIZERS.items() if isinstance(training["optimizer"], s))
    training.setdefault("learning_rate", _LEARNING_RATES[name])
    training.setdefault("shards_per_unit", 1)
    is_private, is_own = "privacy" in given, given["data"].get("where") == "host"
    alone = name == "muon" and not is_private and not is_own
    tenth = round(training["versions"] / 10) if alone else 0
    given["outer"].setdefault("combination", "centred_clipping" if is_own else "mean")
    training.setdefault("warm_start_versions", tenth)
    training.setdefault("warm_start_batches", min(max(2, rounds["units"]), LIMITS.batches_per_step))
    most = rounds["units"]
    usual = max(1, (3 * most + 3) // 4)
    if is_own:
        usual = max(usual, min(most, LEAST_QUORUM))
    rounds.setdefault("quorum", most if is_private else usual)
    rules.setdefault("tolerance", _PROVISIONAL_TOLERANCE)
    rules.setdefault("tolerance_ceiling", max(rules["tolerance"], _PROVISIONAL_TOLERANCE))


def _override(document: dict[str, Any], line: str) -> None:
    key, equals, value = line.partition("=")
    section, dot, name = key.strip().partition(".")
    name, nested, inner = name.partition(".")
    if not (equals and dot and name):
        message = f"--set {line!r} is not SECTION.KEY=VALUE, such as training.versions=3."
        raise InputError(message)
    try:
        parsed = strict_toml.parse(f"value = {value.strip()}")["value"]
    except strict_toml.TomlError:
        parsed = value.strip()
    table = document.setdefault(section, {})
    if nested and isinstance(table, dict):  # such as model.arguments.width
        table, name = table.setdefault(name, {}), inner
    if isinstance(table, dict):
        table[name] = parsed


def _complaints(definition: ProjectDefinition) -> Iterator[_Complaint]:
    """Yield what does not fit, each with its place."""
    yield from _data_complaints(definition.data)
    training, rounds, rules = definition.training, definition.round, definition.verification
    if training.warm_start_versions > training.versions:
        yield ("training", "warm_start_versions"), "warm_start_versions must not exceed versions."
    if rounds.quorum > rounds.units:
        sentence = f"quorum {rounds.quorum} must not exceed units {rounds.units}."
        yield ("round", "quorum"), sentence
    for text in definition.limits.chunks:
        try:
            parse_chunk(text)
        except InputError as error:
            yield ("limits", "chunks"), str(error)
    if len(set(definition.limits.chunks)) < len(definition.limits.chunks):
        yield ("limits", "chunks"), "chunks names one twice: remove one of them."
    yield from _family_complaints(definition)
    yield from _privacy_complaints(definition)
    yield from _own_complaints(definition)
    yield from _showcase_complaints(definition)
    if rules.tolerance_ceiling < rules.tolerance:
        sentence = "tolerance_ceiling must be at least tolerance."
        yield ("verification", "tolerance_ceiling"), sentence


def _privacy_complaints(definition: ProjectDefinition) -> Iterator[_Complaint]:
    if definition.privacy is None:
        return
    setting = Setting(
        warm_start_versions=definition.training.warm_start_versions,
        chunks=len(definition.limits.chunks),
        combination=definition.outer.combination,
        buffers=0,  # known when the model is exported
        units=definition.round.units,
        quorum=definition.round.quorum,
        in_family=definition.ensemble is not None or definition.sweep is not None,
    )
    for reason in unearned_by(setting):
        yield ("privacy", ""), f"[privacy] cannot hold: {SENTENCES[reason]}"


def _own_complaints(definition: ProjectDefinition) -> Iterator[_Complaint]:
    data = definition.data
    if data.where != "host":
        return
    if data.source not in OWN_READERS and data.source not in {"text", "tokens"}:
        sentence = (
            f"hosts cannot read {data.source!r} by themselves: they read "
            f"{', '.join(map(repr, OWN_READERS))}."
        )
        yield ("data", "source"), sentence
    if data.max_length:
        sentence = "hosts do not pad: write examples of one shape, and remove max_length."
        yield ("data", "max_length"), sentence
    setting = OwnSetting(
        is_invited=definition.project.access == "invited",
        quorum=min(definition.round.quorum, definition.round.units),
        combination=definition.outer.combination,
        warm_start_versions=definition.training.warm_start_versions,
        chunks=len(definition.limits.chunks),
        in_family=definition.ensemble is not None or definition.sweep is not None,
        has_privacy=definition.privacy is not None,
        kind="windows" if data.source in {"text", "tokens"} else "rows",
    )
    for reason in unbounded_by(setting):
        yield ("data", "where"), refused_for(reason)


def _family_complaints(definition: ProjectDefinition) -> Iterator[_Complaint]:
    ensemble, sweep = definition.ensemble, definition.sweep
    most = _LONGEST_NAME - len(str(LIMITS.family_members)) - 1
    if (ensemble or sweep) and len(definition.project.name) > most:
        sentence = f"here the name has at most {most} characters: members get numbers."
        yield ("project", "name"), sentence
    if sweep is None:
        return
    if ensemble is not None:
        yield ("sweep", "grid"), "a project file makes an ensemble or a sweep: remove one of them."
    for name, values in sweep.grid.items():
        if name.partition(".")[0] not in _SWEPT or "." not in name:
            sections = ", ".join(f"[{section}]" for section in sorted(_SWEPT))
            sentence = (
                f"{name!r} is no setting that trials may differ in: SECTION.KEY of {sections}."
            )
            yield ("sweep", "grid"), sentence
        if not values:
            yield ("sweep", "grid"), f"{name!r} has no values: give a list."
    count = math.prod(map(len, sweep.grid.values()))
    if not 2 <= count <= LIMITS.family_members or len(sweep.grid) > LIMITS.family_settings:
        sentence = f"grid makes {count} trials: 2 to {LIMITS.family_members} are possible."
        yield ("sweep", "grid"), sentence
    if list(sweep.rungs) != sorted(set(sweep.rungs)):
        yield ("sweep", "rungs"), "rungs must be in ascending order, each once."


def _showcase_complaints(definition: ProjectDefinition) -> Iterator[_Complaint]:
    section, source = definition.showcase, definition.data.source
    if section is None:
        return
    if source == "tokens" or (section.prompt and source != "text"):
        sentence = (
            "tokens of this source cannot be turned into text, since the project file has no "
            'tokenizer: a prompt needs source = "text", whose tokens are bytes. Remove [showcase].'
            if source == "tokens"
            else 'a prompt needs source = "text": write examples = 8 instead.'
        )
        yield ("showcase", "prompt"), sentence
    if source == "text" and not section.prompt:
        yield (
            ("showcase", ""),
            "[showcase] of a text needs prompt = ..., which the model continues.",
        )
    for key in ("examples", "indices", "classes"):
        if section.prompt and getattr(section, key):
            yield ("showcase", key), f"{key} does not go with prompt: remove one."
    if section.examples and section.indices:
        yield ("showcase", "indices"), "indices are examples already: remove examples."


def _data_complaints(data: DataSection) -> Iterator[_Complaint]:
    sklearn = data.source.startswith("sklearn:")
    if not sklearn and data.source not in _SOURCES:
        sentence = (
            f"source {data.source!r} must be 'sklearn:NAME' (like 'sklearn:digits') or one of "
            f"{', '.join(map(repr, _SOURCES))}."
        )
        yield ("data", "source"), sentence
    if sklearn and data.files:
        yield ("data", "files"), "remove files: scikit-learn brings its data sets along."
    if (example := _SOURCES.get(data.source)) and not data.files:
        yield ("data", "source"), f"source {data.source!r} needs files = {example}."
    yield from _group_complaints(data)
    if data.source == "idx":
        for key, files in (("files", data.files), ("holdout_files", data.holdout_files)):
            if len(files) not in {0, 2}:
                yield ("data", key), f"{key} must be two idx files: the images, then the labels."


def _group_complaints(data: DataSection) -> Iterator[_Complaint]:
    given = [key for key in ("split_by", "stratify_by", "shard_by") if getattr(data, key)]
    if given and data.source in {"text", "tokens"}:
        sentence = f"{given[0]} needs examples: {data.source!r} is one long list."
        yield ("data", given[0]), sentence
    if "stratify_by" in given and len(given) > 1:
        sentence = (
            f"stratify_by cannot be combined with {' or '.join({*given} - {'stratify_by'})}, "
            "which decides already how the holdout is chosen: remove one."
        )
        yield ("data", "stratify_by"), sentence
    if data.holdout_files:
        for key in ("split_by", "stratify_by"):
            if key in given:
                sentence = f"{key} chooses a holdout, but holdout_files names one: remove one."
                yield ("data", key), sentence
    if data.holdout_groups and not data.split_by:
        sentence = "holdout_groups needs split_by = ..., the column whose values they are."
        yield ("data", "holdout_groups"), sentence
