"""The nearest valid spelling of a word, for every message that refuses one."""

import difflib
from collections.abc import Iterable


def nearest(word: str, valid: Iterable[str]) -> str | None:
    """The valid spelling closest to ``word`` (case and ``_``/``-`` do not count), or None if nothing is close."""
    folded = {_fold(option): option for option in valid}
    close = difflib.get_close_matches(_fold(word), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def suggestion(word: str, valid: Iterable[str]) -> str:
    """``did you mean 'x'?``, or the list of all valid spellings where none is close."""
    options = list(valid)
    close = nearest(word, options)
    if close is not None:
        return f"did you mean {close!r}?"
    return f"valid: {', '.join(options)}" if options else "none is valid here"


def shown(value: object, width: int = 60) -> str:
    """A user's value as it appears in a message: one line, as YAML writes it, cut at ``width`` characters."""
    text = _written(value)
    return text if len(text) <= width else text[: width - 1] + "…"


def _written(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_written(item)}' for key, item in value.items())}}}"
    return repr(value)  # text in quotes, control characters escaped


def _fold(word: str) -> str:
    return word.casefold().replace("_", "-")
