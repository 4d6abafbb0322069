"""Reads gettext catalogues from their source, `XX.po`, without a build step.

A wheel, an editable install and the frozen agent all carry the .po files, so there are no compiled
ones that could be missing or older. The tray imports this module and needs no plurals: it takes the
`messages` alone and saves the memory of gettext, pathlib and dataclasses.
"""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import gettext

__all__ = ["catalogue", "messages", "parse_po", "read_po"]

_HERE: Final = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib takes 1 MB
_MAGIC: Final = 0x950412DE


def catalogue(language: str) -> gettext.NullTranslations:
    """Return a language's catalogue; one that translates nothing if there is no such language."""
    import gettext

    text = _source(language)
    return read_po(text) if text else gettext.NullTranslations()


def messages(language: str) -> dict[str, str]:
    """Return a language's translations by the English sentences, without a plural rule."""
    return parse_po(_source(language))


def read_po(text: str) -> gettext.GNUTranslations:
    """Return the catalogue of a .po file's text, plural rule included."""
    import gettext

    return gettext.GNUTranslations(io.BytesIO(_compiled(parse_po(text))))


def _source(language: str) -> str:
    try:
        with open(os.path.join(_HERE, f"{language}.po"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
            return file.read()
    except FileNotFoundError:
        return ""


def parse_po(text: str) -> dict[str, str]:
    r"""Return the translated messages of a .po file.

    As in a .mo file, a plural's key is "singular\0plural" and its value has all forms, joined by
    "\0"; the key of the header is empty. Fuzzy and empty translations are left out.
    """
    found: dict[str, str] = {}
    entry: dict[str, str] = {}
    keyword, fuzzy = "", False
    for line in (*text.splitlines(), ""):
        if line.startswith('"'):
            entry[keyword] += _unquoted(line)
        elif line.startswith("#"):
            fuzzy = fuzzy or (line.startswith("#,") and "fuzzy" in line)
        elif line:
            keyword, _, quoted = line.partition(" ")
            entry[keyword] = _unquoted(quoted)
        elif entry:  # a blank line ends an entry
            forms = [entry[name] for name in sorted(entry) if name.startswith("msgstr")]
            if all(forms) and not fuzzy:
                ids = [entry[name] for name in ("msgid", "msgid_plural") if name in entry]
                found["\0".join(ids)] = "\0".join(forms)
            entry, fuzzy = {}, False
    return found


def _unquoted(text: str) -> str:
    return str(json.loads(text))  # the escapes of .po files are those of JSON


def _compiled(translated: dict[str, str]) -> bytes:
    """Return a .mo file (GNU gettext manual, section 10.3), without its optional hash table."""
    pairs = sorted((key.encode(), value.encode()) for key, value in translated.items())
    texts = [key for key, _ in pairs] + [value for _, value in pairs]
    originals, size = 7 * 4, 2 * 4  # of the header; of a text's length and offset
    translations = originals + size * len(pairs)
    start = translations + size * len(pairs)
    numbers = [_MAGIC, 0, len(pairs), originals, translations, 0, start]
    data = b""
    for text in texts:
        numbers += [len(text), start + len(data)]
        data += text + b"\0"
    return b"".join(number.to_bytes(4, "little") for number in numbers) + data
