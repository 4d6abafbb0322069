"""What a stranger calls himself must not command the terminal of whoever reads it."""

from __future__ import annotations

import pytest

from pleb_shared.protocol.shown import shown, shown_line


@pytest.mark.parametrize(
    ("evil", "spelled"),
    [
        ("\x1b]0;pwned\x07", r"\x1b]0;pwned\x07"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb", r"a\rb"),
        ("user\u202egnp.exe", r"user\u202egnp.exe"),
        ("\u2066hidden\u2069", r"\u2066hidden\u2069"),
        ("\x00", r"\x00"),
        ("zero\u200bwidth\u200d\ufeff", r"zero\u200bwidth\u200d\ufeff"),
        ("tag\U000e0041\U000e007f", r"tag\U000e0041\U000e007f"),
        ("\u3164\u115f\uffa0", r"\u3164\u115f\uffa0"),
        ("a\ufe01b\U000e0101", r"a\ufe01b\U000e0101"),
        ("\u2028", r"\u2028"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_spelled_out(evil: str, spelled: str) -> None:
    assert shown(evil) == shown_line(evil) == spelled


def test_words_of_all_languages_stay() -> None:
    text = "Zoë 東京\u3000🖥\ufe0f Δ ≥ 0.5\ttab 1\u202f000\u00a0kB"
    assert shown_line(text) == text


def test_a_line_break_cannot_forge_a_line() -> None:
    assert shown_line("me\nadmin  trusted") == r"me\nadmin  trusted"
    assert shown("a sentence.\nand another") == "a sentence.\nand another"
