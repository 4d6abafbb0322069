"""The commands about projects, units, hosts, models, invites, keys, volunteers and admins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pleb_coordinator.core.admins import AdminRole
from pleb_system.command_line import count, day, days, duration, number

if TYPE_CHECKING:
    from pleb_system.command_line import Commands

__all__ = [
    "add_admins",
    "add_mirrors",
    "add_models",
    "add_packages",
    "add_projects",
    "add_units_and_hosts",
]


def add_projects(commands: Commands) -> None:
    """Add `project`, `family`, `invite` and `key`."""
    projects = commands.group(
        "project", "Projects: list, show, pause, resume, archive, extend, delete."
    )
    projects.add("list", "list all projects", "list")
    for name, summary in (
        ("show", "show one project"),
        ("pause", "issue no more units of a project; results are still accepted"),
        ("resume", "resume a paused or archived project"),
        ("archive", "end a project: no unit is issued and nothing is done in the background"),
        ("extend", "go on to the last planned version, past the target and the patience"),
    ):
        projects.add(name, summary, f"{name} words").add_argument("project", metavar="PROJECT")
    delete = projects.add(
        "delete", "remove an archived or moved project with all that belongs to it", "delete words"
    )
    delete.add_argument("project", metavar="PROJECT")
    families = commands.group("family", "Families: projects that are published together.")
    families.add("show", "show all members of an ensemble side by side", "show words").add_argument(
        "family", metavar="FAMILY"
    )
    invites = commands.group("invite", "Invites: create, list, revoke.")
    new = invites.add("new", "create an invite, which works once", "new --team lab --uses 12")
    new.add_argument("--role", choices=("host", "trusted", "publisher", "admin"), default="host")
    new.add_argument("--note", default="", help="who it is for")
    new.add_argument("--team", default="", help="the household or lab whose hosts are one voice")
    new.add_argument(
        "--proven", action="store_true", help="hosts count without exams from the start"
    )
    new.add_argument(
        "--project",
        default="",
        metavar="PROJECT",
        help="for this project alone: prints a link; a private project needs such an invite",
    )
    new.add_argument("--uses", type=count, default=1, metavar="N", help="for N hosts (1)")
    valid = new.add_mutually_exclusive_group()
    valid.add_argument("--days", type=days, default=7.0, help="how long it is valid (7)")
    valid.add_argument(
        "--until", type=day, metavar="DAY", help="the last day on which it is, as 2026-12-28"
    )
    invites.add("list", "list all invites, without their tokens", "list")
    invites.add("revoke", "revoke an unused invite", "revoke 1f2e3d").add_argument(
        "invite", metavar="INVITE", help="its token, or its number from the list"
    )
    keys = commands.group("key", "Online keys: list, rotate, delete.")
    keys.add("list", "list the online keys, and which projects delegate to each", "list")
    keys.add("rotate", "make a new online key, which researchers then delegate to", "rotate")
    keys.add("delete", "delete an earlier key that no project needs", "delete 1f2e3d").add_argument(
        "key", metavar="KEY", help="the beginning of its fingerprint"
    )


def add_units_and_hosts(commands: Commands) -> None:
    """Add `unit`, `host`, `account` and `team`."""
    units = commands.group("unit", "Units: list them, or show why one counted or not.")
    listed = units.add("list", "list a project's newest units", "list words")
    listed.add_argument("project", metavar="PROJECT")
    listed.add_argument("--limit", type=count, default=500, metavar="N", help="at most N (500)")
    shown = units.add(
        "show", "show a unit's results, how far apart they are, and the decision", "show 17"
    )
    shown.add_argument("unit", type=number, metavar="UNIT")
    cancel = units.add(
        "cancel", "take back a unit that is not decided; the round goes on without it", "cancel 17"
    )
    cancel.add_argument("unit", type=number, metavar="UNIT")
    hosts = commands.group("host", "Hosts: list, show, ban, unban, team, detach, delete.")
    listed = hosts.add("list", "list a project's hosts, those seen last first", "list words")
    listed.add_argument("project", metavar="PROJECT")
    listed.add_argument("--limit", type=count, default=200, metavar="N", help="at most N (200)")
    for name, summary in (
        ("show", "show one host"),
        ("ban", "refuse a host's requests"),
        ("unban", "end a host's ban"),
        ("team", "let a host's account join a team, whose hosts are one voice"),
        ("detach", "give what a host has in hand to others at once; it may come back"),
        ("delete", "forget a host that has gone; its account keeps its credit"),
    ):
        parser = hosts.add(name, summary, f"{name} words 1f2e3d")
        parser.add_argument("project", metavar="PROJECT")
        parser.add_argument("host", metavar="HOST", help="its name or first digits of its key")
        if name == "ban":
            parser.add_argument("--days", type=days, default=3650.0, help="how long (10 years)")
            parser.add_argument("--reason", default="no reason given.", help="shown to the host")
        if name == "team":
            parser.add_argument("team", metavar="TEAM", help='its name; "" leaves the team')

    for name, what in (("account", "accounts"), ("team", "teams")):
        people = commands.group(name, f"Volunteers' {what}, with their credit.")
        listed = people.add("list", f"list a project's {what}, most credit first", "list words")
        listed.add_argument("project", metavar="PROJECT")
        listed.add_argument("--limit", type=count, default=200, metavar="N", help="at most N (200)")


def add_models(commands: Commands) -> None:
    """Add `model`."""
    models = commands.group("model", "Models: list versions, show, export, verify, roll back.")
    for name, summary in (
        ("list", "list a project's versions"),
        ("show", "show one version and the results it was made of"),
        ("export", "write a version as a safetensors state_dict"),
        ("verify", "recompute every version from the log, and compare"),
    ):
        more = " words.safetensors" if name == "export" else ""
        parser = models.add(name, summary, f"{name} words{more}")
        parser.add_argument("project", metavar="PROJECT")
        if name == "export":
            parser.add_argument("file", type=Path, metavar="FILE")
        default = "the current one" if name in {"show", "export"} else "all"
        parser.add_argument("--epoch", type=number, metavar="E", help=f"default: {default}")
        if name in {"show", "export"}:
            which = parser.add_mutually_exclusive_group()
            which.add_argument("--version", type=number, metavar="N", help="default: the newest")
            which.add_argument("--best", action="store_true", help="the best one on the holdout")
        if name == "export":
            parser.add_argument(
                "--ema",
                type=_decay,
                nargs="?",
                const=0.9,
                metavar="DECAY",
                help="the moving average of the versions up to that one (0.9 for each version)",
            )

    rollback = models.add(
        "rollback", "restore an earlier version as the newest one", "rollback words --to 12"
    )
    rollback.add_argument("project", metavar="PROJECT")
    rollback.add_argument(
        "--to", type=number, metavar="N", help="default: the last one that did well on the holdout"
    )


def add_mirrors(commands: Commands) -> None:
    """Add `mirror`."""
    mirrors = commands.group("mirror", "Mirrors of projects' files: sync, list, check.")
    sync = mirrors.add(
        "sync",
        "copy what volunteers need to a folder or bucket, and remove what they no longer need",
        "sync words /var/www/mirror --every 5m",
    )
    sync.add_argument("project", metavar="PROJECT")
    sync.add_argument("to", metavar="TO", help="a folder that a web server serves, or s3://...")
    sync.add_argument("--every", type=duration, metavar="TIME", help="again and again (5m, 1h)")
    sync.add_argument("--s3-endpoint", metavar="URL", help="the S3 server, if it is not Amazon's")
    mirrors.add("list", "list the mirrors that projects name", "list")
    check = mirrors.add("check", "ask a project's mirrors for its files", "check words")
    check.add_argument("project", metavar="PROJECT")


def add_packages(commands: Commands) -> None:
    """Add `packages`."""
    packages = commands.group(
        "packages", "The agent's packages that the join page offers: list, fetch, add, remove."
    )
    packages.add("list", "list the packages, with their SHA-256 and who signed them", "list")
    fetch = packages.add(
        "fetch",
        "download a package, or all that a release's SHA256SUMS names",
        "fetch https://releases.example.org/v0.1.0/SHA256SUMS --key publisher.asc",
    )
    fetch.add_argument("url", metavar="URL", help="of a package, or of a SHA256SUMS beside them")
    add = packages.add(
        "add", "offer a file of this machine", "add dist/pleb-agent_0.1.0-1_amd64.deb"
    )
    add.add_argument("file", type=Path, metavar="FILE", help="under the name that the build gave")
    add.add_argument("--signature", type=Path, metavar="FILE", help="beside it (FILE.asc)")
    for parser in (fetch, add):
        parser.add_argument("--sha256", default="", metavar="DIGITS", help="what it must be")
        parser.add_argument(
            "--key", type=Path, metavar="FILE", help="the publisher's OpenPGP key, to check by"
        )
    packages.add("remove", "stop offering a package", "remove NAME").add_argument(
        "name", metavar="NAME", help="its file's name, from the list"
    )


def add_admins(commands: Commands) -> None:
    """Add `login`, `open` and `admin`."""
    login = commands.add(
        "login",
        "become an admin of a coordinator elsewhere, with a code from there",
        "login https://a.example#CODE",
    )
    login.add_argument("address", metavar="URL", help="as `admin new` printed it, with the code")
    commands.add("open", "print a link to the operator's page, which works once", "open")
    admins = commands.group("admin", "Admins, who use the coordinator from elsewhere.")
    new = admins.add(
        "new", "let somebody log in; on the coordinator's machine", "new anna --role operator"
    )
    new.add_argument("name", metavar="NAME", help="what the audit log calls this admin")
    new.add_argument(
        "--role",
        choices=[role.value for role in AdminRole],
        default=AdminRole.VIEWER.value,
        help="what this admin may do (viewer)",
    )
    new.add_argument(
        "--project",
        action="append",
        default=[],
        metavar="PROJECT",
        help="what a publisher may change (all projects); repeatable",
    )
    new.add_argument("--days", type=days, default=1.0, help="how long the code is valid (1)")
    admins.add("list", "list all admins", "list")
    admins.add("revoke", "take an admin's key and sessions back", "revoke anna").add_argument(
        "name", metavar="NAME"
    )


def _decay(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise ValueError
    return value
