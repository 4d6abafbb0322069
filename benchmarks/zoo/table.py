"""The zoo: families of models, each entry by its name."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from benchmarks.zoo import (
    plain_contrastive,
    plain_dense,
    plain_flows,
    plain_generative,
    plain_graphs,
    plain_images,
    plain_mixers,
    plain_others,
    plain_papers,
    plain_sequences,
    plain_tables,
    plain_temporal,
)
from benchmarks.zoo.layers_together import together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.zoo.case import Entry, Zoo

__all__ = ["NEEDED", "PLAIN", "entry", "families", "layers_name", "missing"]

NEEDED: Final = ("transformers", "peft")
_LAYERS: Final = "layers: "
_SEPARATOR: Final = " | "

PLAIN: Final[dict[str, Zoo]] = {
    "convolutional": plain_images.CONVOLUTIONAL,
    "dense prediction": plain_dense.DENSE,
    "mixers": plain_mixers.MIXERS,
    "recurrent": plain_sequences.RECURRENT,
    "temporal": plain_temporal.TEMPORAL,
    "autoencoders": plain_generative.AUTOENCODERS,
    "diffusion": plain_generative.DIFFUSION,
    "flows": plain_flows.FLOWS,
    "contrastive": plain_contrastive.CONTRASTIVE,
    "graphs": plain_graphs.GRAPHS,
    "tables": plain_tables.TABLES,
    "regression": plain_tables.REGRESSION,
    "experts": plain_others.EXPERTS,
    "others": plain_others.OTHERS,
    "papers": plain_papers.PAPERS,
    "no single loss": plain_contrastive.REFUSED,
}
"""Entries of plain torch, by family."""


def missing() -> list[str]:
    """Return the packages of the extra `zoo` that are not installed."""
    return [name for name in NEEDED if find_spec(name) is None]


@cache
def families() -> dict[str, Zoo]:
    """Return all entries by family: those of plain torch, then those of installed packages."""
    if missing():
        return PLAIN
    from benchmarks.zoo import hugging, hugging_others, hugging_pictures

    return PLAIN | {
        "language models": hugging.CAUSAL,
        "text encoders": hugging.ENCODERS,
        "sequence to sequence": hugging.SEQUENCE_TO_SEQUENCE,
        "vision backbones": hugging_pictures.VISION,
        "speech and audio": hugging_others.AUDIO,
        "several kinds of input": hugging_others.SEVERAL,
        "adapters": hugging_others.ADAPTERS,
    }


def layers_name(names: Sequence[str]) -> str:
    """Return the name of the entry of several cases of `benchmarks.layers`."""
    return _LAYERS + _SEPARATOR.join(names)


def entry(name: str) -> Entry:
    """Return the entry of that name.

    Raises:
        KeyError: there is none.
    """
    if name.startswith(_LAYERS):
        found = together(name.removeprefix(_LAYERS).split(_SEPARATOR))
    else:
        found = next((zoo[name] for zoo in families().values() if name in zoo), None)
    if found is None:
        raise KeyError(name)
    return found
