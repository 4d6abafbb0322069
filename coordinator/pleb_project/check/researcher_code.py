"""Load the researcher's `model.py`. It runs in this process, on the researcher's own PC."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Final

import torch
from torch import nn

from pleb_project.check.initial import load_initial
from pleb_project.readers.code_folder import CodeFolder
from pleb_project.readers.python_file import code_failed
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from pleb_project.definition.sections import ModelSection
    from pleb_project.export import EvaluateFunction, LossFunction, ShowcaseFunction

__all__ = ["ResearcherCode", "load_code"]

_FUNCTIONS: Final = {
    "model": "def model() -> torch.nn.Module",
    "loss": "def loss(model, batch) -> torch.Tensor",
    "evaluate": "def evaluate(model, batch) -> dict[str, torch.Tensor]",
}


@dataclass(frozen=True)
class ResearcherCode:
    """The module that `model()` returned, and the other functions."""

    model: nn.Module
    loss: LossFunction
    evaluate: EvaluateFunction
    place: CodeFolder
    """Where they run: `with place:`."""
    showcase: ShowcaseFunction | None = None
    """None: the file has none."""


def load_code(section: ModelSection, folder: Path) -> ResearcherCode:
    """Return the model, with its weights drawn from `section.seed`, and its functions.

    Raises:
        InputError: the file is missing, fails, or lacks a function; the message has the line.
    """
    path = (folder / section.file).resolve()
    place = CodeFolder(path.parent)
    module = _import(path, place)
    for name, form in _FUNCTIONS.items():
        if not callable(getattr(module, name, None)):
            raise InputError(f"{path} has no function `{name}`: write `{form}`.")
    torch.manual_seed(section.seed)
    try:
        with place:
            model: object = module.model(**section.arguments)
    except Exception as error:  # the researcher's code may raise anything
        raise code_failed(path, error) from error
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{path}: model() returned a {type(model).__name__}, not a torch.nn.Module."
        )
    if section.initial:
        load_initial(model, folder / section.initial)
    showcase = getattr(module, "showcase", None)
    given = showcase if callable(showcase) else None
    return ResearcherCode(model, module.loss, module.evaluate, place, given)


def _import(path: Path, place: CodeFolder) -> ModuleType:
    spec = spec_from_file_location("pleb_researcher_model", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise InputError(f"{path} does not exist: write it, or change file in [model].")
    module = module_from_spec(spec)
    try:
        with place:
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
    except Exception as error:  # the researcher's code may raise anything
        raise code_failed(path, error) from error
    return module
