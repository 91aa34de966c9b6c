"""Changes to keys and values: misspelt, renamed, dropped, twice, of a wrong kind, swapped, contradicting others."""

import itertools
import random
import re
from collections.abc import Iterator

from mutations.entries import Entry, entries, line_of, spliced

# What is written in place of a value. Some are right for some keys: those mutations are valid, or wrong elsewhere.
VALUES = (
    *("null", "true", "no", "text", "''", "'12'", "[]", "[1]", "[[1, 2], 3]", "[0.5, 0.5]", "{}", "{value: 1}"),
    *("0", "-1", "-3.5", "7", "1.5", "1e-320", "1e30", ".nan", "-.inf", "1e400", "99999999999999999999", "9" * 5000),
    *("2001-01-01", "0x1F", "1_000", '"\\0"', '"\\u202eabc"', "!!int 3", "!!python/tuple [1]", "*nothing", "[" * 60),
    *("9**9**9**9", "1/(x - x)", "sin(", "\"__import__('os')\"", '"' + "(" * 900 + '"', '"' + "-" * 900 + 'x"'),
    *("[16, 16]", "[64, 64]", "[5000, 5000]", "[1, 0]", "two-phase-64", "log-normal", "u", "a", "solver", "m³"),
)

# Sections that contradict themselves, each other or the shipped cases around them.
SECTIONS = {
    "boundary": (
        "{left: {flux: 0}, right: {flux: 0}, bottom: {flux: 0}, top: {flux: 0}}",
        "{left: {flux: 1}, right: {flux: -1}, bottom: {flux: 0}, top: {flux: 1e-3}}",
        "{left: {value: 1, flux: 0}}",
        "{left: {}}",
        "{left: {value: [1, 2, 3]}}",
        "{left: {value: 1/y}}",
        "{left: {value: log(-1 - y**2)}}",
        "{west: {value: 0}}",
    ),
    "source": (
        "{value: 1, wells: [{x: -1e3, y: 0.5, rate: 1}]}",
        "{wells: [{x: 0.5, y: 0.5}]}",
        "{wells: {x: 0.5, y: 0.5, rate: 1}}",
        "{value: x +}",
        "{value: 1e31}",
    ),
    "prior": (
        "two-phase-65",
        "Two_Phase_64",
        "{}",
        "{law: log-normal}",
        "{law: normal, variogram: {range: 1}}",
        "{law: log-normal, variogram: {range: 1e9}}",
        "{law: log-normal, variogram: {range: 1e-9, variance: 50}}",
        "{law: log-normal, mean: 1e3, variogram: {range: 0.2}}",
        "{law: log-normal, variogram: {kind: exponential, smoothness: 1, range: 0.2}}",
        "{weights: missing.safetensors}",
        "{weights: heads.csv}",
        "{weights: ../prior.safetensors}",
        "{weights: /etc/passwd}",
        "{weights: mine.safetensors, law: log-normal}",
        "[two-phase-64, two-phase-64]",
    ),
    "observations": (
        "{file: heads.csv, sensors: {count: 3}}",
        "{file: haeds.csv}",
        "{file: ../heads.csv}",
        "{file: sub/../../heads.csv}",
        "{file: /etc/passwd}",
        "{file: 'C:\\heads.csv'}",
        "{file: .}",
        "{file: case.yaml}",
        "{file: heads.csv, noise: {sigma: 0.1}}",
        "{sensors: {count: 3}}",
        "{noise: {sigma: 0.1}}",
        "{sensors: {count: 3, points: [[0, 0]]}, noise: {sigma: 0.1}}",
        "{sensors: {points: [[0.5, 0.5], [-1, 0.5]]}, noise: {sigma: 0.1}}",
        "{sensors: {points: [[0.5]]}, noise: {sigma: 0.1}}",
        "{sensors: {points: [[0.5, 0.5, 0.5]]}, noise: {sigma: 0.1}}",
        "{sensors: {points: []}, noise: {sigma: 0.1}}",
        "{sensors: {points: [[.nan, 0.5]]}, noise: {sigma: 0.1}}",
        "{sensors: {count: 17, placement: lattice}, noise: {sigma: 0.1}}",
        "{sensors: {count: 999999, placement: cells}, noise: {sigma: 0.1}}",
        "{sensors: {count: 3}, noise: {sigma: 0}}",
        "{sensors: {count: 3}, noise: {sigma: -0.1}}",
        "{sensors: {count: 3}, noise: {relative: 0.1}}",
        "{sensors: {count: 3}, noise: {sigma: 1, relative: 0.1}}",
        "{sensors: {count: 3, noise: {sigma: -1}}}",
    ),
}


