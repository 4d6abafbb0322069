"""`packages`: the agent's packages that the join page offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.admin.packages import (
    AddPackage,
    FetchPackages,
    ListPackages,
    RemovePackage,
)
from pleb_shared.errors import InputError
from pleb_system.command_line import table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from pleb_coordinator.admin.packages import PackagesKept
    from pleb_coordinator.cli.desk import Asker
    from pleb_coordinator.core.packages import Package
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]


def list_packages(asker: Asker, _: argparse.Namespace, output: Output) -> int:
    """List what the join page offers."""
    found = asker.ask(ListPackages())
    rows = [
        (p.name, p.kind.label, f"{p.size / 1e6:.1f} MB", p.sha256, _signed(p), p.source or "-")
        for p in found
    ]
    head = ("NAME", "FOR", "SIZE", "SHA-256", "SIGNED", "FROM")
    empty = (
        "No packages: the join page offers pip alone. `pleb-coordinator packages fetch URL` or "
        "`add FILE` offers installers."
    )
    output.result(found, table(head, rows, empty))
    return 0


def add(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Offer a file of this machine."""
    signature = str(options.signature.absolute()) if options.signature else ""
    command = AddPackage(
        file=str(options.file.absolute()),
        sha256=_digits(options.sha256),
        key=_key(options.key),
        signature=signature,
    )
    return _kept(asker.ask(command), output)


def fetch(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Download a package, or a release's."""
    command = FetchPackages(url=options.url, sha256=_digits(options.sha256), key=_key(options.key))
    return _kept(asker.ask(command), output)


def remove(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Stop offering a package."""
    found = asker.ask(RemovePackage(name=options.name))
    output.result(found, f"Removed {found.removed}.")
    return 0


COMMANDS: Final = {"list": list_packages, "add": add, "fetch": fetch, "remove": remove}


def _kept(found: PackagesKept, output: Output) -> int:
    output.result(found, list(_lines(found)))
    return 0


def _lines(found: PackagesKept) -> Iterator[str]:
    for package in found.packages:
        yield f"The join page offers {package.name} ({package.kind.label}) now."
        yield f"  SHA-256    {package.sha256}"
        yield f"  signature  {_signed(package)}"
        if not package.signed_by:
            yield "  Compare the SHA-256 with what the publisher says before others install it."


def _signed(package: Package) -> str:
    if package.signed_by:
        return f"by {package.signed_by}"
    return "not signed" if package.unsigned else "not checked"


def _digits(text: str) -> str:
    digits = text.strip().lower()
    if digits and (len(digits) != 64 or set(digits) - set("0123456789abcdef")):
        raise InputError(f"--sha256 {text[:80]!r} is not a SHA-256: it has 64 hexadecimal digits.")
    return digits


def _key(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        text = file.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file} cannot be read as an armoured key: export it by `gpg --armor --export`."
        ) from error
    return text
