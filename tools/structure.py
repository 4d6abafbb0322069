"""Count what makes a code base long or jumpy: `python tools/structure.py [--json] [ROOT]`.

Reads the five import packages as text and imports none of them. Each figure is a place to look,
not a verdict:

    files, lines              per package; lines are physical
    single_importer_files     modules that exactly one other module imports
    single_use_functions      private functions and methods that are referenced once
    lone_protocols            Protocols with at most one implementation and no fake in the tests
    tensor_functions          functions with a tensor argument, and how many state no shape
    duplicate_names           public class names that are defined in more than one module
"""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PACKAGES = {
    "pleb_agent": "agent",
    "pleb_coordinator": "coordinator",
    "pleb_project": "coordinator",
    "pleb_shared": "shared",
    "pleb_system": "shared",
}
OTHER_FOLDERS = ("benchmarks", "installers", "examples", "tools")
TENSOR = re.compile(r"\b(Tensor|NDArray|ndarray|Tensors|FloatArray|Array|Arrays)\b")
SHAPE = re.compile(
    r"\[[^\]\n]*\]"  # [rows, columns]
    r"|\([a-z_0-9]+(?:, ?[a-z_0-9]+)+,?\)"  # (n, m)
    r"|\b\d-D\b|\bscalar|\bshape|\bflat\b|\bdimension"
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name, path and text."""

    name: str
    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text)

    @property
    def lines(self) -> int:
        """Physical lines."""
        return self.text.count("\n")


def read_modules(root: Path) -> list[Module]:
    """Return the modules of all packages under `root`."""
    found = []
    for package, folder in PACKAGES.items():
        base = root / folder
        for path in sorted((base / package).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append(Module(name, path, path.read_text()))
    return found


def imported_names(module: Module) -> Iterator[str]:
    """Yield the dotted names that a module imports, type-checking imports included."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def single_importer_files(modules: Iterable[Module]) -> list[str]:
    """Return the modules that exactly one other module imports."""
    names = {module.name for module in modules}
    importers: dict[str, set[str]] = defaultdict(set)
    for module in modules:
        for name in names.intersection(imported_names(module)) - {module.name}:
            importers[name].add(module.name)
    files = {module.name for module in modules if module.path.name != "__init__.py"}
    return sorted(name for name in files if len(importers[name]) == 1)


def functions_of(tree: ast.AST) -> Iterator[Function]:
    """Yield all functions and methods, nested ones included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _is_private(function: Function) -> bool:
    return function.name.startswith("_") and not function.name.startswith("__")


def single_use_functions(module: Module) -> list[str]:
    """Return private functions and methods whose name occurs once beside their definition."""
    uses: Counter[str] = Counter()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name):
            uses[node.id] += 1
        elif isinstance(node, ast.Attribute):
            uses[node.attr] += 1
    private = {function.name for function in functions_of(module.tree) if _is_private(function)}
    return sorted(f"{module.name}.{name}" for name in private if uses[name] == 1)


def classes_of(modules: Iterable[Module]) -> Iterator[tuple[str, ast.ClassDef]]:
    """Yield all classes with their module's name."""
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                yield module.name, node


def _is_protocol(node: ast.ClassDef) -> bool:
    return any("Protocol" in ast.unparse(base) for base in node.bases)


def _members(node: ast.ClassDef) -> set[str]:
    """Return the names that a class defines, attributes assigned to self included."""
    names = {child.name for child in node.body if isinstance(child, Function)}
    for child in ast.walk(node):
        if isinstance(child, ast.AnnAssign | ast.Assign):
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    names.add(target.id)
                elif isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                    names.add(target.attr)
    return names


def lone_protocols(modules: list[Module], tests: list[Module]) -> list[str]:
    """Return Protocols with at most one implementation, and none in the tests."""
    ours = list(classes_of(modules))
    fakes = [_members(node) for _, node in classes_of(tests)]
    concrete = [_members(node) for _, node in ours if not _is_protocol(node)]
    lone = []
    for module, node in ours:
        wanted = {name for name in _members(node) if not name.startswith("__")}
        if not _is_protocol(node) or not wanted:  # a callable's one method is __call__
            continue
        implementations = sum(wanted <= members for members in concrete)
        if implementations <= 1 and not any(wanted <= members for members in fakes):
            lone.append(f"{module}.{node.name}")
    return sorted(lone)


def tensor_functions(module: Module) -> Iterator[tuple[str, bool]]:
    """Yield functions with a tensor argument, and whether they state its shape."""
    lines = module.text.splitlines()
    owners = {
        id(child): ast.get_docstring(node) or ""
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        for child in node.body
        if isinstance(child, Function) and child.name == "__init__"
    }  # a class docstring covers its __init__
    for function in functions_of(module.tree):
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        annotations = [ast.unparse(a.annotation) for a in arguments if a.annotation is not None]
        if not any(TENSOR.search(annotation) for annotation in annotations):
            continue
        first = function.body[0].lineno
        signature = lines[function.lineno - 1 : first]
        comments = [line.partition("#")[2] for line in signature]
        body = lines[first - 1 : function.end_lineno]
        comments += [line.partition("# ")[2] for line in body]
        docstring = ast.get_docstring(function) or ""
        stated = "\n".join([docstring, owners.get(id(function), ""), *comments])
        yield f"{module.name}.{function.name}", SHAPE.search(stated) is not None


def duplicate_names(modules: Iterable[Module]) -> list[str]:
    """Return public class names that more than one module defines."""
    where: dict[str, set[str]] = defaultdict(set)
    for module, node in classes_of(modules):
        if not node.name.startswith("_"):
            where[node.name].add(module)
    return sorted(
        f"{name}: {', '.join(sorted(found))}" for name, found in where.items() if len(found) > 1
    )


def _count(root: Path, folder: str) -> str:
    files = list((root / folder).rglob("*.py"))
    return f"{len(files)} files, {sum(path.read_text().count(chr(10)) for path in files)} lines"


def measure(root: Path) -> dict[str, str | int | list[str]]:
    """Return all figures; a list stands for its length, and names what was counted."""
    modules = read_modules(root)
    tests = [Module(path.stem, path, path.read_text()) for path in (root / "tests").rglob("*.py")]
    functions = [function for module in modules for function in functions_of(module.tree)]
    tensors = [pair for module in modules for pair in tensor_functions(module)]
    folders = [f"{folder}/{package}" for package, folder in PACKAGES.items()]
    return {
        **{folder: _count(root, folder) for folder in [*folders, *OTHER_FOLDERS, "tests"]},
        "files": len(modules),
        "lines": sum(module.lines for module in modules),
        "single_importer_files": single_importer_files(modules),
        "private_functions": sum(_is_private(function) for function in functions),
        "single_use_functions": [n for module in modules for n in single_use_functions(module)],
        "protocols": sum(_is_protocol(node) for _, node in classes_of(modules)),
        "lone_protocols": lone_protocols(modules, tests),
        "tensor_functions": len(tensors),
        "tensor_functions_without_shape": [name for name, stated in tensors if not stated],
        "duplicate_names": duplicate_names(modules),
    }


def main() -> None:
    """Print the figures as a table, or with the names behind them as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--json", action="store_true", help="print the names too")
    options = parser.parse_args()
    figures = measure(options.root)
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:32} {len(value) if isinstance(value, list) else value}")


if __name__ == "__main__":
    main()
