"""From a file to a valid case.

The one way in: read (with lines), change (``--seed``, ``--set``), validate (types and bounds), check (what the
sections must satisfy together, and the files they name). Whatever is wrong at any step is one InputError,
``FILE:LINE: what``.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pdediff.cases.case import Case
from pdediff.cases.checks import check
from pdediff.cases.messages import validate
from pdediff.cases.overrides import apply_all, merge
from pdediff.cases.reader import Node, read_yaml
from pdediff.cases.suggest import shown, suggestion
from pdediff.solvers.errors import InputError


def load_case(path: str | Path, overrides: Sequence[str] = (), seed: int | None = None) -> Case:
    """The case in the YAML file at ``path``.

    Parameters
    ----------
    path : the case file.
    overrides : ``key=value`` each, as after ``--set``: a dotted path and a YAML value; null removes a key.
    seed : problem number; sets the seeds of truth, sensors, noise and sampling (before ``overrides``).

    Raises
    ------
    InputError : one line, ``FILE:LINE: what, and the nearest valid spelling``; for an override its option is in the
        place of FILE:LINE.
    """
    path = Path(path)
    tree = read_yaml(path)
    return build_case(apply_all(tree, overrides, seed), path, tree)


def build_case(tree: Node, path: Path, unchanged: Node | None = None) -> Case:
    """The case in a tree; ``path`` is its file, beside which the files it names are looked for.

    ``unchanged`` is the tree before options of the command line. Where those contradict a variant, which only a
    comparison has to mind, it is enough that the variant was valid without them.

    Raises InputError.
    """
    case = _validated(tree, path)
    for name in case.compare:
        try:
            _validated(_variant_tree(case, tree, name), path, lenient=True)
        except InputError:
            if unchanged is None or not _is_valid_variant(unchanged, path, name):
                raise
    return case


def _is_valid_variant(tree: Node, path: Path, name: str) -> bool:
    try:
        case = _validated(tree, path)
        return name in case.compare and _validated(_variant_tree(case, tree, name), path, lenient=True) is not None
    except InputError:
        return False


def load_variant(case: Case, name: str) -> Case:
    """The case that the variant ``name`` of ``compare`` describes, checked in full. Raises InputError."""
    if name not in case.compare:
        raise InputError(f"{case.path}: unknown variant {shown(name)}; {suggestion(name, case.compare)}")
    return _validated(_variant_tree(case, case.origin.tree, name), case.path)


def _validated(tree: Node, path: Path, lenient: bool = False) -> Case:
    """A case, its origin attached; ``lenient``: what this version has not, physics or priors, may be named."""
    case = validate(tree, Case, {"lenient": lenient})
    empty = next(_empty(tree), None)
    if empty is not None:
        raise tree.error(empty, f"{tree.find(empty)[1]}: is empty; give it a value or remove the key")
    case._origin = check(case, tree, path, lenient)
    return case


def _empty(node: Node, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of the nulls in a tree; in `compare` they remove keys."""
    if node.value is None:
        yield path
    elif path != ("compare",) and isinstance(node.value, dict | tuple):
        items = node.value.items() if isinstance(node.value, dict) else enumerate(node.value)
        for key, child in items:
            yield from _empty(child, (*path, key))


def _variant_tree(case: Case, tree: Node, name: str) -> Node:
    """The tree of a case without its variants, changed by one of them."""
    patch = tree.value["compare"].value[name]
    if "compare" in patch.value:
        raise patch.error(("compare",), f"compare.{name}.compare: a variant has no variants")
    base = Node({key: node for key, node in tree.value.items() if key != "compare"}, tree.where)
    return merge(base, patch)
