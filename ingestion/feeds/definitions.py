"""A feed's definition as one digest: whatever decides what rows the bytes of a page become.

Note [Definitions]: two runs with one digest make the same rows of the same bytes. So it holds the columns with all
that the model says of them, the table, the source's own definition, this engine's code and the feed's functions. A
function is known by its code, its defaults, what it has closed over, the functions and values that it names, and the
sources of the packages that these come from. What cannot be known so has no digest: such a feed skips nothing. No code
can tell that a function asks the clock or reads a file.
"""

import datetime as dt
import hashlib
import re
import sys
import sysconfig
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from django.utils.functional import Promise

from ingestion.cleaning import UNSET
from ingestion.errors import ConfigurationError
from ingestion.feeds.plans import Plan
from ingestion.sources import SkippingSource

# Code on disk that is newer than this process is not the code that runs in it.
_STARTED: Final = time.time()
_INSTALLED: Final = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
# Types whose repr is all there is to them.
_PLAIN: Final = (
    type(None), bool, int, float, complex, str, bytes, Decimal, dt.date, dt.time, dt.timedelta, dt.timezone, UUID,
    range, type(Ellipsis),
)  # fmt: skip
# Types and what their values are made of; the first that fits counts. Django's fields and validators follow them.
_MADE_OF: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (Enum, lambda value: (value.name, value.value)),
    (partial, lambda value: (value.func, value.args, value.keywords)),
    (types.MethodType, lambda value: (value.__func__, value.__self__)),
    (re.Pattern, lambda value: (value.pattern, value.flags)),
    (ZoneInfo, lambda value: value.key),
    (types.BuiltinFunctionType | types.MethodDescriptorType, lambda value: value.__qualname__),
)


class Incomparable(ConfigurationError):
    """Nobody can tell whether something in a definition has changed."""


def definition_of(plan: Plan) -> str:
    """Return the digest of a feed's definition.

    Raises:
        Incomparable: something in it cannot be compared, so that pages are never skipped; the message says what.
        ConfigurationError: the source does not know yet where to read from.
    """
    source = plan.feed.source
    if not isinstance(source, SkippingSource):
        raise Incomparable(f"{type(source).__name__} cannot skip pages")
    if plan.relations:
        raise Incomparable("a row that is found by its natural key may be another one by now")
    parts = [sys.version_info[:3], _sources("ingestion"), type(source)]
    parts += [plan.columns, plan.table, plan.mode, plan.using, plan.feed.rules]
    # Of a page that is skipped the fields are known only when they were looked at once.
    parts += [plan.feed.drift == "ignore"]
    reading, digest = _Reading(), hashlib.sha256()
    for text in chain(reading.texts(parts), _later(reading, source)):
        digest.update(f"{len(text)} {text}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _later(reading: "_Reading", source: SkippingSource) -> Iterator[str]:
    """Ask the source last: whatever else is wrong can be told while it does not know its URL yet."""
    yield from reading.texts(source.definition())


class _Reading:
    """One look at a definition; each function is read once, however often it is named."""

    def __init__(self) -> None:
        self._read: set[int] = set()

    def texts(self, value: Any) -> Iterator[str]:
        """Yield texts that are the same for equal values, and different for others."""
        if isinstance(value, Promise):
            yield f"translated {value}"
        elif value is UNSET or (isinstance(value, _PLAIN) and not isinstance(value, Enum)):
            yield f"{type(value).__name__} {value!r}"
        elif isinstance(value, Mapping):
            yield from self._unordered("mapping", value.items())
        elif isinstance(value, AbstractSet):
            yield from self._unordered("set", value)
        elif isinstance(value, Sequence):
            yield f"sequence {len(value)}"
            for member in value:
                yield from self.texts(member)
        else:
            yield from self._object(value)

    def _unordered(self, kind: str, members: Iterable[Any]) -> Iterator[str]:
        each = sorted(["\0".join(self.texts(member)) for member in members])
        yield f"{kind} {len(each)}"
        yield from each

    def _object(self, value: Any) -> Iterator[str]:
        """Yield what an object is: its type, and what it was made of."""
        if isinstance(value, type | types.ModuleType):
            yield _named(value)
        elif isinstance(value, types.FunctionType):
            yield from self._function(value)
        else:
            yield _named(type(value))
            yield from self.texts(_made_of(value))

    def _function(self, function: types.FunctionType) -> Iterator[str]:
        yield f"{function.__module__}.{function.__qualname__}"
        if id(function) in self._read or _is_installed(function.__module__):
            return
        self._read.add(id(function))
        yield _sources(function.__module__.partition(".")[0])
        try:
            yield from self._code(function.__code__)
            yield from self.texts([function.__defaults__, function.__kwdefaults__])
            yield from self.texts([cell.cell_contents for cell in function.__closure__ or ()])
            known = function.__globals__
            yield from self.texts([known[name] for name in _names(function.__code__) if name in known])
        except Incomparable as error:
            raise Incomparable(f"{function.__qualname__}: {error}") from None

    def _code(self, code: types.CodeType) -> Iterator[str]:
        yield f"{code.co_code!r} {code.co_names} {code.co_varnames} {code.co_freevars}"
        for value in code.co_consts:
            yield from self._code(value) if isinstance(value, types.CodeType) else self.texts(value)


def _made_of(value: Any) -> Any:
    if is_dataclass(value):
        return [getattr(value, field.name) for field in fields(value)]
    for type_, made_of in _MADE_OF:
        if isinstance(value, type_):
            return made_of(value)
    if hasattr(value, "deconstruct"):
        return value.deconstruct()
    raise Incomparable(f"nobody can tell whether a {type(value).__qualname__} has changed")


def _names(code: types.CodeType) -> list[str]:
    """Return the names that code and the functions inside it look up."""
    inner = [name for value in code.co_consts if isinstance(value, types.CodeType) for name in _names(value)]
    return sorted({*code.co_names, *inner})


def _named(value: type | types.ModuleType) -> str:
    module = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
    name = getattr(value, "__qualname__", "")
    return f"{module} {name} {'' if _is_installed(module) else _sources(module.partition('.')[0])}"


def _is_installed(name: str) -> bool:
    """Whether a module belongs to Python or to an installed package."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return name in sys.builtin_module_names or (file is not None and file.startswith(_INSTALLED))


@cache
def _sources(package: str) -> str:
    """Return the digest of the sources of a top-level package or module.

    Raises:
        Incomparable: there are none, or they are newer than this process.
    """
    module = sys.modules.get(package)
    folders = [Path(folder) for folder in getattr(module, "__path__", ())]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    if not folders and getattr(module, "__file__", None):
        files = [Path(str(module.__file__))]  # type: ignore[union-attr]  # it has a file
    if not files:
        raise Incomparable(f"{package} has no sources to compare")
    digest = hashlib.sha256()
    for path in sorted(files):
        if path.stat().st_mtime > _STARTED:
            raise Incomparable(f"the sources of {package} are newer than this process; start it anew")
        digest.update(f"{path.name} ".encode() + path.read_bytes())
    return digest.hexdigest()
