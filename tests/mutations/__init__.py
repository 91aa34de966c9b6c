"""A machine that spoils case files, tables, weights and options: each mutation is a valid problem with one change.

Changes are made in the text, at the places where a YAML parser finds the values, so that comments and the numbers of
the lines above stay what they were. Everything that is random is decided by a seed: the same call gives the same
mutations everywhere.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mutations.damage import damaged_files
from mutations.keys import key_mutations, option_mutations
from mutations.tables import table_mutations
from mutations.weights import weights_mutations

CASES = Path(__file__).parents[2] / "cases"
TABLE = "heads.csv"
CASE = "case.yaml"


@dataclass(frozen=True)
class Mutation:
    """Files and options that are wrong, or at least unusual.

    Parameters
    ----------
    kind : what sort of change it is.
    name : the change itself.
    files : all files of the problem by name, `case.yaml` the case.
    line : the only line of the case file that can be to blame, where there is one.
    options : what is typed after the case file.
    """

    kind: str
    name: str
    files: dict[str, bytes]
    line: int | None = None
    options: tuple[str, ...] = ()


def mutations(count: int, seed: int = 0) -> list[Mutation]:
    """`count` mutations of the shipped cases, as many of each kind as of any other (if there are enough)."""
    rng = random.Random(seed)
    kinds: dict[str, list[Mutation]] = {}
    for mutation in every_mutation(rng):
        kinds.setdefault(mutation.kind, []).append(mutation)
    for pool in kinds.values():
        rng.shuffle(pool)
    turns = range(max(map(len, kinds.values())))
    return [pool[turn] for turn in turns for pool in kinds.values() if turn < len(pool)][:count]


def every_mutation(rng: random.Random) -> Iterator[Mutation]:
    """All that the machine knows: some ten thousand."""

    def data(content: str | bytes) -> bytes:
        return content if isinstance(content, bytes) else content.encode()

    table = (CASES / TABLE).read_text(encoding="utf-8")
    for path in sorted(CASES.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        beside = {TABLE: table.encode()}
        for kind, name, spoilt, line in key_mutations(text, rng):
            yield Mutation(kind, f"{path.stem}: {name}", {CASE: spoilt.encode(), **beside}, line)
        for name, changed in damaged_files(text, rng):
            yield Mutation("damaged file", f"{path.stem}: {name}", {CASE: data(changed), **beside})
        for option in option_mutations(text, rng):
            yield Mutation("option", f"{path.stem}: {option}", {CASE: text.encode(), **beside}, None, ("--set", option))
    case = (CASES / "darcy-csv.yaml").read_bytes()
    for name, changed in table_mutations(table, rng):
        yield Mutation("table", name, {CASE: case, TABLE: data(changed)})
    for name, files in weights_mutations((CASES / "darcy-sparse.yaml").read_text(encoding="utf-8")):
        yield Mutation("weights", name, files)
