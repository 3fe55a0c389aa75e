"""Edits of the engine's source, found by pattern: how a mutant gets its bug into the code.

An edit is three texts.

where    A dotted prefix: a package, module, class or function. The edit has to match exactly once below it. A wide one
         ("bouncer.guard") survives moving the code, a narrow one ("bouncer.guard.history.History.end") is unambiguous.
before   Python: one expression, or statements that follow each other. It is compared as a syntax tree, so layout and
         comments don't matter. A single capital letter stands for any expression, the same letter for the same one:
         `A.missing_since = asked_at` outlives the renaming of a local. "" is the beginning of the function `where`.
after    What replaces it, with the same letters; "None" or "pass" removes it.

Only the function that an edit changes gets another code, in place, so that all holders of it run that.
"""

import ast
import copy
import importlib.util
import inspect
import pkgutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

Bound = dict[str, ast.expr]
"""What the letters of a pattern stand for."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


class StaleError(Exception):
    """An edit doesn't match exactly once: the code has changed, and the edit has to follow."""


class StaleWarning(UserWarning):
    """Tells of such an edit where it is no failure."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of one function: see above."""

    where: str
    before: str
    after: str

    def code(self) -> tuple[FunctionType, CodeType]:
        """Return the function that it changes, and the code that it gives it.

        Raises: StaleError if it doesn't match exactly once.
        """
        matches = [
            (module, name, place)
            for module in _modules(self.where)
            for name, function in _functions(_tree(module))
            if f"{module.__name__}.{name}.".startswith(f"{self.where}.")
            for place in _places(function, self)
        ]
        if len(matches) != 1:
            raise StaleError(f"{len(matches)} matches of {self.before!r} below {self.where}")
        ((module, name, place),) = matches
        with place.filled():
            codes = _codes(compile(ast.fix_missing_locations(_tree(module)), str(module.__file__), "exec"))
        found: Any = module
        for part in name.split("."):
            found = getattr(found, part)
        function = found.fget if isinstance(found, property) else found
        if not isinstance(function, FunctionType):
            raise StaleError(f"{module.__name__}.{name} is not a function")
        return function, codes[name]


@contextmanager
def applied(*edits: Edit) -> Iterator[None]:
    """Run with these edits in the code.

    Raises: StaleError for an edit that doesn't match exactly once.
    """
    with ExitStack() as undo:
        for edit in edits:
            function, code = edit.code()
            undo.callback(setattr, function, "__code__", function.__code__)
            function.__code__ = code
        yield


@dataclass(frozen=True, slots=True)
class _Place:
    """Neighbours in a syntax tree, and what replaces them."""

    holder: ast.AST
    field: str
    at: slice
    new: list[ast.AST]

    @contextmanager
    def filled(self) -> Iterator[None]:
        """Replace them for a while."""
        old = getattr(self.holder, self.field)
        new = [*old[: self.at.start], *self.new, *old[self.at.stop :]] if isinstance(old, list) else self.new[0]
        setattr(self.holder, self.field, new)
        try:
            yield
        finally:
            setattr(self.holder, self.field, old)


def _places(function: Function, edit: Edit) -> Iterator[_Place]:
    """Find all places of a function that a pattern matches."""
    before, after = _parsed(edit.before), _parsed(edit.after)
    if not before or isinstance(before[0], ast.stmt):
        after = [ast.Expr(each) if isinstance(each, ast.expr) else each for each in after]
    if not before:
        documented = int(ast.get_docstring(function) is not None)
        yield _Place(function, "body", slice(documented, documented), after)
        return
    for holder in ast.walk(function):
        for field, value in ast.iter_fields(holder):
            nodes = value if isinstance(value, list) else [value]
            for start in range(len(nodes) - len(before) + 1):
                at = slice(start, start + len(before))
                bound: Bound = {}
                if _equal(before, nodes[at], bound):
                    yield _Place(holder, field, at, [_Filling(bound).visit(copy.deepcopy(each)) for each in after])


@cache
def _parsed(text: str) -> list[Any]:
    """Parse a pattern: one expression as that, anything else as statements. What it returns stays as it is."""
    body = ast.parse(text).body
    return [body[0].value] if len(body) == 1 and isinstance(body[0], ast.Expr) else body


def _equal(pattern: Any, found: Any, bound: Bound) -> bool:
    """Return True if a piece of a tree matches a pattern, by what its letters stand for already."""
    match pattern:
        case list():
            alike = isinstance(found, list) and len(found) == len(pattern)
            return alike and all(_equal(*each, bound) for each in zip(pattern, found, strict=True))
        case ast.Name(id=letter) if _is_letter(letter):
            if not isinstance(found, ast.expr):
                return False
            first = bound.setdefault(letter, found)
            return first is found or ast.unparse(first) == ast.unparse(found)
        case ast.AST():
            fields = [name for name in pattern._fields if name != "ctx"]
            alike = type(pattern) is type(found)
            return alike and all(_equal(getattr(pattern, n, None), getattr(found, n, None), bound) for n in fields)
        case _:
            return bool(pattern == found)


def _is_letter(name: str) -> bool:
    return len(name) == 1 and name.isupper()


@dataclass
class _Filling(ast.NodeTransformer):
    """Puts in what the letters stand for."""

    bound: Bound

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Replace a letter."""
        if not _is_letter(node.id):
            return node
        filled = copy.deepcopy(self.bound[node.id])
        if hasattr(filled, "ctx"):
            filled.ctx = node.ctx
        return filled


def _modules(where: str) -> Iterator[ModuleType]:
    """Find the modules below a prefix, or the one that it lies in."""
    found = importlib.import_module(where.partition(".")[0])
    for part in where.split(".")[1:]:
        inner = f"{found.__name__}.{part}"
        if not hasattr(found, "__path__") or importlib.util.find_spec(inner) is None:
            break
        found = importlib.import_module(inner)
    yield found
    if found.__name__ == where:
        for each in pkgutil.walk_packages(getattr(found, "__path__", ()), f"{where}."):
            if not each.name.endswith("__main__"):
                yield importlib.import_module(each.name)


@cache
def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


def _functions(tree: ast.AST, within: str = "") -> Iterator[tuple[str, Function]]:
    """Find the outermost functions, with their qualified names."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{within}{node.name}.")
        elif isinstance(node, Function):
            yield f"{within}{node.name}", node


def _codes(code: CodeType) -> dict[str, CodeType]:
    """Find all code objects of a module, by qualified name."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {c.co_qualname: c for c in inner} | {q: c for each in inner for q, c in _codes(each).items()}
