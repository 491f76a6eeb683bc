"""Arithmetic mutations of a function: another operator, another comparison, another number, each at one place."""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BINARY = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.MatMult: ast.Add,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
}
COMPARISON = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
CALLS = {"min": "max", "max": "min", "sum": "max", "exp": "abs", "sqrt": "abs", "log": "abs", "mean": "sum"}
METHODS = {"sum": "mean", "mean": "sum", "amin": "amax", "amax": "amin", "argmax": "argmin", "square": "abs"}


@dataclass(frozen=True)
class Mutant:
    """One change of one function.

    Attributes:
        file: Path of the source file from the repository's root.
        function: Qualified name inside the file.
        line: Line of the change.
        before: Source of the changed expression.
        after: What it becomes.
        place: Which node of the function, in the order of walking.
        kind: Which of the mutations that the node has.
    """

    file: str
    function: str
    line: int
    before: str
    after: str
    place: int
    kind: int

    def source(self, root: Path) -> str:
        """The whole file with this one change."""
        tree = ast.parse((root / self.file).read_text(encoding="utf-8"))
        node = list(ast.walk(_functions(tree)[self.function]))[self.place]
        list(_mutations(node))[self.kind](node)
        return ast.unparse(ast.fix_missing_locations(tree))

    @property
    def key(self) -> str:
        """What the mutant is, wherever its line has moved to."""
        return f"{self.file} {self.function}: {self.before} -> {self.after}"


def mutants(root: Path, file: str, functions: list[str]) -> list[Mutant]:
    """All mutants of these functions, in the order of the source.

    Raises:
        ValueError: The file has no such function.
    """
    found = []
    for name in functions:
        known = _functions(ast.parse((root / file).read_text(encoding="utf-8")))
        if name not in known:
            raise ValueError(f"{file} has no function {name!r}; it has {', '.join(known)}")
        for place, node in enumerate(ast.walk(known[name])):
            for kind, mutate in enumerate(_mutations(node)):
                changed = copy.deepcopy(node)
                mutate(changed)
                before, after = ast.unparse(node), ast.unparse(ast.fix_missing_locations(changed))
                if before != after:
                    found.append(Mutant(file, name, node.lineno, before, after, place, kind))
    return found


def _functions(tree: ast.AST, prefix: str = "") -> dict[str, ast.AST]:
    found: dict[str, ast.AST] = {}
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            name = f"{prefix}{node.name}"
            if isinstance(node, ast.FunctionDef):
                found[name] = node
            found |= _functions(node, f"{name}.")
    return found


def _mutations(node: ast.AST) -> Iterator[object]:
    """Functions that change ``node`` in place."""
    if isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in BINARY and not _is_text(node):
        yield lambda n: setattr(n, "op", BINARY[type(n.op)]())
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISON:
        yield lambda n: setattr(n, "ops", [COMPARISON[type(n.ops[0])]()])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield lambda n: setattr(n, "op", ast.UAdd())
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield lambda n: setattr(n, "value", n.value + 1)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
        yield lambda n: setattr(n.func, "id", CALLS[n.func.id])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        yield lambda n: setattr(n.func, "attr", METHODS[n.func.attr])


def _is_text(node: ast.BinOp | ast.AugAssign) -> bool:
    parts = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.value,)
    return any(
        isinstance(p, ast.JoinedStr) or (isinstance(p, ast.Constant) and isinstance(p.value, str)) for p in parts
    )