def key_mutations(text: str, rng: random.Random) -> Iterator[tuple[str, str, str, int | None]]:
    """(kind, name, new content, line to blame) of every change to a key or a value of a case file."""
    found = entries(text)
    keys = [entry for entry in found if entry.key[0] < entry.key[1]]
    for entry in keys:
        key, line = text[slice(*entry.key)], line_of(text, entry.key[0])
        free = entry.path.startswith("compare.") and entry.path.count(".") == 1  # a variant's name is the user's
        for wrong in _misspellings(key, rng):
            yield "misspelt key", f"{entry.path} -> {wrong}", spliced(text, entry.key, wrong), None if free else line
        other = rng.choice(keys).path.rpartition(".")[2]
        yield "renamed key", f"{entry.path} -> {other}", spliced(text, entry.key, other), None
        yield "dropped key", entry.path, _dropped(text, entry), None
        yield "duplicate key", entry.path, _doubled(text, entry), _second_line(text, entry)
    for entry in found:
        for value in VALUES:
            yield (
                "wrong value",
                f"{entry.path} = {value[:40]}",
                spliced(text, entry.value, _fitting(value, entry)),
                None,
            )
    for one, two in itertools.pairwise(found):
        if one.path.rpartition(".")[0] == two.path.rpartition(".")[0] and one.value[1] <= two.value[0]:
            swapped = spliced(text, two.value, text[slice(*one.value)])
            yield (
                "swapped values",
                f"{one.path} and {two.path}",
                spliced(swapped, one.value, text[slice(*two.value)]),
                None,
            )
    for entry in found:
        for section in SECTIONS.get(entry.path, ()):
            yield (
                "contradiction",
                f"{entry.path}: {section}",
                spliced(text, entry.value, _fitting(section, entry)),
                None,
            )


def _misspellings(key: str, rng: random.Random) -> list[str]:
    k = rng.randrange(len(key))
    wrong = [
        key[:k] + key[k + 1 :],
        key[:k] + key[k] * 2 + key[k + 1 :],
        key + "_",
        key.upper(),
        key[:k] + "é" + key[k + 1 :],
    ]
    return [word for word in wrong if word and word != key]


def _fitting(value: str, entry: Entry) -> str:
    """A value as it must be written where it stands: an expression with commas is quoted between brackets."""
    return f" {value}" if not entry.flow and entry.key[0] < entry.key[1] else value


def _dropped(text: str, entry: Entry) -> str:
    start, end = entry.span
    if entry.flow:
        after = re.match(r"\s*,\s*", text[end:])
        before = re.search(r",\s*$", text[:start])
        if after:
            end += after.end()
        elif before:
            start = before.start()
    return spliced(text, (start, end), "")


def _doubled(text: str, entry: Entry) -> str:
    start, end = entry.span
    indent = start - (text.rfind("\n", 0, start) + 1)
    gap = ", " if entry.flow else "\n" + " " * indent
    return spliced(text, (start, start), text[start:end] + gap)


def _second_line(text: str, entry: Entry) -> int:
    """The line of the second of two equal keys."""
    start, end = entry.span
    return line_of(text, start) + text.count("\n", start, end) + (not entry.flow)


def option_mutations(text: str, rng: random.Random) -> Iterator[str]:
    """What may be typed after --set: every key with some value, and text that is no option at all."""
    for entry in entries(text):
        for value in rng.sample(VALUES, 4):
            yield f"{entry.path}={value}"
        step = rng.choice(["x", "0", "99", "-1", "", "value", "é", "a" * 200])
        yield f"{entry.path}.{step}={rng.choice(VALUES)}"
        yield f"{_misspellings(entry.path, rng)[0]}={rng.choice(VALUES)}"
    signs = "=.:,#&*[]{}'\"\\ \t\n\0\x1b-0aé\u202e%!|>@`~"
    for _ in range(60):
        yield "".join(rng.choice(signs) for _ in range(rng.randrange(12)))
        yield f"sampling.samples={''.join(rng.choice(signs) for _ in range(rng.randrange(8)))}"
