"""Where the passphrase of a root key comes from.

What the command was given (a file, or the environment variable `PLEB_PASSPHRASE`), else the
system's keyring, else the terminal. What was typed and is right is kept in the keyring.
"""

from __future__ import annotations

import getpass
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from pleb_project.keys.key_file import WrongPassphraseError
from pleb_shared.errors import InputError
from pleb_shared.protocol.ids import fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pleb_project.keys.key_file import StoredKey
    from pleb_shared.protocol.signing import SigningKey

__all__ = [
    "VARIABLE",
    "Keyring",
    "Passphrases",
    "RememberingKeyring",
    "SystemKeyring",
    "given_passphrase",
]

VARIABLE: Final = "PLEB_PASSPHRASE"
_SERVICE: Final = "Pleb-Cluster root key"
_TRIES: Final = 3
_SHORTEST: Final = 8


class Keyring(Protocol):
    """The system's keyring, or none."""

    def read(self, public: str) -> str | None:
        """Return the passphrase of the key with that public half; None: it is not there."""

    def keep(self, public: str, passphrase: str) -> bool:
        """Keep a passphrase; False: there is no keyring, or it refuses."""

    def forget(self, public: str) -> None:
        """Remove a passphrase, if it is there."""


class SystemKeyring:
    """The keyring of the desktop, through the optional package `keyring`.

    Where the package or a keyring is missing, or the keyring is locked and stays so, it is as if
    it were empty: the passphrase is then asked for.
    """

    def read(self, public: str) -> str | None:
        """Return the passphrase of the key with that public half; None: it is not there."""
        found = self._with(lambda backend: backend.get_password(_SERVICE, fingerprint_of(public)))
        return found if isinstance(found, str) else None

    def keep(self, public: str, passphrase: str) -> bool:
        """Keep a passphrase; False: there is no keyring, or it refuses."""

        def put(backend: Any) -> bool:
            backend.set_password(_SERVICE, fingerprint_of(public), passphrase)
            return True

        return bool(self._with(put))

    def forget(self, public: str) -> None:
        """Remove a passphrase, if it is there."""
        self._with(lambda backend: backend.delete_password(_SERVICE, fingerprint_of(public)))

    def _with(self, use: Callable[[Any], Any]) -> Any:
        """Return what `use` makes of the keyring; None where there is none."""
        try:
            import keyring
            from keyring.errors import KeyringError
        except ImportError:
            return None
        try:
            backend = keyring.get_keyring()
            # Below 1 are those that refuse everything, and those that store plain text.
            return use(backend) if backend.priority >= 1 else None
        except KeyringError:
            return None


class RememberingKeyring:
    """A keyring that also remembers for as long as the process lives, for one that stays."""

    def __init__(self, system: Keyring) -> None:
        self._system = system
        self._known: dict[str, str] = {}

    def read(self, public: str) -> str | None:
        """Return the passphrase of the key with that public half; None: it is not there."""
        return self._known.get(public) or self._system.read(public)

    def keep(self, public: str, passphrase: str) -> bool:
        """Keep a passphrase; False: only this process does."""
        self._known[public] = passphrase
        return self._system.keep(public, passphrase)

    def forget(self, public: str) -> None:
        """Remove a passphrase, if it is there."""
        self._known.pop(public, None)
        self._system.forget(public)


def given_passphrase(file: Path | None, environment: Mapping[str, str]) -> str | None:
    """Return the passphrase that the command was given; the file comes first.

    Raises:
        InputError: the file cannot be read, or it is empty.
    """
    if file is None:
        return environment.get(VARIABLE) or None
    try:
        text = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The passphrase in {file} cannot be read: {error}.") from error
    if not text:
        raise InputError(f"{file} is empty: write the passphrase into its first line.")
    return text


def _ask(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except EOFError as error:
        raise InputError("No passphrase was typed, so the root key stays closed.") from error


def _has_terminal() -> bool:
    return sys.stdin.isatty()


@dataclass(frozen=True)
class Passphrases:
    """Opens root keys, and asks for the passphrase of new ones.

    `given`: what the command was given. `none_wanted`: new keys shall have none.
    """

    given: str | None = None
    none_wanted: bool = False
    say: Callable[[str], None] = lambda _: None
    keyring: Keyring = field(default_factory=SystemKeyring)
    has_terminal: Callable[[], bool] = _has_terminal
    ask: Callable[[str], str] = _ask

    def unlock(self, stored: StoredKey, project: str) -> SigningKey:
        """Return the key.

        Raises:
            WrongPassphraseError: the passphrase that was given, or each one that was typed.
            InputError: it is sealed, and there is nobody to ask.
        """
        if not stored.needs_passphrase:
            if not stored.plain_by_choice:
                self.say(
                    f"The root key {stored.file} has no passphrase: anyone who copies it is the "
                    f"researcher. Add one with `pleb-project key passphrase {project}`."
                )
            return stored.unlock("")
        if self.given is not None:
            return stored.unlock(self.given)
        kept = self.keyring.read(stored.public)
        if kept is not None:
            try:
                return stored.unlock(kept)
            except WrongPassphraseError:
                self.keyring.forget(stored.public)
        if not self.has_terminal():
            raise InputError(
                f"The root key {stored.file} has a passphrase: run this in a terminal, or give "
                f"--passphrase-file FILE, or set {VARIABLE}."
            )
        return self._typed(stored)

    def choose(self, project: str) -> str | None:
        """Return the passphrase of a new key, or None if it shall have none.

        Raises:
            InputError: it is too short, or nothing was said and there is nobody to ask.
        """
        if self.none_wanted:
            return None
        if self.given is None and not self.has_terminal():
            raise InputError(
                f"The root key of {project} needs a passphrase: run this in a terminal, give "
                f"--passphrase-file FILE or set {VARIABLE}, or add --no-passphrase to keep the key "
                "without one."
            )
        if self.given is not None:
            if len(self.given) < _SHORTEST:
                raise InputError(f"A passphrase has at least {_SHORTEST} characters.")
            return self.given
        while True:
            first = self.ask(f"Passphrase for the root key of {project}: ")
            if len(first) < _SHORTEST:
                self.say(f"Use at least {_SHORTEST} characters; several words are easy to type.")
            elif self.ask("The same again: ") == first:
                return first
            else:
                self.say("These two differ: once more.")

    def keep(self, public: str, passphrase: str | None) -> None:
        """Keep the passphrase of a new key in the keyring, if it was typed."""
        typed = passphrase is not None and self.given is None
        if typed and self.keyring.keep(public, passphrase or ""):
            self.say("The system's keyring keeps the passphrase.")

    def _typed(self, stored: StoredKey) -> SigningKey:
        for more in reversed(range(_TRIES)):
            passphrase = self.ask(f"Passphrase of {stored.file}: ")
            try:
                key = stored.unlock(passphrase)
            except WrongPassphraseError as error:
                if not more:
                    raise
                self.say(str(error))
            else:
                self.keep(stored.public, passphrase)
                return key
        raise AssertionError
