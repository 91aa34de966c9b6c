"""Damage to a whole case file: cut, flipped, in another encoding, built to exhaust the reader."""

import random
import re
from collections.abc import Iterator

from mutations.entries import line_of


def damaged_files(text: str, rng: random.Random) -> Iterator[tuple[str, str | bytes]]:
    """(name, new content)."""
    data = text.encode()
    for _ in range(12):
        cut = rng.randrange(len(data))
        yield f"truncated after {cut} bytes", data[:cut]
    for _ in range(24):
        k, bit = rng.randrange(len(data)), rng.randrange(8)
        yield f"bit {bit} of byte {k} flipped", data[:k] + bytes([data[k] ^ 1 << bit]) + data[k + 1 :]
    for byte in (b"\0", b"\xff", b"\x1b", b"\t", b"\r", b"\xc2\x85", b"}", b"'", b"&", b"- "):
        k = rng.randrange(len(data))
        yield f"{byte!r} put at byte {k}", data[:k] + byte + data[k:]
    lines = text.splitlines(keepends=True)
    for _ in range(6):
        k = rng.randrange(len(lines))
        yield f"tab before line {k + 1}", "".join([*lines[:k], "\t", *lines[k:]])
        yield f"space before line {k + 1}", "".join([*lines[:k], " ", *lines[k:]])
        yield f"line {k + 1} twice", "".join([*lines[: k + 1], *lines[k:]])
        yield f"without line {k + 1}", "".join([*lines[:k], *lines[k + 1 :]])
    for mark in "{}[]:,":
        places = [match.start() for match in re.finditer(re.escape(mark), text)]
        k = rng.choice(places)
        yield f"{mark} removed on line {line_of(text, k)}", text[:k] + text[k + 1 :]
    yield "CRLF", text.replace("\n", "\r\n")
    yield "CR", text.replace("\n", "\r")
    yield "byte-order mark", b"\xef\xbb\xbf" + data
    yield "UTF-16", text.encode("utf-16")
    yield "Latin-1", text.encode("latin-1", "replace")
    yield "empty", ""
    yield "blank", "\n\n  \n"
    yield "comment", "# nothing\n"
    yield "list", "- " + text.replace("\n", "\n  ")
    yield "twice", text + "---\n" + text
    yield "directive", "%YAML 1.9\n---\n" + text
    yield "deep", text + "deep: " + "{a: " * 500 + "1" + "}" * 500 + "\n"
    yield "very deep", text + "deep: " + "[" * 100_000
    yield (
        "aliases",
        text + "l0: &l0 [1, 1, 1]\n" + "".join(f"l{k}: &l{k} [{f'*l{k - 1}, ' * 9}]\n" for k in range(1, 9)),
    )
    yield "alias of itself", text + "loop: &loop [*loop]\n"
    yield "anchor", text.replace("pde: darcy", "pde: &pde darcy")
    yield "merge key", text + "<<: {physics: solver}\n"
    yield "a long line", text + "# " + "x" * 100_000 + "\n"
    yield "a long key", text + "k" * 5000 + ": 1\n"
    yield "a number as key", text + "1: 2\n"
    yield "a list as key", text + "? [1, 2]\n: 3\n"
    yield "too large", text + "#" * 2**20
