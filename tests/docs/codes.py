"""The closed sets of the code that the documents list: error codes, reasons of rejects, ids of checks, log events."""

import ast
import re
from collections.abc import Iterator

from tests.docs.documents import sources

CHECK_ID = re.compile(r"(?:ingestion\.)?([EW]\d{3})")


def raised(error: str) -> set[str]:
    """Return the first argument of every call of an error, followed through names and functions that give it."""
    found: set[str] = set()
    for tree in _trees():
        for call in _calls(tree):
            if _name(call.func) == error and call.args:
                codes = set(_texts(call.args[0], tree))
                assert codes, f"no code is known for {ast.unparse(call)}"
                found |= codes
    return found


def check_ids() -> set[str]:
    constants = (node.value for tree in _trees() for node in ast.walk(tree) if isinstance(node, ast.Constant))
    ids = (CHECK_ID.fullmatch(value) for value in constants if isinstance(value, str))
    return {f"ingestion.{found[1]}" for found in ids if found}


def log_events() -> set[str]:
    """Return the events that are logged where an operator sees them by default: from info on."""
    levels = {"info", "warning", "error", "exception", "critical"}
    return {
        text
        for tree in _trees()
        for call in _calls(tree)
        if isinstance(call.func, ast.Attribute) and call.func.attr in levels and _name(call.func.value) == "log"
        for text in _texts(call.args[0], tree)
        if "structlog" in _imports(tree)  # the keeper has a log file of its own
    }


def messages() -> str:
    """Return every text of the code, one a line, to look up what a document quotes."""
    constants = (node.value for tree in _trees() for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return "\n".join(value for value in constants if isinstance(value, str))


def _trees() -> Iterator[ast.Module]:
    for path in sources():
        yield ast.parse(path.read_text())


def _imports(tree: ast.Module) -> set[str]:
    return {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _name(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else None


def _texts(node: ast.expr, tree: ast.Module) -> Iterator[str]:
    """Yield the texts an expression can be: a literal, what a name is assigned, what a function returns."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp():
            yield from _texts(node.body, tree)
            yield from _texts(node.orelse, tree)
        case ast.Name():
            for value in _assigned(node.id, tree):
                yield from _texts(value, tree)
        case ast.Dict():
            for value in node.values:
                yield from _texts(value, tree)
        case ast.Call(func=ast.Name(id=name)):
            yield from _returned(name, tree)
        case ast.Call(func=ast.Attribute(value=table, attr="get"), args=[_, default]):
            yield from _texts(table, tree)
            yield from _texts(default, tree)
        case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name)):
            (path,) = (path for path in sources() if path.stem == module)
            yield from _returned(name, ast.parse(path.read_text()))


def _returned(name: str, tree: ast.Module) -> Iterator[str]:
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name == name:
            for inner in ast.walk(function):
                if isinstance(inner, ast.Return) and inner.value:
                    yield from _texts(inner.value, tree)


def _assigned(name: str, tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        match node:
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == name:
                yield value
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                yield value
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                yield from (v for t, v in zip(targets, values, strict=True) if _name(t) == name)
