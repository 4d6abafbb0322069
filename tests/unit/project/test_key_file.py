"""Root keys at rest: sealed or plain, damaged, interrupted; where passphrases come from."""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import dataclass, field
from types import ModuleType

import pytest

from pleb_project.cli import main
from pleb_project.keys import key_file, passphrase
from pleb_project.keys.key_file import WrongPassphraseError, create_key, read_key, replace_key
from pleb_project.keys.passphrase import Passphrases, given_passphrase
from pleb_project.server.records import Home, ProjectRecord
from pleb_shared.errors import InputError
from pleb_shared.protocol.signing import SigningKey

SECRET = "correct horse battery"
KEY = SigningKey.from_bytes(bytes(range(32)))


@pytest.fixture(autouse=True)
def cheap_guesses(monkeypatch):
    monkeypatch.setattr(key_file, "_SCRYPT_N", 2**10)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keys" / "p.root.key"


@pytest.mark.parametrize("secret", [None, SECRET])
def test_a_root_key_is_private_and_never_written_over(file, secret):
    create_key(file, KEY, secret)
    assert read_key(file).unlock(secret or "").to_bytes() == KEY.to_bytes()
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        create_key(file, KEY, secret)


def test_a_sealed_key_shows_its_public_half_only(file):
    create_key(file, KEY, SECRET)
    assert KEY.to_bytes().hex() not in file.read_text()
    stored = read_key(file)
    assert stored.needs_passphrase
    assert stored.public == KEY.public
    with pytest.raises(WrongPassphraseError, match="not the passphrase"):
        stored.unlock("wrong horse battery")


def test_the_real_cost_of_a_guess(file, monkeypatch):
    monkeypatch.undo()
    create_key(file, KEY, SECRET)
    assert json.loads(file.read_text())["scrypt_n"] == 2**17
    assert read_key(file).unlock(SECRET).public == KEY.public


def test_accents_are_one_however_a_system_types_them(file):
    create_key(file, KEY, "größte Höhe")
    assert read_key(file).unlock("gro\u0308ßte Ho\u0308he").public == KEY.public


def test_a_key_of_an_earlier_release_is_read_and_hinted_at(file):
    file.parent.mkdir()
    file.write_text(f"pleb-cluster root key (Ed25519, keep secret): {KEY.to_bytes().hex()}\n")
    file.chmod(0o600)
    said: list[str] = []
    stored = read_key(file)
    assert Passphrases(say=said.append).unlock(stored, "p").public == KEY.public
    assert "pleb-project key passphrase p" in said[0]
    # Who chose to have none is not told again and again.
    replace_key(file, KEY, None)
    said.clear()
    assert Passphrases(say=said.append).unlock(read_key(file), "p").public == KEY.public
    assert said == []


def test_another_passphrase_replaces_the_file_whole(file):
    create_key(file, KEY, None)
    replace_key(file, KEY, SECRET)
    assert read_key(file).unlock(SECRET).public == KEY.public
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_an_empty_file_of_an_interrupted_first_try_is_no_key(file):
    file.parent.mkdir()
    file.touch(0o600)
    create_key(file, KEY, None)
    assert read_key(file).public == KEY.public


