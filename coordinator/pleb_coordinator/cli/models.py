"""`model`: versions as files, recomputing them from the log, and going back to one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from pleb_coordinator.aggregation.recompute import How, recompute
from pleb_coordinator.cli.access import now, opened
from pleb_coordinator.core.holdout import last_good
from pleb_coordinator.core.records import RestoreCause, StoredDelta
from pleb_coordinator.home.config import read_config
from pleb_coordinator.steps import deps_of, open_blobs
from pleb_coordinator.steps.activity import best_of, points
from pleb_coordinator.steps.rollback import commit, compute, plan_restoration
from pleb_shared.errors import EncodingError, InputError
from pleb_shared.tensors.average import first_averaged, moving_average
from pleb_shared.tensors.layout import save_tensors
from pleb_shared.tensors.version import read_version, whole_model
from pleb_system.command_line import table
from pleb_system.exit_codes import ExitCode

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pleb_coordinator.aggregation.recompute import Recomputed
    from pleb_coordinator.core.records import Project, VersionRow
    from pleb_coordinator.home.layout import Home
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]


def list_versions(home: Home, options: argparse.Namespace, output: Output) -> int:
    """List a project's versions, oldest first."""
    with opened(home) as store, store.read() as tx:
        project = tx.projects.find(options.project)
        epochs = _epochs(tx, project, options.epoch)
        best = {epoch: best_of(tx, project, epoch) for epoch in epochs}
        values = [
            _short(row) | {"best": row.number == best[epoch]}
            for epoch in epochs
            for row in _history(tx, project, epoch)
        ]
    rows = [
        (
            v["epoch"],
            v["version"],
            v["digest"][:16],
            v["train_loss"],
            v["deltas"],
            _or_blank(v["restores"]),
            v["kept"],
            "best" if v["best"] else "",
        )
        for v in values
    ]
    head = ("EPOCH", "VERSION", "DIGEST", "LOSS", "DELTAS", "RESTORES", "KEPT", "BEST")
    output.result(values, table(head, rows, "No version."))
    return 0


