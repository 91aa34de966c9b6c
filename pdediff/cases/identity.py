"""When two cases are the same problem.

A case's identity is its resolved content: every default filled in, every file replaced by the hash of its bytes.
Formatting, comments, key order, the spelling of a number and the name or place of a file do not matter; any value
that can change a result does.
"""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

LENGTH = 10  # hexadecimal digits of a case's hash: 2^40 cases
ABSENT = "(absent)"


def digest(resolved: Mapping[str, Any]) -> str:
    """Short SHA-256 of a resolved case, without what cannot change a run's results.

    Left out are the batch size (each sample has its own noise), the variants of `compare` (each is a case of its own),
    and the names of files (their content counts).
    """
    content = copy.deepcopy(dict(resolved))
    content.pop("compare", None)
    content.get("sampling", {}).pop("batch", None)
    for section, key in (("observations", "file"), ("prior", "weights")):
        entry = content.get(section, {}).get(key)
        if isinstance(entry, dict):
            entry.pop("name", None)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed between two resolved cases: lines ``key: old -> new``, sorted by key."""
    a, b = dict(_flat(old)), dict(_flat(new))
    return [
        f"{key}: {_text(a, key)} -> {_text(b, key)}"
        for key in sorted(a.keys() | b.keys())
        if key not in a or key not in b or a[key] != b[key]
    ]


def brief(changes: Sequence[str], most: int = 4) -> str:
    """Changes in one line: the first few, and how many more there are."""
    more = [f"and {len(changes) - most} more"] if len(changes) > most else []
    return "; ".join([*changes[:most], *more])


def _flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """(dotted key, scalar) pairs; lists of scalars stay whole."""
    if isinstance(value, Mapping) and value:
        return [pair for key in value for pair in _flat(value[key], f"{name}.{key}" if name else key)]
    if _is_list(value) and any(isinstance(item, Mapping) for item in value):
        return [pair for k, item in enumerate(value) for pair in _flat(item, f"{name}[{k}]")]
    return [(name, list(value) if _is_list(value) else value)]


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _text(flat: Mapping[str, Any], key: str) -> str:
    text = json.dumps(flat[key], ensure_ascii=False) if key in flat else ABSENT
    return text if len(text) <= 80 else text[:79] + "…"
