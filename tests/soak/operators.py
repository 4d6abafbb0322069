"""Calls every operator with hostile shapes, numbers and values, between guard pages.

`python -m tests.soak.operators [--cases N] [--seed S] [OPERATOR ...]`. A case is a graph of one
operator. It is dry-run, and only if that accepts it, it runs forward and backward on tensors that
end at a page that nothing may touch. Findings: a crash, an error without a type, a result of
another shape than the dry run's, a case that computes for more than 20 s. Cases run in a forked
process, so that one that crashes is known by its operator, seed and number, and others still run.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import math
import mmap
import os
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pleb_shared.errors import GraphError, TrainingError
from pleb_shared.protocol.graph import Dtype, Float, Graph, Node, Output, Ref, Value
from pleb_shared.protocol.project import TensorSpec
from pleb_shared.training.draws import NodeDraws
from pleb_shared.training.dry_run import Cost, NoDraws, dry_run
from pleb_shared.training.graph import TORCH_DTYPES, TORCH_ERRORS, CompiledGraph
from pleb_shared.training.operators import find_operator
from pleb_shared.training.preconditions.call import check_call
from tests.soak.guarded import build_malloc, guarded
from tests.soak.operator_calls import CALLS, Call, T

ROOT: Final = Path(__file__).parents[2]
NAMES: Final = {dtype: name for name, dtype in TORCH_DTYPES.items()}
IN_PLACE: Final = {
    "aten.batch_norm.default": (3, 4),
    "aten.instance_norm.default": (3, 4),
}
MOST_BYTES: Final = 2**28
MOST_OPERATIONS: Final = 2**31
HANG_SECONDS: Final = 20
"""Of the processor's time, for one case."""
STILL_SECONDS: Final = 300
"""Without it: a busy machine is no finding, a deadlock is one."""
WHOLE: Final = (
    *(-1, 0, 1, 2, 3, 4, 7, -2, -7, 64, 1000),
    *(2**31 - 1, 2**31, 2**32 + 1, -(2**31), 2**62, 2**63 - 1, -(2**63)),
)
REAL: Final = (0.0, -0.0, 0.5, -1.5, 1e-320, 1e-30, 3e38, 1e308)
OTHER: Final[tuple[Any, ...]] = (
    *(None, True, False, "mean", "same", [], [0], [1, 1], [-1, 2**62]),
    *(Float(value="nan"), Float(value="inf"), Float(value="-inf"), Dtype(name="int8")),
)


@dataclass
class Tally:
    """What became of the cases."""

    cases: int = 0
    refused: int = 0
    ran: int = 0