CHANGES = {
    "the public half": {"public": SigningKey.generate().public},
    "a nonce": {"nonce": "AAAAAAAAAAAAAAAA"},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_a_changed_file_does_not_open(file, changes):
    create_key(file, KEY, SECRET)
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(WrongPassphraseError):
        read_key(file).unlock(SECRET)


DAMAGED = {
    "empty": "",
    "no digits": "pleb-cluster root key (Ed25519, keep secret): zz",
    "not ASCII": "ö",
    "half of a sealed file": '{"format":"pleb-cluster root key","version":1',
    "memory without end": {"scrypt_n": 2**40},
    "a later version": {"version": 2},
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_root_key(file, content):
    create_key(file, KEY, SECRET)
    if isinstance(content, dict):
        content = json.dumps(json.loads(file.read_text()) | content)
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="is damaged"):
        read_key(file)


def test_a_root_key_that_others_can_read(file):
    create_key(file, KEY, None)
    file.chmod(0o640)
    with pytest.raises(InputError, match="chmod 600"):
        read_key(file)


def test_a_missing_root_key(file):
    with pytest.raises(InputError, match="is missing"):
        read_key(file)


@dataclass
class PlayedKeyring:
    """A keyring in memory; `open`: whether it takes anything."""

    kept: dict[str, str] = field(default_factory=dict)
    open: bool = True

    def read(self, public):
        return self.kept.get(public)

    def keep(self, public, passphrase):
        if self.open:
            self.kept[public] = passphrase
        return self.open

    def forget(self, public):
        self.kept.pop(public, None)


def person(*answers, keyring=None, **options):
    """Passphrases of a person who types these answers in turn."""
    left = list(answers)
    return Passphrases(
        keyring=keyring or PlayedKeyring(open=False),
        has_terminal=lambda: bool(answers),
        ask=lambda _: left.pop(0),
        **options,
    )


@pytest.fixture
def sealed(file):
    create_key(file, KEY, SECRET)
    return read_key(file)


def test_what_was_typed_right_is_kept_in_the_keyring(sealed):
    ring = PlayedKeyring()
    assert person("wrong guess", SECRET, keyring=ring).unlock(sealed, "p").public == KEY.public
    assert ring.kept == {KEY.public: SECRET}
    assert person(keyring=ring).unlock(sealed, "p").public == KEY.public


def test_a_wrong_passphrase_in_the_keyring_is_forgotten_and_asked_for(sealed):
    ring = PlayedKeyring({KEY.public: "of another file"})
    person(SECRET, keyring=ring).unlock(sealed, "p")
    assert ring.kept == {KEY.public: SECRET}


@pytest.mark.parametrize("had", [SECRET, None], ids=["with a passphrase", "without one"])
def test_changing_a_passphrase_says_which_answer_was_wrong(had, tmp_path, monkeypatch, capsys):
    home = Home(tmp_path)
    home.remember(ProjectRecord("p", f"https://example.org/join/p#{KEY.fingerprint}"))
    home.root_key_file("p").parent.mkdir()
    create_key(home.root_key_file("p"), KEY, had)
    answers = [] if had is None else ["wrong guess", had]
    monkeypatch.setattr(passphrase.SystemKeyring, "_with", lambda *_: None)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(
        "getpass.getpass", lambda _, new=2 * ["a better one"]: (answers or new).pop(0)
    )
    assert main(["key", "passphrase", "p", "--home", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert ("not the passphrase" in said) == (had is not None)
    assert "has no passphrase" not in said
    assert read_key(home.root_key_file("p")).unlock("a better one").public == KEY.public


def test_three_wrong_answers_end_in_one_sentence(sealed):
    with pytest.raises(WrongPassphraseError, match="not the passphrase"):
        person("one", "two", "three", SECRET).unlock(sealed, "p")


def test_without_a_terminal_the_sentence_names_the_ways(sealed):
    with pytest.raises(InputError, match=r"--passphrase-file.*PLEB_PASSPHRASE"):
        person().unlock(sealed, "p")


def test_what_the_command_was_given_comes_first_and_alone(sealed, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    given = given_passphrase(secret, {"PLEB_PASSPHRASE": "of the environment"})
    assert person(given=given).unlock(sealed, "p").public == KEY.public
    ring = PlayedKeyring({KEY.public: SECRET})
    with pytest.raises(WrongPassphraseError):
        person("x", keyring=ring, given="wrong").unlock(sealed, "p")
    assert given_passphrase(None, {"PLEB_PASSPHRASE": SECRET}) == SECRET
    assert given_passphrase(None, {"PLEB_PASSPHRASE": ""}) is None
    secret.write_text("\n")
    for bad in (secret, tmp_path / "nothing"):
        with pytest.raises(InputError):
            given_passphrase(bad, {})


def test_a_new_key_has_a_passphrase_or_a_stated_choice(sealed):
    assert person("short", SECRET, "typo", SECRET, SECRET).choose("p") == SECRET
    assert person(none_wanted=True).choose("p") is None
    assert person(given=SECRET).choose("p") == SECRET
    for refused in (person(), person(given="short")):
        with pytest.raises(InputError):
            refused.choose("p")


class FakeBackend:
    """What the package `keyring` gives: `priority` below 1 refuses or stores plain text."""

    def __init__(self, priority, error, *, locked=False):
        self.priority = priority
        self.error = error
        self.locked = locked
        self.kept = {}

    def get_password(self, *key):
        if self.locked:
            raise self.error
        return self.kept.get(key)

    def set_password(self, service, user, secret):
        self.kept[service, user] = secret

    def delete_password(self, *key):
        if key not in self.kept:
            raise self.error
        del self.kept[key]


@pytest.mark.parametrize("case", ["kept", "refused", "locked", "no package"])
def test_the_systems_keyring_is_used_where_there_is_one(monkeypatch, case):
    class KeyringError(Exception):
        pass

    module, errors = ModuleType("keyring"), ModuleType("keyring.errors")
    backend = FakeBackend(0 if case == "refused" else 5, KeyringError(), locked=case == "locked")
    vars(errors)["KeyringError"] = KeyringError
    vars(module).update(get_keyring=lambda: backend, errors=errors)
    missing = None if case == "no package" else module
    monkeypatch.setitem(sys.modules, "keyring", missing)
    monkeypatch.setitem(sys.modules, "keyring.errors", None if missing is None else errors)
    ring = passphrase.SystemKeyring()
    ring.forget(KEY.public)
    assert ring.keep(KEY.public, SECRET) == (case in {"kept", "locked"})
    assert ring.read(KEY.public) == (SECRET if case == "kept" else None)
    ring.forget(KEY.public)
    assert ring.read(KEY.public) is None
