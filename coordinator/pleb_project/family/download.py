"""All members of a family as a folder: their weights, and the module that averages them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_project.download import download_model
from pleb_project.publish.rules import pinned
from pleb_shared.errors import InputError
from pleb_system.durable import write_durably

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_project.download import SavedModel, Wanted
    from pleb_project.server.client import Coordinator
    from pleb_shared.protocol.ids import AttachLink

__all__ = ["AVERAGED", "download_members"]

AVERAGED: Final = Path(__file__).with_name("averaged.py")


def download_members(
    coordinator: Coordinator, links: Sequence[AttachLink], folder: Path, wanted: Wanted
) -> dict[str, SavedModel]:
    """Write a version of each member into `folder`, which is made, and how to average them.

    Returns:
        What was written, by the member's name.

    Raises:
        InputError: the folder exists, or cannot be written; or they are the trials of a sweep.
        PlebError: as `download_model`.
    """
    family = pinned(coordinator.metadata(links[0].project), links[0]).family
    if family is not None and family.kind == "sweep":
        raise InputError(
            f"{family.name} is a sweep: export one of its trials; `pleb-project status "
            f"{family.name}` shows them."
        )
    try:
        folder.mkdir(parents=True)
        saved = {
            link.project: download_model(
                coordinator, link, folder / f"{link.project}.safetensors", wanted
            )
            for link in links
        }
        write_durably(folder / AVERAGED.name, AVERAGED.read_bytes(), shared=True)
    except FileExistsError as error:
        raise InputError(f"{folder} already exists: choose another name.") from error
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}.") from error
    return saved