class Fuzz:
    """Changes calls as its seed says."""

    def __init__(self, seed: list[int]) -> None:
        self._random = np.random.default_rng(seed)

    def pick(self, items: Any) -> Any:
        return items[int(self._random.integers(len(items)))]

    def below(self, most: int) -> int:
        return int(self._random.integers(most))

    def changed(self, call: Call) -> Call:
        """Return `call` with one to three of its arguments changed; hostile values in some."""
        args, kwargs = list(call.args), dict(call.kwargs)
        for _ in range(self.pick((0, 1, 1, 1, 2, 3))):
            match self.below(12):
                case 0 if len(args) > 1:
                    args.pop()
                case 1:
                    args.append(self.pick((*WHOLE, *REAL, *OTHER)))
                case 2 if len(args) > 1:
                    i, j = self.below(len(args)), self.below(len(args))
                    args[i], args[j] = args[j], args[i]
                case 3 if kwargs:
                    kwargs[self.pick(list(kwargs))] = self.pick((*WHOLE, *OTHER, "trunc", "xy"))
                case 4:
                    name = self.pick(
                        ("dim", "dtype", "keepdim", "alpha", "sparse", "scale", "size")
                    )
                    kwargs[name] = self.pick((*WHOLE, *REAL, *OTHER))
                case _:
                    place = self.below(len(args)) if args else 0
                    args[place : place + 1] = [
                        self._argument(one) for one in args[place : place + 1]
                    ]
        return Call(call.op, tuple(args), kwargs)

    def _argument(self, value: Any) -> Any:
        match value:
            case T():
                return self._tensor(value)
            case list() if value and self.below(3):
                place = self.below(len(value))
                return [*value[:place], self._argument(value[place]), *value[place + 1 :]]
            case list():
                return self.pick((value[:-1], value * 2, [*value, *value[-1:]], []))
            case bool():
                return not value
            case int():
                return self.pick((value + 1, value - 1, -value, *WHOLE, *REAL))
            case float():
                return self.pick((*REAL, *WHOLE, *OTHER))
            case _:
                return self.pick((*OTHER, *WHOLE, T((2, 2)), T((4,))))

    def _tensor(self, tensor: T) -> T:
        shape = list(tensor.shape)
        match self.below(9):
            case 0 if shape:
                shape[self.below(len(shape))] = self.pick((0, 1, 1, 2, 5, 17))
            case 1 if shape:
                shape.pop(self.below(len(shape)))
            case 2 if len(shape) < 8:
                shape.insert(self.below(len(shape) + 1), self.pick((1, 2, 0)))
            case 3 if len(shape) > 1:
                shape.reverse()
            case 4:
                return replace(tensor, dtype=self.pick(list(TORCH_DTYPES)))
            case 5:
                return replace(tensor, values="hostile")
            case 6 | 7:
                return replace(tensor, layout=self.pick(("transposed", "expanded", "sliced")))
            case _:
                place = self.below(max(1, len(shape)))
                shape[place : place + 1] = [
                    n + self.pick((-1, 1)) for n in shape[place : place + 1]
                ]
        return replace(tensor, shape=tuple(max(0, size) for size in shape))

    def array(self, tensor: T, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a guarded tensor of `shape` with values as `tensor` says."""
        dtype = TORCH_DTYPES[tensor.dtype]
        hostile = tensor.values == "hostile"
        if dtype.is_floating_point:
            values: Any = self._random.standard_normal(shape)
            if tensor.values == "unit":
                values = self._random.random(shape)
            if hostile and values.size:
                strange = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e38, 1e-40)
                values.flat[:: 1 + self.below(3)] = self.pick(strange)
        elif dtype is torch.bool:
            values = self._random.integers(0, 2, shape)
        else:
            values = self._random.integers(0, max(1, tensor.below), shape)
            if tensor.values == "positive":
                values = values + 1
            if hostile and values.size:
                info = torch.iinfo(dtype)
                edge = (-1, tensor.below, 2**31, -(2**31), 2**40, info.min, info.max, 17)
                values.flat[:: 1 + self.below(3)] = self.pick(
                    [e for e in edge if info.min <= e <= info.max]
                )
        array = torch.from_numpy(np.asarray(values)).to(dtype)
        raw = array.view(torch.uint8).numpy() if array.numel() and array.dim() else None
        if raw is None:
            return array.clone()
        whole = guarded(raw.reshape(-1), torch.uint8, at_end=self.below(3) > 0)
        return whole.view(dtype).reshape(shape)


def try_call(call: Call, fuzz: Fuzz) -> bool:
    """Dry-run a graph of `call` and run it, if it is accepted; return whether it ran.

    Raises:
        Exception: what no reader of a graph may raise.
    """
    try:
        graph, tensors = _as_graph(call, fuzz)
        cost, trains = _dry_run(graph)
    except GraphError:
        return False
    if cost.memory_bytes > MOST_BYTES or cost.operations > MOST_OPERATIONS:
        return False
    parameters = {s.name: tensors[s.name].requires_grad_(trains) for s in graph.parameters}
    buffers = {s.name: tensors[s.name] for s in graph.buffers}
    watch = _Shapes()
    try:
        loss = CompiledGraph(graph).run(parameters, buffers, {}, NodeDraws(1, 2), watch)["loss"]
        if trains:
            loss.backward()
    except TrainingError:
        return False
    except TORCH_ERRORS:
        return False  # backward refuses: `UnitRun.step` gives it its type
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            assert parameter.grad.shape == parameter.shape, name
    return True


class _Shapes:
    """Sees that a run gives the shapes and types that the dry run promised."""

    def before(self, *_: Any) -> None:
        """Look at nothing."""

    def after(self, number: int, node: Node, outputs: Any) -> None:
        for value, recorded in zip(outputs, node.outputs, strict=True):
            found = NAMES[value.dtype], list(value.shape)
            assert found == (recorded.dtype, recorded.shape), f"{node.op} gives {found}"


class _Builder:
    """Puts a graph together, node by node."""

    def __init__(self, fuzz: Fuzz) -> None:
        self.fuzz = fuzz
        self.specs: list[list[TensorSpec]] = [[], []]
        self.tensors: dict[str, torch.Tensor] = {}
        self.order: list[tuple[int, int]] = []
        """Of every tensor argument: (0 parameter or 1 buffer, number)."""
        self.views: list[tuple[int, str, list[Any], tuple[int, ...], str]] = []

    def tensor(self, given: T) -> int:
        """Add a tensor; return its number among the arguments."""
        base: tuple[int, ...] = given.shape
        view: tuple[str, list[Any]] | None = None
        if given.layout == "transposed" and len(base) > 1:
            view = ("aten.transpose.int", [0, 1])
            base = (base[1], base[0], *base[2:])
        elif given.layout == "expanded" and base:
            view = ("aten.expand.default", [list(base)])
            base = (1, *base[1:])
        elif given.layout == "sliced" and base:
            view = ("aten.slice.Tensor", [0, 1, 2**63 - 1, 2])
            base = (2 * base[0] + 1, *base[1:])
        group = 0 if TORCH_DTYPES[given.dtype].is_floating_point else 1
        name = f"t{len(self.order)}"
        spec = TensorSpec(name=name, dtype=given.dtype, shape=list(base))  # type: ignore[arg-type]
        self.tensors[name] = self.fuzz.array(given, base)
        self.specs[group].append(spec)
        self.order.append((group, len(self.specs[group]) - 1))
        if view is not None:
            self.views.append((len(self.order) - 1, *view, given.shape, given.dtype))
        return len(self.order) - 1


def _as_graph(call: Call, fuzz: Fuzz) -> tuple[Graph, dict[str, torch.Tensor]]:
    """Return a graph whose loss is the sum of all that `call` gives, and its tensors by name.

    Raises:
        GraphError: the call is refused.
    """
    builder = _Builder(fuzz)

    def placed(item: Any) -> Any:
        if isinstance(item, T):
            return ("tensor", builder.tensor(item))
        return [placed(one) for one in item] if isinstance(item, list) else item

    args = [placed(item) for item in call.args]
    kwargs = {name: placed(item) for name, item in call.kwargs.items()}
    parameters, buffers = builder.specs
    slots = [number + (len(parameters) if group else 0) for group, number in builder.order]
    nodes: list[Node] = []
    slot = len(parameters) + len(buffers)

    def add(op: str, arguments: list[Any], dtype: str, shape: Any) -> int:
        nonlocal slot
        value = Value(dtype=dtype, shape=list(shape))  # type: ignore[arg-type]
        nodes.append(Node(op=op, args=arguments, outputs=[value]))
        slot += 1
        return slot - 1

    shapes: dict[int, Any] = {i: (s.dtype, s.shape) for i, s in enumerate([*parameters, *buffers])}
    for number, op, options, shape, dtype in builder.views:
        slots[number] = add(op, [Ref(slot=slots[number]), *options], dtype, shape)
        shapes[slots[number]] = (dtype, list(shape))
    written = IN_PLACE.get(call.op, (0,) if call.op.split(".")[1].endswith("_") else ())
    for place in written:
        if place < len(args) and isinstance(args[place], tuple):
            old = slots[args[place][1]]
            slots[args[place][1]] = add("aten.clone.default", [Ref(slot=old)], *shapes[old])
            shapes[slots[args[place][1]]] = shapes[old]

    def named(item: Any) -> Any:
        if isinstance(item, tuple):
            return Ref(slot=slots[item[1]])
        return [named(one) for one in item] if isinstance(item, list) else item

    node = Node(
        op=call.op,
        args=[named(item) for item in args],
        kwargs={name: named(item) for name, item in kwargs.items()},
        outputs=[Value(dtype="float32")],
    )
    outputs = _outputs(node, shapes)
    nodes.append(Node(op=node.op, args=node.args, kwargs=node.kwargs, outputs=outputs))
    first, slot = slot, slot + len(outputs)
    total = None
    for number, value in enumerate(outputs):
        real = add(
            "aten.to.dtype",
            [Ref(slot=first + number), Dtype(name="float64")],
            "float64",
            value.shape,
        )
        one = add("aten.sum.default", [Ref(slot=real)], "float64", [])
        total = (
            one
            if total is None
            else add("aten.add.Tensor", [Ref(slot=total), Ref(slot=one)], "float64", [])
        )
    graph = Graph(
        format=1,
        parameters=parameters,
        buffers=buffers,
        inputs=[],
        nodes=nodes,
        outputs=[Output(name="loss", slot=slot - 1)],
    )
    return graph, builder.tensors


def _outputs(node: Node, shapes: dict[int, Any]) -> list[Value]:
    """Return what `node` gives, found on FakeTensors.

    Raises:
        GraphError: it is refused.
    """
    called = find_operator(node, 0)

    def fake(item: Any) -> Any:
        match item:
            case Ref():
                dtype, shape = shapes[item.slot]
                return torch.zeros(shape, dtype=TORCH_DTYPES[dtype])
            case list():
                return [fake(one) for one in item]
            case Dtype():
                return TORCH_DTYPES[item.name]
            case Float():
                return float(item.value)
            case _:
                return item

    with FakeTensorMode():
        args = [fake(item) for item in node.args]
        kwargs = {name: fake(item) for name, item in node.kwargs.items()}
        wrong = check_call(called.parameters, called.rules, args, kwargs)
        if wrong:
            raise GraphError(wrong)
        try:
            result = called.call(*([NoDraws(), 0] if called.draws else []), *args, **kwargs)
        except TORCH_ERRORS as error:
            raise GraphError(str(error)) from error
    items = list(result) if isinstance(result, (list, tuple)) else [result]
    if not items or len(items) > 1024:
        raise GraphError("it gives nothing, or too much")
    return [Value(dtype=NAMES[item.dtype], shape=list(item.shape)) for item in items]  # type: ignore[arg-type]


def _dry_run(graph: Graph) -> tuple[Cost, bool]:
    """Return what the graph costs, and whether its loss can be differentiated.

    If it cannot be, only the forward pass is tried.

    Raises:
        GraphError: that one is refused, too.
    """
    if graph.parameters:
        try:
            return dry_run(graph, trains=True), True
        except GraphError:
            pass
    return dry_run(graph, trains=False), False


def fuzz_operators(names: list[str], cases: int, seed: int) -> tuple[Tally, list[str]]:
    """Try `cases` calls of each operator in forked processes; return the tally and the findings."""
    shared = mmap.mmap(-1, 4096)
    work = [(op, number) for op in names for number in range(cases)]
    findings: list[str] = []
    start = 0
    while start < len(work):
        shared[:16] = struct.pack("<QQ", start, 0)
        pid = os.fork()
        if pid == 0:
            _child(work, start, seed, shared)
        status = _wait(pid, shared)
        done = struct.unpack("<Q", shared[:8])[0]
        if status == 0:
            start = done
            continue
        op, number = work[done]
        how = (
            f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "a wrong error or shape"
        )
        findings.append(f"{op}, seed {seed}, case {number}: {how}")
        start = done + 1
    ran = struct.unpack("<Q", shared[16:24])[0]
    return Tally(len(work), len(work) - ran, ran), findings


def _child(work: list[tuple[str, int]], start: int, seed: int, shared: mmap.mmap) -> None:
    """Try up to 300 cases from number `start`, then end; `shared` says which is in work."""
    faulthandler.enable()
    for number in range(start, min(len(work), start + 300)):
        shared[:8] = struct.pack("<Q", number)
        op, case = work[number]
        fuzz, call = make_case(op, case, seed)
        try:
            if try_call(call, fuzz):
                ran = struct.unpack("<Q", shared[16:24])[0]
                shared[16:24] = struct.pack("<Q", ran + 1)
        except BaseException as error:  # noqa: BLE001 (a finding, whatever it is)
            sys.stderr.write(f"{op} case {case}: {type(error).__name__}: {error}\n  {call}\n")
            sys.stderr.flush()
            os._exit(1)
    shared[:8] = struct.pack("<Q", min(len(work), start + 300))
    os._exit(0)


def make_case(op: str, case: int, seed: int) -> tuple[Fuzz, Call]:
    """Return the call of a case and what draws its values; the first cases are not changed."""
    fuzz = Fuzz([seed, case, *op.encode()])
    calls = CALLS[op]
    return fuzz, calls[case] if case < len(calls) else fuzz.changed(fuzz.pick(calls))


def _wait(pid: int, shared: mmap.mmap) -> int:
    """Return how the process ended; it is killed if one case computes too long, or stands still."""
    process = psutil.Process(pid)
    before, since, used_before = -1, time.monotonic(), 0.0
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        number = struct.unpack("<Q", shared[:8])[0]
        used = process.cpu_times().user + process.cpu_times().system
        if number != before:
            before, since, used_before = number, time.monotonic(), used
        elif used - used_before > HANG_SECONDS or time.monotonic() - since > STILL_SECONDS:
            os.kill(pid, 9)
        time.sleep(0.01)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.operators", description=__doc__)
    parser.add_argument("names", nargs="*", help="operators; all if none is named")
    parser.add_argument("--cases", type=int, default=1000, help="of each operator")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:
        return _with_guarded_malloc()
    logging.getLogger("torch._subclasses.fake_tensor").disabled = True
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    start = time.monotonic()
    tally, findings = fuzz_operators(options.names or sorted(CALLS), options.cases, options.seed)
    seconds = time.monotonic() - start
    names = len(options.names or CALLS)
    print(
        f"{names} operators, {tally.cases} cases in {seconds:.0f} s ({tally.cases / seconds:.0f} a "
        f"second): {tally.ran} ran, {tally.refused} were refused, {len(findings)} findings"
    )
    print("\n".join(findings))
    return 1 if findings else 0


def _with_guarded_malloc() -> int:
    """Run again with torch's own memory guarded, too, where that is possible."""
    with tempfile.TemporaryDirectory() as folder:
        library = build_malloc(Path(folder))
        preload = {} if library is None else {"LD_PRELOAD": str(library)}
        command = [sys.executable, "-m", "tests.soak.operators", *sys.argv[1:], "--inside"]
        return subprocess.run(
            command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"} | preload, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