def show(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Show one version, the deltas that made it and their weights."""
    with opened(home) as store, store.read() as tx:
        project = tx.projects.find(options.project)
        row = _wanted(tx, project, options)
    value = _short(row) | {"inputs": row.inputs, "source": row.source}
    lines = [f"{name:<12} {found}" for name, found in _short(row).items()]
    lines += [
        f"  unit {i.unit}, assignment {i.assignment}, weight {i.weight:g}" for i in row.inputs
    ]
    output.result(value, lines)
    return 0


def export(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Write a version as safetensors: a normal state_dict."""
    blobs = open_blobs(home, read_config(home.config_file))
    with opened(home) as store, store.read() as tx:
        project = tx.projects.find(options.project)
        row = _wanted(tx, project, options)
        metadata = tx.projects.metadata_at(project.id, row.metadata_number)
        first = row.number if options.ema is None else first_averaged(row.number, options.ema)
        sources = [
            tx.versions.source(project.id, row.epoch, number)
            for number in range(first, row.number + 1)
        ]
    versions = (read_version(source, metadata, blobs.get) for source in sources)
    version = moving_average(versions, options.ema or 0.0)
    tensors = whole_model(version, metadata.model, blobs.get)
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


def verify(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Recompute every version from version 0 and the log; report which differ."""
    blobs = open_blobs(home, read_config(home.config_file))
    with opened(home) as store, store.read() as tx:
        project = tx.projects.find(options.project)

        def delta(assignment: int) -> memoryview:
            stored = tx.assignments.delta(assignment)
            return blobs.delta_view(stored or StoredDelta(assignment, 0, None), None)  # it hashes

        def metadata_at(number: int) -> ProjectMetadata:
            return tx.projects.metadata_at(project.id, number)

        found: list[Recomputed] = []
        fault = ""
        try:
            for epoch in _epochs(tx, project, options.epoch):
                history = _history(tx, project, epoch)
                kept = {found.restores for found in tx.versions.restores(project.id, epoch)}
                found.extend(recompute(history, metadata_at, blobs.get, delta, restored=kept))
        except EncodingError as error:
            fault = str(error)
    wrong = [version.number for version in found if not version.matches]
    good = not wrong and not fault and bool(found)
    done = Counter(version.how for version in found)
    value = {"verified": good, "versions": len(found), "wrong": wrong, "fault": fault}
    counts = {str(how): done[how] for how in How}
    output.result(value | counts, [_verdict(project, done, wrong, fault)])
    return 0 if good else ExitCode.FAULT_FOUND


def rollback(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Make an earlier version the newest one, with its outer state, as a new version."""
    deps = deps_of(home, now, read_config(home.config_file))
    with opened(home) as store:
        with store.read() as tx:
            project = tx.projects.find(options.project)
            number = _good_version(tx, project) if options.to is None else options.to
            work = plan_restoration(tx, project, number, RestoreCause.OPERATOR)
        row = compute(deps, work)
        with store.write() as tx:
            if not commit(tx, deps, work, row):
                message = f"{project.name} got a new version meanwhile: run the command again."
                raise InputError(message)
    value = {"project": project.name, "version": row.number, "restores": number}
    sentence = (
        f"Version {row.number} of {project.name} is version {number} again; what was made after "
        "it was taken back. Agents follow with their next unit."
    )
    if not work.keeps_momentum:
        sentence += " Its outer state is not kept any more: momentum restarts from zero."
    output.result(value | {"digest": row.digest}, [sentence])
    return 0


def _good_version(tx: Transaction, project: Project) -> int:
    found = last_good(points(tx, project), project.metadata.verification.max_holdout_regression)
    if found is not None:  # or the milestone before it
        found = tx.versions.newest_readable(project.id, project.epoch, found)
    if found is None:
        message = (
            f"No two versions of {project.name} were evaluated, so nothing shows which one was "
            "good: name it with --to."
        )
        raise InputError(message)
    return found


def _verdict(project: Project, done: Counter[How], wrong: list[int], fault: str) -> str:
    if fault:
        return f"After {done.total()} versions of {project.name}: {fault} Restore a backup."
    if wrong:
        listed = ", ".join(map(str, wrong))
        return f"Versions {listed} of {project.name} differ from the log: restore a backup."
    if done.total() == done[How.RECOMPUTED]:
        return (
            f"All {done.total()} versions of {project.name} were recomputed, identical to the bit."
        )
    return (
        f"{done[How.RECOMPUTED]} of {done.total()} versions of {project.name} were recomputed, "
        f"identical to the bit. {done[How.READ]} older ones are what the log says, but their "
        f"results are not kept any more ([retention]), and of {done[How.NOT_KEPT]} only the digest "
        "is."
    )


def _epochs(tx: Transaction, project: Project, wanted: int | None) -> list[int]:
    return tx.versions.epochs(project.id) if wanted is None else [wanted]


def _history(tx: Transaction, project: Project, epoch: int) -> Iterator[VersionRow]:
    after = -1
    while rows := tx.versions.history(project.id, epoch, after=after, limit=100):
        yield from rows
        after = rows[-1].number


def _wanted(tx: Transaction, project: Project, options: argparse.Namespace) -> VersionRow:
    """Return the version that `--epoch` with `--version` or `--best` names."""
    number, epoch = options.version, project.epoch if options.epoch is None else options.epoch
    if options.best and (number := best_of(tx, project, epoch)) is None:
        raise InputError(f"No version of epoch {epoch} of {project.name} was evaluated.")
    return _version(tx, project, options.epoch, number)


def _version(
    tx: Transaction, project: Project, epoch: int | None, number: int | None
) -> VersionRow:
    """Return a version: of the current epoch and the newest one where nothing else is asked."""
    epoch = project.epoch if epoch is None else epoch
    if number is None and epoch == project.epoch:
        number = project.version
    if number is None:
        number = max((row.number for row in _history(tx, project, epoch)), default=0)
    try:
        return tx.versions.get(project.id, epoch, number)
    except LookupError as error:
        message = (
            f"{project.name} has no such version in epoch {epoch}; the newest is version "
            f"{project.version} of epoch {project.epoch}: see `pleb-coordinator model list`."
        )
        raise InputError(message) from error


def _or_blank(value: int | None) -> int | str:
    return "" if value is None else value


def _short(row: VersionRow) -> dict[str, Any]:
    names = ("epoch", "digest", "metadata_number", "train_loss", "made_at")
    value: dict[str, Any] = {"version": row.number}
    value |= {name: getattr(row, name) for name in names}
    value |= {"snapshot": bool(row.snapshot), "deltas": row.results, "kept": row.kept}
    return value | {"restores": row.restores}


COMMANDS: Final = {
    "list": list_versions,
    "show": show,
    "export": export,
    "verify": verify,
    "rollback": rollback,
}
