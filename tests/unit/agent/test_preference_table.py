"""The table of preferences, and changing them by what people type and by the page's JSON."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pleb_agent.core.preference_table import (
    PREFERENCES,
    Kind,
    PreferenceError,
    all_values,
    changed,
    changes_between,
    find,
    show,
    show_value,
)
from pleb_agent.core.preferences import Group, Notifications, Preferences
from pleb_shared.errors import InputError

MINE = Preferences(
    threads=4,
    pause_programs=["steam", "vlc"],
    shares={"words": 50, "my.project": 20},
    memory_bytes_idle=2**32,
    download_bytes_per_second=500 * 2**10,
    hours="mon-fri 20:00-08:00",
    notifications=Notifications(problem=True),
)


def after(**values):
    return msgspec.structs.replace(MINE, **values)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("idle_minutes", "5", after(idle_minutes=5)),
        ("idle_minutes", " 2.5 min", after(idle_minutes=2.5)),
        ("idle_minutes", 7, after(idle_minutes=7)),
        ("threads", "2", after(threads=2)),
        ("threads", 2.0, after(threads=2)),
        ("on_battery", "on", after(on_battery=True)),
        ("on_battery", "Yes", after(on_battery=True)),
        ("nice", "off", after(nice=False)),
        ("nice", False, after(nice=False)),
        ("battery_percent", "40%", after(battery_percent=40)),
        ("cpu_others_percent", "none", after(cpu_others_percent=None)),
        ("cpu_others_percent", None, after(cpu_others_percent=None)),
        ("hottest_celsius", "80 °C", after(hottest_celsius=80)),
        ("hottest_celsius", "80C", after(hottest_celsius=80)),
        ("watts_per_thread", "12.5W", after(watts_per_thread=12.5)),
        ("memory_bytes_idle", "3GB", after(memory_bytes_idle=3 * 2**30)),
        ("memory_bytes_idle", 3 * 2**30, after(memory_bytes_idle=3 * 2**30)),
        ("memory_bytes_idle", "None", after(memory_bytes_idle=None)),
        ("upload_bytes_per_second", "100 KB/s", after(upload_bytes_per_second=100 * 2**10)),
        ("hours", "sat 00:00-24:00", after(hours="sat 00:00-24:00")),
        ("hours", "20:00-08:00", after(hours="20:00-08:00")),
        ("language", "de-AT", after(language="de-AT")),
        ("proxy", "user:pass@[::1]:3128", after(proxy="user:pass@[::1]:3128")),
        ("hours", "always", after(hours="")),
        ("hours", "", after(hours="")),
        ("network_hours", "none", after(network_hours="")),
        ("proxy", "none", after(proxy="none")),
        ("proxy", "", after(proxy="")),
        ("pause_programs", "+blender", after(pause_programs=["steam", "vlc", "blender"])),
        ("pause_programs", "+steam", MINE),
        ("pause_programs", "-steam", after(pause_programs=["vlc"])),
        ("pause_programs", "-vlc, + blender", after(pause_programs=["steam", "blender"])),
        ("pause_programs", "-nothing", MINE),
        ("pause_programs", "gimp, krita,gimp", after(pause_programs=["gimp", "krita"])),
        ("pause_programs", "", after(pause_programs=[])),
        ("pause_programs", "none", after(pause_programs=[])),
        ("pause_programs", ["gimp"], after(pause_programs=["gimp"])),
        ("shares.words", "200", after(shares={"words": 200, "my.project": 20})),
        ("shares.my.project", 30, after(shares={"words": 50, "my.project": 30})),
        ("shares.new", "7", after(shares={"words": 50, "my.project": 20, "new": 7})),
        ("shares.words", "none", after(shares={"my.project": 20})),
        ("shares", {"b": 3}, after(shares={"b": 3})),
        ("shares", "none", after(shares={})),
        (
            "notifications.update",
            "on",
            after(notifications=Notifications(problem=True, update=True)),
        ),
        (
            "notifications",
            {"first_accepted": False},
            after(notifications=Notifications(first_accepted=False, problem=True)),
        ),
    ],
)
def test_a_change_changes_only_what_it_names(name, value, expected):
    assert changed(MINE, {name: value}) == expected


def test_many_changes_are_one():
    texts = {"idle_minutes": "5", "threads": "3", "shares.words": "none", "shares.b": "3"}
    expected = after(idle_minutes=5, threads=3, shares={"my.project": 20, "b": 3})
    assert changed(MINE, texts) == expected


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("idle_minutes", "abc", "idle_minutes cannot be 'abc': it takes 0 min to 1440 min; an"),
        ("idle_minutes", -1, "an example is idle_minutes=3 min."),
        ("idle_minutes", float("nan"), "0 min to 1440 min"),
        ("idle_minutes", "inf", "0 min to 1440 min"),
        ("idle_minutes", "none", "0 min to 1440 min;"),
        ("threads", 0, "whole numbers from 1 to 4096"),
        ("threads", "1.5", "whole numbers from 1 to 4096"),
        ("threads", True, "whole numbers from 1 to 4096"),
        ("threads", None, "whole numbers from 1 to 4096"),
        ("threads", [1], "whole numbers from 1 to 4096"),
        ("cpu_percent_idle", "0", "1 % to 100 %"),
        ("cpu_others_percent", 101, "1 % to 100 %, or none (never pause"),
        ("memory_bytes_idle", "4", "1 MB to 16 TB, or none (half of all)"),
        ("memory_bytes_idle", "much", "memory_bytes_idle=4GB"),
        ("download_bytes_per_second", "1 B/s", "1 KB/s to 1 TB/s, or none"),
        ("on_battery", "maybe", "on or off"),
        ("on_battery", 1, "on or off"),
        ("hours", "mon", "the hours 'mon' are not understood; an example is 'mon-fri 20"),
        ("hours", 3, "hours of the week"),
        ("pause_programs", 3, "+NAME and -NAME"),
        ("pause_programs", "+", "+NAME and -NAME"),
        ("proxy", 5, "an example is proxy=http://proxy.example:3128"),
        ("proxy", "foo", "proxy cannot be that: it is not an address like http://HOST:PORT"),
        ("proxy", "socks5://127.0.0.1:1080", "SOCKS is not supported"),
        ("language", "klingon", "it is none of en (English), de (Deutsch)"),
        ("language", 5, "an example is language=de"),
        ("shares", "200", "an example is shares.words=200"),
        ("shares.words", 0, "an example is shares.words=200"),
        ("shares.words", "x" * 900, "…: it takes"),
        ("notifications", "on", "an example is notifications.problem=on"),
        ("notifications", {"all": True}, "an example is notifications.problem=on"),
    ],
)
def test_a_refusal_says_what_is_allowed(name, value, words):
    with pytest.raises(PreferenceError) as caught:
        changed(MINE, {name: value})
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300
    assert caught.value.name == name
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("idle_minute", "did you mean 'idle_minutes'?"),
        ("notifications.problems", "did you mean 'notifications.problem'?"),
        ("memory_bytes", "did you mean 'memory_bytes_i"),
        ("idle_minutes.x", "did you mean 'idle_minutes'?"),
        ("version", "prefs list"),
        ("", "prefs list"),
        ("qqq", "prefs list"),
    ],
)
def test_an_unknown_name_gets_the_nearest_one_suggested(name, words):
    with pytest.raises(PreferenceError) as caught:
        changed(MINE, {name: 1})
    assert f"There is no preference {name!r}" in str(caught.value)
    assert words in str(caught.value)
    assert caught.value.name == name


def test_if_one_change_is_wrong_none_is_made():
    before = msgspec.structs.replace(MINE)
    with pytest.raises(PreferenceError, match="threads"):
        changed(MINE, {"pause_programs": "+x", "shares.b": 3, "threads": "0"})
    assert before == MINE


# -- the table ------------------------------------------------------------------------------


def test_every_preference_is_in_the_table():
    fields = set(msgspec.structs.asdict(Preferences())) - {"version", "notifications"}
    parts = {f"notifications.{name}" for name in Notifications.__struct_fields__}
    assert set(PREFERENCES) == fields | parts


def test_preferences_are_listed_by_groups():
    groups = [one.group for one in PREFERENCES.values()]
    assert list(dict.fromkeys(groups)) == list(Group)
    assert groups == sorted(groups, key=list(Group).index)


@pytest.mark.parametrize("one", PREFERENCES.values(), ids=lambda one: one.name)
def test_each_says_what_it_is_and_its_example_works(one):
    assert one.title
    assert one.description.endswith(".")
    assert len(one.description) < 100
    part = {"shares": ".words", "device_shares": ".cuda-0"}.get(one.name, "")
    name = one.name + part
    assert isinstance(changed(Preferences(), {name: one.example}), Preferences)


@pytest.mark.parametrize("one", PREFERENCES.values(), ids=lambda one: one.name)
def test_none_is_allowed_where_its_meaning_is_given(one):
    if one.none:
        assert show_value(changed(MINE, {one.name: None}), one.name) == "none"
    elif one.kind is not Kind.WEIGHTS and "." not in one.name:
        with pytest.raises(PreferenceError):
            changed(MINE, {one.name: None})


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("idle_minutes", 0, 1440), ("shares.x", 1, 1000), ("memory_bytes_idle", 2**20, 2**44)],
)
def test_ranges_are_those_of_the_type(name, least, most):
    assert (find(name).least, find(name).most) == (least, most)


NUMBERS = {Kind.NUMBER, Kind.BYTES, Kind.RATE}


@pytest.mark.parametrize(
    "one", [one for one in PREFERENCES.values() if one.kind in NUMBERS], ids=lambda one: one.name
)
def test_bounds_are_inclusive(one):
    assert one.least is not None
    assert one.most is not None
    for bound in (one.least, one.most):
        new = changed(Preferences(), {one.name: show(one.name, bound)})
        assert isinstance(new, Preferences)
    for beyond in (one.least - 0.01, one.most + 1):
        with pytest.raises(PreferenceError):
            changed(Preferences(), {one.name: beyond})


def test_what_is_shown_can_be_typed():
    texts = {name: show(name, value) for name, value in all_values(MINE).items()}
    assert changed(Preferences(), texts) == MINE


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("idle_minutes", "3 min"),
        ("hours", "mon-fri 20:00-08:00"),
        ("network_hours", "always"),
        ("memory_bytes_idle", "4 GB"),
        ("memory_bytes_in_use", "none"),
        ("download_bytes_per_second", "500 KB/s"),
        ("pause_programs", "steam, vlc"),
        ("notifications.problem", "on"),
        ("shares", "words=50, my.project=20"),
        ("shares.my.project", "20"),
        ("shares.unheard", "100"),
    ],
)
def test_values_are_shown_for_people(name, text):
    assert show_value(MINE, name) == text


def test_unknown_preferences_have_no_value():
    for name in ("version", "idle", "notifications.x", "notifications"):
        with pytest.raises(InputError, match="There is no preference"):
            show_value(MINE, name)
    assert find("shares.x") is find("shares")


@given(st.dictionaries(st.text(max_size=30), st.none() | st.text(max_size=20) | st.floats()))
def test_any_other_name_is_refused_with_a_sentence(changes):
    names = {*Preferences.__struct_fields__, "notifications"}
    unknown = {
        name: value for name, value in changes.items() if name.partition(".")[0] not in names
    }
    assume(unknown)
    with pytest.raises(PreferenceError, match=r"(?s)There is no preference .*[.?]$"):
        changed(MINE, unknown)


def test_what_a_change_changed_is_told_with_the_old_and_the_new_values():
    before = Preferences(threads=4)
    after = changed(before, {"idle_minutes": 20, "shares.words": 200})
    assert str(changes_between(before, after)) == (
        f"You changed {find('idle_minutes').title}: {show_value(before, 'idle_minutes')} → 20 min; "
        f"{find('shares').title} (words): 100 → 200."
    )
    assert changes_between(before, before) is None
    many = changed(after, dict.fromkeys(("on_battery", "while_in_use", "keep_awake"), True))
    many = changed(many, {"hours": "mon 8:00-9:00", "proxy": "none", "threads": 2})
    assert str(changes_between(before, many)).endswith("; and 4 more.")
