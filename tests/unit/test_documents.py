"""The documents name files that are there, and every command that there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from pleb_agent.cli.parser import make_parser
from tests.parsers import record_commands

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]
PACKAGES = (
    "agent/pleb_agent",
    "coordinator/pleb_coordinator",
    "coordinator/pleb_project",
    "shared/pleb_shared",
    "shared/pleb_system",
)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
NAMED = re.compile(r"`([a-z_.]+/[\w./-]+\.(?:py|md|html|sh|json|yml))`")
HOP = re.compile(r"`([a-z_]+/[a-z_]+)\.([A-Z]?\w+)(?:\.(\w+))?`")
"""A function as `module.function` or `module.Class.method`."""
OUTSIDE = ("keys/", "metadata/", "repository/")
"""Files of whoever follows a document, not of this tree."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_document_names_is_there(page):
    text = page.read_text("utf-8")
    links = [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    folders = [ROOT, ROOT / "agent", *(ROOT / package for package in PACKAGES)]
    files = [
        name
        for name in NAMED.findall(text)
        if not name.startswith(OUTSIDE) and not any((one / name).exists() for one in folders)
    ]
    assert (links, files) == ([], [])


@pytest.mark.parametrize(
    "command", [pytest.param(one, id=one.prog) for one in record_commands(make_parser)[1]]
)
def test_every_command_is_documented_and_has_an_example(command):
    assert f"Example: {command.prog}" in command.format_help()
    name = command.prog.removeprefix("pleb-agent ")
    texts = " ".join(page.read_text("utf-8") for page in PAGES)
    assert re.search(rf"`(?:pleb-agent )?{name}\b|pleb-agent {name}\b", texts)


def test_the_walk_of_a_unit_names_functions_that_are_there():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    walk = text.partition("## A unit in the agent")[2].partition("\n## ")[0]
    hops = [hop for hop in HOP.findall(walk) if hop[1] != "py"]
    assert len(hops) > 15
    for module, name, method in hops:
        tree = ast.parse((ROOT / "agent" / "pleb_agent" / f"{module}.py").read_text("utf-8"))
        (found,) = [one for one in tree.body if getattr(one, "name", "") == name]
        members = [getattr(one, "name", "") for one in getattr(found, "body", [])]
        assert not method or method in members, (module, name, method)
