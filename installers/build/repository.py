"""Publishes signed files: keeps the TUF repository that agents fetch runtimes and releases from.

    python -m installers.build.repository init  REPOSITORY --keys KEYS
    python -m installers.build.repository add   REPOSITORY --keys KEYS dist/cpu-....tar.xz ...
    python -m installers.build.repository renew REPOSITORY --keys KEYS       before 7 days are over
    python -m installers.build.repository renew-targets, renew-root ...      yearly, with their keys
    python -m installers.build.repository rotate REPOSITORY --keys KEYS --replace root-2

REPOSITORY holds `metadata/` and `targets/` and can be served by any web server that answers
`Range`. KEYS holds private keys; each command needs only some of them (docs/packaging.md, "The
keys"): the three root keys, of which two must sign, stay offline.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from installers.build.keys import (
    ONLINE_KEYS,
    ROOT_KEYS,
    ROOT_THRESHOLD,
    KeyRing,
    PublishingError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securesystemslib.signer import Signer

__all__ = ["Publisher", "PublishingError"]

ACTIONS: Final = ("init", "add", "remove", "renew", "renew-targets", "renew-root", "rotate")
LIFETIMES: Final = {
    Root.type: timedelta(days=365),
    Targets.type: timedelta(days=180),
    Snapshot.type: timedelta(days=30),
    Timestamp.type: timedelta(days=7),
}
"""How long each role's signature is valid. For the timestamp's time an attacker in the network can
hide a new release from an agent."""

R = TypeVar("R", Root, Targets, Snapshot, Timestamp)


@dataclass(frozen=True)
class Publisher:
    """A repository, the keys at hand, and the present."""

    folder: Path
    keys: Path
    now: datetime

    # -- commands -----------------------------------------------------------------

    def init(self) -> None:
        """Make the keys and an empty repository.

        Raises:
            PublishingError: there is one already.
        """
        if self._metadata.exists():
            raise PublishingError(f"{self.folder} is a repository already: nothing was done.")
        for folder in (self._metadata, self._targets, self.keys):
            folder.mkdir(parents=True, exist_ok=True)
        signers = {name: self._ring.make(name) for name in (*ROOT_KEYS, *ONLINE_KEYS)}
        root = Root(consistent_snapshot=True)
        root.roles[Root.type] = Role([], ROOT_THRESHOLD)
        for name, signer in signers.items():
            root.add_key(signer.public_key, name.partition("-")[0])
        self._save_root(root, [signers[name] for name in ROOT_KEYS])
        self._save(Targets())
        self._save(Snapshot())
        self._save(Timestamp())

    def add(self, files: Sequence[Path], *, prefix: str = "") -> list[str]:
        """Publish archives with their facts (`ARCHIVE.json` beside each); return target paths.

        Raises:
            PublishingError: the facts are missing, or a key is.
        """
        targets = self._load(Targets)
        paths = []
        for file in files:
            facts = _facts(file)
            folder = prefix or (
                "runtime" if facts["what"] == "runtime" else f"agent/{facts['version']}"
            )
            path = f"{folder}/{file.name}"
            target = TargetFile.from_file(path, str(file), ["sha256"])
            target.unrecognized_fields["custom"] = facts
            self._put(file, path, target.hashes["sha256"])
            targets.targets[path] = target
            paths.append(path)
        self._publish(targets)
        return paths

    def remove(self, path: str) -> None:
        """Withdraw a target; agents that have it keep it.

        Raises:
            PublishingError: there is no such target.
        """
        targets = self._load(Targets)
        if path not in targets.targets:
            raise PublishingError(f"{path} is not offered: {', '.join(targets.targets)} are.")
        del targets.targets[path]
        self._publish(targets)

    def renew(self) -> None:
        """Confirm that nothing is newer: sign snapshot and timestamp again, not the targets."""
        snapshot = self._load(Snapshot)
        snapshot.version += 1
        self._save(snapshot)
        self._save_timestamp(snapshot.version)

    def renew_targets(self) -> None:
        """Sign the same targets again, for another half a year."""
        self._publish(self._load(Targets))

    def renew_root(self) -> None:
        """Sign the same keys again, for another year.

        Raises:
            PublishingError: too few root keys are at hand.
        """
        root = self._load(Root)
        root.version += 1
        self._save_root(root, self._ring.root_signers(root))

    def rotate(self, name: str) -> None:
        """Replace a key, also one that is lost; the old keys and the new ones sign the new root.

        Raises:
            PublishingError: too few root keys are at hand.
        """
        root = self._load(Root)
        old_signers = self._ring.root_signers(root)
        role = name.partition("-")[0]
        root.revoke_key(self._ring.keyid(root, name), role)
        self._ring.put_away(name)
        root.add_key(self._ring.make(name).public_key, role)
        root.version += 1
        signers = {s.public_key.keyid: s for s in [*old_signers, *self._ring.root_signers(root)]}
        self._save_root(root, list(signers.values()))
        if role != Root.type:  # what the old key has signed counts no more
            self._publish(self._load(Targets))

    # -- internals -------------------------------------------------------------------------

    @property
    def _ring(self) -> KeyRing:
        return KeyRing(self.keys)

    @property
    def _metadata(self) -> Path:
        return self.folder / "metadata"

    @property
    def _targets(self) -> Path:
        return self.folder / "targets"

    def _publish(self, targets: Targets) -> None:
        """Sign targets, then the snapshot that names them, then the timestamp that names that."""
        targets.version += 1
        self._save(targets)
        snapshot = self._load(Snapshot)
        snapshot.version += 1
        snapshot.meta["targets.json"] = MetaFile(targets.version)
        self._save(snapshot)
        self._save_timestamp(snapshot.version)

    def _save_timestamp(self, snapshot_version: int) -> None:
        timestamp = self._load(Timestamp)
        timestamp.version += 1
        timestamp.snapshot_meta = MetaFile(snapshot_version)
        self._save(timestamp)

    def _save(self, role: R) -> None:
        role.expires = self._expiry(role.type)
        metadata = Metadata(role)
        metadata.sign(self._ring.signer(role.type))
        versioned = f"{role.version}." if role.type != Timestamp.type else ""
        self._write(f"{versioned}{role.type}.json", metadata.to_bytes())

    def _save_root(self, root: Root, signers: Sequence[Signer]) -> None:
        root.expires = self._expiry(Root.type)
        metadata = Metadata(root)
        for signer in signers:
            metadata.sign(signer, append=True)
        metadata.verify_delegate(Root.type, metadata)
        data = metadata.to_bytes()
        self._write(f"{root.version}.root.json", data)
        self._write("root.json", data)  # for builds: the newest one is the one to ship

    def _load(self, kind: type[R]) -> R:
        """Return the newest version of a role."""
        name = f"{kind.type}.json"
        files = sorted(
            self._metadata.glob(f"*.{name}"), key=lambda path: int(path.name.split(".")[0])
        )
        path = self._metadata / name if kind.type == Timestamp.type else files[-1]
        metadata: Metadata[R] = Metadata.from_file(str(path))
        return metadata.signed

    def _expiry(self, role: str) -> datetime:
        return (self.now + LIFETIMES[role]).replace(microsecond=0)

    def _put(self, file: Path, path: str, digest: str) -> None:
        """Copy a target to where agents look for it: its digest precedes its name."""
        folder, _, name = path.rpartition("/")
        place = self._targets / folder / f"{digest}.{name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            beside = place.with_name(place.name + ".part")
            shutil.copyfile(file, beside)
            beside.replace(place)

    def _write(self, name: str, data: bytes) -> None:
        beside = self._metadata / f"{name}.part"
        beside.write_bytes(data)
        beside.replace(self._metadata / name)


def _facts(file: Path) -> dict[str, Any]:
    path = file.with_name(file.name + ".json")
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise PublishingError(
            f"{path} is missing: the build script writes it beside the archive."
        ) from error
    return facts


def main() -> None:
    """Parse and run a command."""
    parser = argparse.ArgumentParser(description="Keep the repository of signed files.")
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("repository", type=Path)
    parser.add_argument("files", nargs="*", help="add: archives; remove: target paths")
    parser.add_argument("--keys", type=Path, required=True)
    parser.add_argument("--replace", choices=(*ROOT_KEYS, *ONLINE_KEYS), help="rotate: which key")
    arguments = parser.parse_args()
    now = datetime.now(UTC)  # noqa: TID251  # the composition root of this tool
    publisher = Publisher(arguments.repository, arguments.keys, now)
    try:
        act(publisher, arguments)
    except PublishingError as error:
        parser.exit(1, f"{error}\n")


def act(publisher: Publisher, arguments: argparse.Namespace) -> None:
    """Run the chosen command."""
    match arguments.action:
        case "init":
            publisher.init()
        case "add":
            print(*publisher.add([Path(file) for file in arguments.files]), sep="\n")
        case "remove":
            for path in arguments.files:
                publisher.remove(path)
        case "renew":
            publisher.renew()
        case "renew-targets":
            publisher.renew_targets()
        case "renew-root":
            publisher.renew_root()
        case _ if arguments.replace:
            publisher.rotate(arguments.replace)
        case _:
            raise PublishingError("Say which key with --replace root-2, for instance.")


if __name__ == "__main__":
    main()
