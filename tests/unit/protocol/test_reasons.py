"""Reasons are a code and values; every code has its sentence and is given with its values."""

from __future__ import annotations

import ast
import string
from pathlib import Path

import msgspec
import pytest

import pleb_coordinator
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.reasons import (
    TEMPLATES,
    Reason,
    ReasonCode,
    because,
    reason_sentence,
    reason_template,
)

COORDINATOR = Path(pleb_coordinator.__file__).parent
DOCUMENT = Path(__file__).parents[3] / "docs" / "protocol.md"


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def given() -> list[tuple[str, set[str]]]:
    """Return the code and the values' names of every `because(...)` in the coordinator."""
    found = []
    for path in sorted(COORDINATOR.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "because":
                names = {keyword.arg or "**" for keyword in node.keywords}
                found.append((ast.unparse(node.args[0]), names))
    return found


def test_every_code_has_a_template():
    assert set(TEMPLATES) == set(ReasonCode)


def test_whoever_gives_a_reason_gives_its_values():
    calls = given()
    assert len(calls) > 20
    for code, names in calls:
        if code.startswith("ReasonCode."):
            assert names == fields(TEMPLATES[ReasonCode[code.removeprefix("ReasonCode.")]]), code


def test_every_code_is_used():
    sources = "".join(path.read_text() for path in COORDINATOR.rglob("*.py"))
    assert [code for code in ReasonCode if f"ReasonCode.{code.name}" not in sources] == []


@pytest.mark.parametrize("values", [{}, {"count": 1, "text": "x"}, {"number": 1}])
def test_wrong_values_are_a_mistake_of_the_caller(values):
    with pytest.raises(ValueError, match="hosts_agree"):
        because(ReasonCode.HOSTS_AGREE, **values)


def test_a_reason_survives_the_wire_and_becomes_a_sentence():
    reason = because(ReasonCode.ALL_ASSIGNED, version=3)
    assert strict_json.decode(strict_json.encode(reason), Reason) == reason
    assert msgspec.to_builtins(reason) == {"code": "all_assigned", "values": {"version": 3}}
    assert "version 3" in reason_sentence(reason)


def test_a_long_text_is_cut_to_the_protocols_ceiling():
    reason = because(ReasonCode.BANNED_BY_OPERATOR, text="x" * 10_000)
    assert reason.values["text"] == "x" * LIMITS.reason_characters
    assert strict_json.decode(strict_json.encode(reason), Reason) == reason


@pytest.mark.parametrize(
    "reason",
    [
        Reason(code="from_the_future", values={"version": 3}),
        Reason(code="all_assigned"),
        Reason(code="all_assigned", values={"versions": 3}),
    ],
    ids=["unknown code", "no values", "other values"],
)
def test_a_reason_that_this_version_cannot_say_shows_its_code(reason):
    assert reason_template(reason)[1] == {"code": reason.code}
    assert reason.code in reason_sentence(reason)


@pytest.mark.parametrize(
    "wire",
    [
        b'{"code":"Not A Code"}',
        b'{"code":""}',
        b'{"code":"a","values":{"b":[1]}}',
        b'{"code":"a","values":{"B":1}}',
        b'{"code":"a","values":{"b":"%s"}}' % (b"x" * 201),
        b'{"code":"a","values":{%s}}' % b",".join(b'"v%d":1' % n for n in range(9)),
        b'{"code":"a","values":{},"sentence":"b"}',
    ],
)
def test_what_is_no_reason_is_refused(wire):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(wire, type=Reason)


def test_the_protocols_page_has_every_code_with_its_values_and_sentence():
    page = DOCUMENT.read_text()
    for code, template in TEMPLATES.items():
        values = ", ".join(f"`{name}`" for name in sorted(fields(template)))
        assert f"| `{code}` | {values} | {template} |" in page
