"""Signals and rows: which addresses are understood, which values pass, what is refused."""

from __future__ import annotations

import pytest

from pleb_agent.control.live_rules import LiveRules, rules_of
from pleb_agent.core.signals import (
    NO_RULES,
    Row,
    Signal,
    Source,
    Test,
    number_of,
    period_seconds,
)
from pleb_shared.errors import InputError


@pytest.mark.parametrize(
    ("address", "more", "source", "period"),
    [
        ("/var/lib/price", {}, Source.FILE, 4),
        ("~/price.txt", {}, Source.FILE, 4),
        ("C:\\price.txt", {}, Source.FILE, 4),
        ("https://api.example.org/now", {}, Source.HTTP, 60),
        ("http://192.168.1.5/now", {}, Source.HTTP, 4),
        ("http://fritz.fritz.box/now", {"every_seconds": 30}, Source.HTTP, 30),
        ("http://172.15.0.1/x", {}, Source.HTTP, 60),
        ("http://ha.local:8123", {"entity": "sensor.price"}, Source.HOME_ASSISTANT, 4),
        ("mqtt://broker.lan/solar/surplus", {}, Source.MQTT, 60),
        ("mqtts://me@broker.lan:8884/a", {"token_file": "/t"}, Source.MQTT, 60),
        ("sensor:cpu", {}, Source.SENSOR, 4),
        ("/home/a/Work.ICS", {"word": "focus"}, Source.CALENDAR, 30),
        ("hours:mon-fri 22:00-07:00", {}, Source.HOURS, 60),
    ],
)
def test_an_address_says_what_it_is(address, more, source, period):
    signal = Signal(name="S", address=address, **more)
    assert (signal.source, period_seconds(signal)) == (source, period)
    assert signal.oldest_seconds > period


@pytest.mark.parametrize(
    ("signal", "said"),
    [
        ({"address": "price.txt"}, "is no address"),
        ({"address": "ftp://host/x"}, "is no address"),
        ({"address": "https://"}, "names no host"),
        ({"address": "https://u:secret@host/x"}, "a password belongs into a file"),
        ({"address": "mqtt://host"}, "names one topic"),
        ({"address": "mqtt://host/a/+/b"}, "names one topic"),
        ({"address": "sensor:moon"}, "sensor:cpu and sensor:fan"),
        ({"address": "hours:sometimes"}, "are not understood"),
        ({"address": "/f", "entity": "sensor.x"}, "an entity does not belong"),
        ({"address": "/f", "word": "x"}, "a word does not belong"),
        ({"address": "/f", "token_file": "/t"}, "a token file does not belong"),
        ({"address": "sensor:cpu", "pointer": "/a"}, "a JSON pointer does not belong"),
        ({"address": "/f", "pointer": "a/b"}, "is no JSON pointer"),
        ({"address": "/f", "name": " x"}, "no space at its ends"),
        ({"address": "/f", "name": "a\x1b"}, "printable"),
        ({"address": "/f", "every_seconds": 1}, "Expected `int` >= 2"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(signal, said):
    with pytest.raises(InputError, match="The rules cannot be that") as caught:
        rules_of({"signals": [{"name": "S"} | signal]})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"signal": "T", "test": "below", "limit": 1}, "there is no signal 'T'"),
        ({"signal": "S", "test": "below"}, "`below` needs a number"),
        ({"signal": "S", "test": "during"}, "says below or above"),
        ({"signal": "H", "test": "below", "limit": 1}, "says during or outside"),
        ({"signal": "H", "test": "during", "limit": 1}, "`during` takes no number"),
        ({"signal": "S", "test": "below", "limit": 1, "resume": 2}, "resumes below the limit 1"),
        ({"signal": "S", "test": "above", "limit": 1, "resume": 0}, "resumes above the limit 1"),
        ({"signal": "S", "test": "near", "limit": 1}, "Invalid enum value"),
        ({"signal": "S", "test": "below", "limit": 1e300}, "<= 1"),
    ],
)
def test_a_row_that_means_nothing_is_refused(row, said):
    signals = [{"name": "S", "address": "/f"}, {"name": "H", "address": "hours:20:00-22:00"}]
    with pytest.raises(InputError) as caught:
        rules_of({"signals": signals, "rows": [row]})
    assert said in str(caught.value)


def test_names_are_used_once():
    twice = [{"name": "S", "address": "/f"}, {"name": "S", "address": "/g"}]
    with pytest.raises(InputError, match="two signals called 'S'"):
        rules_of({"signals": twice})


@pytest.mark.parametrize(
    ("row", "value", "held", "passes"),
    [
        (Row("S", Test.BELOW, 0.25), 0.2499, False, True),
        (Row("S", Test.BELOW, 0.25), 0.25, False, False),
        (Row("S", Test.BELOW, 0.25), 0.24, True, False),
        (Row("S", Test.BELOW, 0.25), 0.2374, True, True),
        (Row("S", Test.BELOW, 0.25, 0.2), 0.21, True, False),
        (Row("S", Test.BELOW, 0.25, 0.2), 0.19, True, True),
        (Row("S", Test.BELOW, -5), -6, False, True),
        (Row("S", Test.BELOW, -5), -5.1, True, False),
        (Row("S", Test.ABOVE, 1500), 1501, False, True),
        (Row("S", Test.ABOVE, 1500), 1501, True, False),
        (Row("S", Test.ABOVE, 1500), 1576, True, True),
        (Row("S", Test.DURING), 1, False, True),
        (Row("S", Test.DURING), 0, True, False),
        (Row("S", Test.OUTSIDE), 1, False, False),
        (Row("S", Test.OUTSIDE), 0, True, True),
    ],
)
def test_a_row_that_has_stopped_work_asks_for_more(row, value, held, passes):
    assert row.passes(value, held=held) is passes


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3.0),
        ("0,31", 0.31),
        (" 21.5 °C\n", 21.5),
        ("on", 1.0),
        ("not_home", 0.0),
        (True, 1.0),
        ("unavailable", None),
        ("", None),
        ("nan", None),
        ("1e999", None),
        (None, None),
        ([1], None),
    ],
)
def test_what_is_a_number(value, number):
    assert number_of(value) == number


def test_rules_are_kept_and_a_damaged_file_is_said(tmp_path):
    file = tmp_path / "rules.json"
    live = LiveRules(file)
    assert live.current == NO_RULES
    found = rules_of(
        {
            "signals": [{"name": "S", "address": "/f", "unit": "W"}],
            "rows": [{"signal": "S", "test": "above", "limit": 5}],
            "match": "any",
        }
    )
    live.replace(found)
    assert LiveRules(file).current == found
    assert file.stat().st_mode & 0o077 == 0
    for damaged in (b"", b"{", b'{"version": 2}', b'{"rows": [{"signal": "S", "test": "below"}]}'):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=r"correct rules\.json, or delete it"):
            LiveRules(file)
