"""A real agentd with rules on real signals: a price server, Home Assistant, a file, a calendar."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from tests.signal_world import answering, now, running_agentd


@pytest.fixture(scope="module")
def agentd(tmp_path_factory):
    with running_agentd(tmp_path_factory.mktemp("signals")) as found:
        yield found


@pytest.fixture(autouse=True)
def no_rules(agentd):
    yield
    agentd.api("POST", "rules", rules={}).raise_for_status()


def test_a_price_on_the_network_stops_and_resumes_work(agentd):
    with answering() as server:
        server.json["/now"] = {"data": [{"price": 0.2}]}
        agentd.cli(
            *("rules", "signal", "Electricity", f"{server.url}/now"),
            *("--pointer", "/data/0/price", "--unit", "€/kWh"),
        )
        agentd.cli("rules", "add", "Electricity", "below", "0.25")
        agentd.wait_until_read("ready")
        assert "is at 0.2 €/kWh" in agentd.cli("rules", "read", "Electricity").stdout
        reactions = []
        for price, rule, words in (
            (0.31, "signals", "Electricity is at 0.31 €/kWh; work resumes below 0.2375 €/kWh."),
            (0.24, "", ""),
            (0.2, "ready", ""),
        ):
            server.json["/now"] = {"data": [{"price": price}]}
            if rule:
                reactions.append(agentd.wait_for(rule, now(), words))
        print("reactions to a price:", reactions)
        shown = agentd.cli("rules").stdout
        assert "Electricity is at 0.2 €/kWh." in shown
        gone = now()
    # The server is gone: what is not known counts as no.
    agentd.wait_for("signals", gone, "does not answer")
    assert agentd.rules()["allowed"] is False


def test_home_assistant_is_asked_with_a_token_from_a_private_file(agentd, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret\n")
    token.chmod(0o600)
    with answering(token="secret") as home:
        path = "/api/states/sensor.surplus"
        home.json[path] = {"entity_id": "sensor.surplus", "state": "2000"}
        agentd.cli(
            *("rules", "signal", "Surplus", home.url, "--entity", "sensor.surplus"),
            *("--token-file", token, "--unit", "W"),
        )
        agentd.cli("rules", "add", "Surplus", "above", "1500", "--resume", "1800")
        agentd.wait_until_read("ready")
        reactions = []
        for state, rule, words in (
            ("300", "signals", "Surplus is at 300 W; work resumes above 1800 W."),
            ("1900", "ready", ""),
            ("unavailable", "signals", "'unavailable' is no number"),
        ):
            home.json[path] = {"entity_id": "sensor.surplus", "state": state}
            reactions.append(agentd.wait_for(rule, now(), words))
        print("reactions to Home Assistant:", reactions)
        for change, said in (
            (home.json.clear, "has no entity sensor.surplus"),
            (lambda: token.write_text("wrong"), "wants a token (HTTP 401)"),
            (lambda: token.chmod(0o644), "chmod 600"),
        ):
            change()
            found = agentd.cli("rules", "read", "Surplus", check=False)
            assert found.returncode
            assert said in found.stderr


def test_a_file_and_any_of_several_rows(agentd, tmp_path):
    heat = tmp_path / "room"
    heat.write_text("21.5 °C\n")
    since = now()
    agentd.cli("rules", "signal", "Room", heat, "--unit", "°C")
    agentd.cli("rules", "signal", "Never", "hours:mon 00:00-00:01")
    agentd.cli("rules", "add", "Never", "during")
    agentd.cli("rules", "add", "Room", "below", "24")
    agentd.wait_for("signals", since, "Never is off")
    changed = now()
    agentd.cli("rules", "match", "any")
    agentd.wait_for("ready", changed)
    changed = now()
    heat.write_text("25")
    agentd.wait_for("signals", changed, "No other rule allows work either.")
    changed = now()
    agentd.cli("rules", "remove", "1")
    agentd.cli("rules", "forget", "Room")
    agentd.wait_for("ready", changed)


def test_a_calendars_events_pause(agentd, tmp_path):
    file = tmp_path / "work.ics"
    file.write_text(calendar("Planning", -600, 3600))
    since = now()
    agentd.cli("rules", "signal", "Calendar", file)
    agentd.cli("rules", "add", "Calendar", "outside")
    agentd.wait_for("signals", since, "Calendar is on; work resumes when it ends, at")
    shown = json.loads(agentd.cli("rules", "--json").stdout)
    assert [row["allows"] for row in shown["rows"]] == [False]


def calendar(title: str, begin: float, end: float) -> str:
    times = [
        (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=each)).strftime("%Y%m%dT%H%M%SZ")
        for each in (begin, end)
    ]
    event = [
        "BEGIN:VEVENT",
        "UID:1",
        f"SUMMARY:{title}",
        f"DTSTART:{times[0]}",
        f"DTEND:{times[1]}",
    ]
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:t", *event, "END:VEVENT", "END:VCALENDAR"]
    return "\r\n".join([*lines, ""])


def test_wrong_rules_are_refused_and_change_nothing(agentd):
    agentd.cli("rules", "signal", "Room", "/nowhere/room")
    before = agentd.rules()["rules"]
    for words, said in (
        (("signal", "Room", "room"), "is no address"),
        (("add", "Moon", "below", "3"), "there is no signal 'Moon'"),
        (("add", "Room", "near", "3"), "Write a rule as"),
        (("add", "Room", "below", "warm"), "is no number"),
        (("remove", "7"), "There is no rule 7"),
        (("forget", "Moon"), "There is no signal 'Moon'"),
        (("match", "most"), "Say `all` or `any`"),
        (("read", "Room"), "cannot be read"),
    ):
        found = agentd.cli("rules", *words, check=False)
        assert found.returncode
        assert said in found.stderr
    assert agentd.rules()["rules"] == before


# -- the hook ---------------------------------------------------------------------------------


def test_another_program_pauses_with_a_reason_and_its_own_token(agentd):
    made = json.loads(agentd.cli("hook", "new", "kitchen", "--json").stdout)
    token = made["token"]
    since = now()
    answer = agentd.api("POST", "pause", token, reason="guests", seconds=600)
    assert (answer.status_code, answer.json()) == (200, {"done": True}), "it learns nothing"
    reaction = agentd.wait_for("paused_by_program", since, "automation (guests) for 10 more min.")
    print("reaction to the hook:", reaction)
    since = now()
    assert agentd.api("POST", "resume", token).status_code == 200
    agentd.wait_for("ready", since)

    # It can do and read nothing else, and not end what the user has paused.
    for method, name in (("GET", "status"), ("POST", "stop"), ("POST", "rules"), ("GET", "rules")):
        assert agentd.api(method, name, token).status_code == 403
    since = now()
    agentd.cli("pause")
    agentd.api("POST", "resume", token)
    agentd.api("POST", "pause", token, seconds=1)
    agentd.wait_for("paused_by_user", since)
    assert agentd.decisions()[-1]["rule"] == "paused_by_user"
    since = now()
    agentd.cli("resume")  # the user's own ends both
    agentd.wait_for("ready", since)

    # "Run now" goes before it.
    agentd.api("POST", "pause", token, reason="guests").raise_for_status()
    since = now()
    agentd.cli("boost", "--for", "1h")
    agentd.wait_for("ready", since, "because you asked for it")
    agentd.api("POST", "resume", token).raise_for_status()
    agentd.cli("resume")

    assert "kitchen" in agentd.cli("hook").stdout
    assert token not in (agentd.home / "journal.sqlite").read_bytes().decode("latin-1")
    again = agentd.cli("hook", "new", "kitchen", check=False)
    assert "already: revoke it first" in again.stderr
    agentd.cli("hook", "revoke", "kitchen")
    assert agentd.api("POST", "pause", token, reason="x").status_code == 403
    assert agentd.api("POST", "pause", "pleb-hook-guess").status_code == 403


@pytest.mark.parametrize("body", [{"seconds": -1}, {"reason": "x" * 201}, {"until": 5}])
def test_a_body_that_is_not_understood_pauses_nothing(agentd, body):
    made = json.loads(agentd.cli("hook", "new", "other", "--json").stdout)
    answer = agentd.api("POST", "pause", made["token"], **body)
    agentd.cli("hook", "revoke", "other")
    assert answer.status_code == 400
    assert "is not understood" in answer.json()["message"]
