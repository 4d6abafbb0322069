"""`model`: versions as files, recomputing them from the log, and going back to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.admin.access import now, opened
from pleb_coordinator.admin.models import (
    ListVersions,
    RollBack,
    ShowVersion,
    VerifyModel,
    wanted_version,
)
from pleb_coordinator.home.config import read_config
from pleb_coordinator.steps import deps_of
from pleb_coordinator.steps.access import blobs_of
from pleb_shared.errors import InputError
from pleb_shared.tensors.average import first_averaged, moving_average
from pleb_shared.tensors.layout import save_tensors
from pleb_shared.tensors.version import read_version, whole_model
from pleb_system.command_line import table
from pleb_system.exit_codes import ExitCode

if TYPE_CHECKING:
    import argparse

    from pleb_coordinator.admin.models import VersionsVerified
    from pleb_coordinator.cli.desk import Asker
    from pleb_coordinator.home.layout import Home
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]


def list_versions(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """List a project's versions, oldest first."""
    found = asker.ask(ListVersions(project=options.project, epoch=options.epoch))
    rows = [
        (
            v.epoch,
            v.version,
            v.digest[:16],
            v.train_loss,
            v.deltas,
            "" if v.restores is None else v.restores,
            v.kept,
            "best" if v.best else "",
        )
        for v in found
    ]
    head = ("EPOCH", "VERSION", "DIGEST", "LOSS", "DELTAS", "RESTORES", "KEPT", "BEST")
    output.result(found, table(head, rows, "No version."))
    return 0


def show(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Show one version, the deltas that made it and their weights."""
    command = ShowVersion(
        project=options.project, epoch=options.epoch, version=options.version, best=options.best
    )
    found = asker.ask(command)
    values = msgspec.structs.asdict(found)
    lines = [f"{n:<12} {value}" for n, value in values.items() if n not in {"inputs", "source"}]
    lines += [
        f"  unit {i.unit}, assignment {i.assignment}, weight {i.weight:g}" for i in found.inputs
    ]
    output.result(found, lines)
    return 0


def export(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Write a version as safetensors: a normal state_dict."""
    deps = deps_of(home, now, read_config(home.config_file))
    with opened(home) as store, store.read() as tx:
        project = tx.projects.find(options.project)
        row = wanted_version(tx, project, options.epoch, options.version, best=options.best)
        metadata = tx.projects.metadata_at(project.id, row.metadata_number)
        first = row.number if options.ema is None else first_averaged(row.number, options.ema)
        sources = [
            tx.versions.source(project.id, row.epoch, number)
            for number in range(first, row.number + 1)
        ]
    blobs = blobs_of(deps, project)
    versions = (read_version(source, metadata, blobs.get) for source in sources)
    version = moving_average(versions, options.ema or 0.0)
    tensors = whole_model(version, metadata.model, blobs.get, checked=True)
    try:
        options.file.write_bytes(save_tensors(tensors))
    except OSError as error:
        message = f"{options.file} cannot be written ({error.strerror}): give another file."
        raise InputError(message) from error
    value = {"file": str(options.file), "epoch": row.epoch, "version": row.number}
    what = "version" if options.ema is None else "the average up to version"
    sentence = f"{options.file} is {what} {row.number} of {project.name}, epoch {row.epoch}."
    output.result(value | {"digest": row.digest}, [sentence])
    return 0


def verify(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Recompute every version from version 0 and the log; report which differ."""
    found = asker.ask(VerifyModel(project=options.project, epoch=options.epoch))
    output.result(found, [_verdict(found)])
    return 0 if found.verified else ExitCode.FAULT_FOUND


def rollback(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Make an earlier version the newest one, with its outer state, as a new version."""
    found = asker.ask(RollBack(project=options.project, to=options.to))
    sentence = (
        f"Version {found.version} of {found.project} is version {found.restores} again; what was "
        "made after it was taken back. Agents follow with their next unit."
    )
    if not found.keeps_momentum:
        sentence += " Its outer state is not kept any more: momentum restarts from zero."
    output.result(found, [sentence])
    return 0


def _verdict(found: VersionsVerified) -> str:
    project, all_of_them = found.project, found.versions
    if found.fault:
        return f"After {all_of_them} versions of {project}: {found.fault} Restore a backup."
    if found.wrong:
        listed = ", ".join(map(str, found.wrong))
        return f"Versions {listed} of {project} differ from the log: restore a backup."
    if all_of_them == found.recomputed:
        return f"All {all_of_them} versions of {project} were recomputed, identical to the bit."
    return (
        f"{found.recomputed} of {all_of_them} versions of {project} were recomputed, identical "
        f"to the bit. {found.read} older ones are what the log says, but their results are not "
        f"kept any more ([retention]), and of {found.not_kept} only the digest is."
    )


COMMANDS: Final = {
    "list": list_versions,
    "show": show,
    "export": export,
    "verify": verify,
    "rollback": rollback,
}
