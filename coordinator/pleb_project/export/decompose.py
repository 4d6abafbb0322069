"""Expands a call of an operator that volunteers do not run into calls of those that they do.

Only operators that are not on the allow-list are expanded, each where it stands: fast composites
stay whole, and buffers and parts without gradient stay as torch.export recorded them. torch itself
knows most of the formulas: what a composite is made of, and its tables of decompositions.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

import torch
from torch import fx
from torch._decomp import decomposition_table
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.proxy_tensor import make_fx

from pleb_project.export.formulas import FORMULAS, PARTLY
from pleb_project.export.random_formulas import (
    RANDOM,
    RECURRENT,
    draws_between_layers,
    layer_by_layer,
)
from pleb_shared.training.operators import is_allowed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Expansion", "drawn_by", "expand", "is_expanded"]


class Expansion:
    """What a node becomes: `body` has a placeholder for each of `inputs`, in this order.

    `exact` is false if a formula of torch's tables was used, whose rounding may differ from that
    of the kernel that eager mode calls.
    """

    def __init__(self, body: fx.GraphModule, inputs: list[fx.Node], *, exact: bool) -> None:
        self.body = body
        self.inputs = inputs
        self.exact = exact


def is_expanded(node: fx.Node) -> bool:
    """Whether `node` calls an operator that is allowed, but not with these arguments."""
    if node.target in RECURRENT and draws_between_layers(*node.args):
        return True
    formula = PARTLY.get(node.target)
    return formula is not None and formula[0](*node.args, **node.kwargs)


def drawn_by(target: OpOverload, args: Any) -> Callable[..., Any] | None:
    """Return the formula that a call is exported as, if it draws by other calls; else None."""
    if target in RECURRENT and draws_between_layers(*args):
        return layer_by_layer(target)
    return RANDOM.get(target)


def expand(node: fx.Node) -> Expansion | None:
    """Return what `node`, a call with values recorded, is made of; None if that is not known.

    A program is rewritten several times, so the node keeps the outcome.

    The body may still call operators that are not allowed, of which nothing is known.
    """
    if "expansion" not in node.meta:
        node.meta["expansion"] = _expanded(node)
    return cast("Expansion | None", node.meta["expansion"])


def _expanded(node: fx.Node) -> Expansion | None:
    target = node.target
    if not isinstance(target, OpOverload):
        return None
    formula: Any = target
    exact = True
    drawn = drawn_by(target, node.args)
    if drawn is not None:
        formula = drawn
    elif target in PARTLY:
        _, formula, exact = PARTLY[target]
    elif torch.Tag.inplace_view in target.tags:
        formula = _formula(target)[0]
    elif _formula(target)[0] is None:
        return None
    inputs = list(node.all_input_nodes)

    def call(*values: Any) -> Any:
        found = dict(zip(inputs, values, strict=True))
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), found.__getitem__)
        return formula(*args, **kwargs)

    values = [one.meta["val"] for one in inputs]
    known = [*values, node.meta.get("val")]  # a new tensor may be made of sizes alone
    mode = next((v.fake_mode for v in known if isinstance(v, FakeTensor)), None)
    table = _table()
    table.used.clear()
    trace = make_fx(call, decomposition_table=table.formulas, pre_dispatch=True)
    try:
        with mode or nullcontext():
            body = trace(*values)
    except NotImplementedError:
        return None
    return Expansion(body, inputs, exact=exact and all(_formula(u)[1] for u in table.used))


class _Table:
    """The formulas of all operators that are not allowed; `used` are those that were called."""

    def __init__(self) -> None:
        self.used: set[OpOverload] = set()
        self.formulas: dict[OpOverload, Callable[..., Any]] = {}
        for name in torch._C._dispatch_get_all_op_names():  # noqa: SLF001
            space, _, rest = name.partition("::")
            packet, _, overload = rest.partition(".")
            known = getattr(torch.ops, space) if space in _NAMESPACES else None
            if known is not None and hasattr(known, packet):
                target = getattr(getattr(known, packet), overload or "default")
                formula = _formula(target)[0]
                if formula is not None and torch.Tag.inplace_view not in target.tags:
                    self.formulas[target] = self._noted(target, formula)

    def _noted(self, target: OpOverload, formula: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.used.add(target)
            return formula(*args, **kwargs)

        return call


@cache
def _table() -> _Table:
    return _Table()


_NAMESPACES: Final = frozenset({"aten", "prims"})
"""torch's operators, and the parts that its tables make some of them of."""
_COMPOSITE: Final = torch._C.DispatchKey.CompositeImplicitAutograd  # noqa: SLF001


def _formula(target: OpOverload) -> tuple[Callable[..., Any] | None, bool]:
    """Return the formula of an operator that is not allowed, if there is one, and its exactness.

    Tried are our own, the form that changes nothing, what a composite is made of, torch's table.
    """
    if is_allowed(str(target)) or target.namespace not in _NAMESPACES:
        return None, True
    if target in RANDOM:
        return RANDOM[target], True
    if target in FORMULAS:
        return FORMULAS[target]
    if target._schema.is_mutable:  # noqa: SLF001
        in_place = _in_place(target)
        if in_place is not None:
            return in_place, True
    if torch.Tag.nondeterministic_seeded in target.tags:
        return None, True
    if target.has_kernel_for_dispatch_key(_COMPOSITE):
        return target.decompose, True
    if target.namespace == "prims":
        return getattr(target, "impl_aten", None), False
    return decomposition_table.get(target), False


def _in_place(target: OpOverload) -> Callable[..., Any] | None:
    """Return the formula of an operator that writes its first argument or one called `out`.

    It copies the outcome of the form that changes nothing. That form gets a copy of what is
    overwritten, as autograd may need it for backward.
    """
    arguments = target._schema.arguments  # noqa: SLF001
    written = [a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write]
    plain = _plain(target, [a for a in arguments if not a.is_out])
    if len(written) != 1 or plain is None:
        return None
    if torch.Tag.inplace_view in target.tags:  # later nodes use what this one gives
        return plain

    def changed(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        copied: torch.Tensor = self.copy_(plain(self.clone(), *args, **kwargs))
        return copied

    def written_to(*args: Any, **kwargs: Any) -> torch.Tensor:
        out: torch.Tensor = kwargs.pop(written[0])
        return out.copy_(plain(*args, **kwargs))

    return written_to if any(a.is_out for a in arguments) else changed


def _plain(target: OpOverload, arguments: list[Any]) -> OpOverload | None:
    """Return the overload that takes `arguments` and changes none of them."""
    packet = target.overloadpacket
    name = packet.__name__.removesuffix("_")
    plain = getattr(torch.ops.aten, name, None)
    wanted = [(a.name, str(a.real_type)) for a in arguments]
    for overload in plain.overloads() if plain is not None else []:
        found = getattr(plain, overload)
        schema = found._schema  # noqa: SLF001
        if not schema.is_mutable and wanted == [
            (a.name, str(a.real_type)) for a in schema.arguments
        ]:
            return cast("OpOverload", found)
    return None
