"""Project metadata: everything that is signed is documented and read by some side."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from pleb_shared.protocol.project import ProjectMetadata

ROOT = Path(__file__).parents[3]
SOURCES = "\n".join(
    file.read_text("utf-8")
    for folder in ("agent", "coordinator", "shared")
    for file in sorted((ROOT / folder).rglob("*.py"))
    if file.name != "project.py" or file.parent.name != "protocol"
)
FIELDS = [field.name for field in msgspec.structs.fields(ProjectMetadata)]


@pytest.mark.parametrize("name", FIELDS)
def test_what_is_signed_is_read(name):
    assert re.search(rf"\.{name}\b", SOURCES)


def test_the_protocol_page_lists_exactly_the_fields():
    page = (ROOT / "docs" / "protocol.md").read_text("utf-8")
    section = page.split("## 4. Project metadata")[1]
    listed = re.match(r"\s*`([^`]+)`", section)
    assert listed is not None
    plain = re.sub(r"\{[^}]*\}|\(optional\)", "", listed[1])
    assert [name.strip() for name in plain.split(",")] == FIELDS
