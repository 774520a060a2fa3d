"""Glob patterns against names that are no paths: of S3's keys and of FTP's and SFTP's folders."""

import re
from functools import lru_cache
from typing import Final

_WILD: Final = re.compile(r"[*?\[]")


@lru_cache(maxsize=64)
def matcher(pattern: str) -> re.Pattern[str]:
    """Compile a pattern: `*` and `?` stop at slashes, `**/` is any number of folders, `[…]` one of the characters."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern)
    return re.compile("".join(map(_expression, parts)), re.DOTALL)


def _expression(part: str) -> str:
    known = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    if part in known:
        return known[part]
    if part.startswith("[") and part.endswith("]") and len(part) > 2:
        inner = part[1:-1].replace("\\", r"\\")
        return f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
    return re.escape(part)


def fixed_folder(pattern: str) -> str:
    """Return the folders at the pattern's start that have no wildcard, with a slash behind each."""
    folders = pattern.split("/")[:-1]
    fixed: list[str] = []
    for folder in folders:
        if _WILD.search(folder):
            break
        fixed.append(folder)
    return "".join(f"{folder}/" for folder in fixed)
