"""Changing a case without editing it: ``--set key=value``, ``--seed N`` and the variants of ``compare``.

Changes are made to the tree before it is validated, so a changed case is checked like any other, and whatever is
wrong with a change is reported at the option or line that made it. They merge as JSON merge patches do (RFC 7386): a
section merges key by key, null removes a key, anything else replaces. A prior and the condition on a side are
replaced whole, since their keys exclude each other; another `guidance.method` takes the options of the old one away.
"""

from collections.abc import Iterable

from pdediff.cases.reader import Node, parse_value
from pdediff.cases.suggest import shown
from pdediff.solvers.errors import InputError

STRIDE = 1000  # between the seeds of consecutive problems
LARGEST_SEED = 2**32 // STRIDE - 1  # every seed made from it is below 2^32, as a seed must be
SHARED = ("accuracy", "schedule")  # options of guidance that every method has
WHOLE = {("prior",), ("physics",), *(("boundary", side) for side in ("left", "right", "bottom", "top"))}


def merge(base: Node, patch: Node, path: tuple[str, ...] = ()) -> Node:
    """``base`` changed by ``patch``. A section that loses a key comes from the patch: so does what it then lacks."""
    if not isinstance(patch.value, dict) or not isinstance(base.value, dict) or path in WHOLE:
        return patch
    if path == ("guidance",) and "method" in patch.value:
        base = _another_method(base, patch.value["method"])
    merged, where = dict(base.value), base.where
    for key, node in patch.value.items():
        if node.value is None and key in merged:
            del merged[key]
            where = node.where
        elif key in merged:
            merged[key] = merge(merged[key], node, (*path, key))
        else:
            merged[key] = node
    return Node(merged, where)


def _another_method(guidance: Node, method: Node) -> Node:
    """A section of guidance without the options that belong to its method, if `method` is another one."""
    own = guidance.value.get("method")
    if method.value == (own.value if own is not None else "proximal"):
        return guidance
    return Node({key: node for key, node in guidance.value.items() if key in SHARED}, guidance.where)


def apply_set(tree: Node, option: str) -> Node:
    """``tree`` with one ``key=value``: a dotted path (list items by number) and a YAML value.

    Raises InputError if there is no '=', no value, or the path leads through something that is not a section.
    """
    where = f"--set {option if len(option) <= 60 and option.isprintable() else shown(option)}"
    key, equals, text = option.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise InputError(f"{where}: must be key=value, such as sampling.samples=40")
    return _put(tree, path, parse_value(text, where), where)


def _put(node: Node, path: list[str], value: Node, where: str, done: str = "") -> Node:
    if not path:
        return value
    step, rest = path[0], path[1:]
    name = f"{done}.{step}".lstrip(".")
    if isinstance(node.value, tuple):
        if not step.isdecimal() or int(step) >= len(node.value):
            raise InputError(f"{where}: {done} is a list of {len(node.value)}; {done}.0 is its first item")
        items = list(node.value)
        items[int(step)] = _put(items[int(step)], rest, value, where, name)
        return Node(tuple(items), node.where)
    if not isinstance(node.value, dict):
        what = f"{done} is {shown(node.value)}, which has no key {shown(step)}"
        raise InputError(f"{where}: {what}; set {done}={{…}} instead")
    if name == "guidance.method" and not rest and value.value is not None:
        node = _another_method(node, value)
    children = dict(node.value)
    if not rest and value.value is None and step in children:
        del children[step]
        return Node(children, where)  # what the section lacks now is this option's doing
    children[step] = _put(children.get(step, Node({}, where)), rest, value, where, name)
    return Node(children, node.where)


def apply_seed(tree: Node, seed: int) -> Node:
    """``tree`` as problem number ``seed``.

    All seeds become distinct, and distinct from those of every other problem: 1000·seed for the truth, + 1 for the
    noise, + 2 for the sampler, + 10, + 11, … for the groups of sensors. A case with a data file has only the sampler's.
    """
    where = f"--seed {seed}"
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"{where}: must be between 0 and {LARGEST_SEED}")
    children = dict(tree.value)
    children["sampling"] = _seeded(children.get("sampling"), STRIDE * seed + 2, where)
    observations = children.get("observations")
    if observations is not None and isinstance(observations.value, dict) and "file" not in observations.value:
        data = dict(observations.value)
        data["truth"] = _seeded(data.get("truth"), STRIDE * seed, where)
        if "noise" in data:
            data["noise"] = _seeded(data["noise"], STRIDE * seed + 1, where)
        if "sensors" in data:
            data["sensors"] = _seeded_sensors(data["sensors"], STRIDE * seed + 10, where)
        children["observations"] = Node(data, observations.where)
    return Node(children, tree.where)


def _seeded(section: Node | None, seed: int, where: str) -> Node:
    """A section with this seed; what is not a section is left for validation to refuse."""
    if section is not None and not isinstance(section.value, dict):
        return section
    return Node({**(section.value if section else {}), "seed": Node(seed, where)}, section.where if section else where)


def _seeded_sensors(sensors: Node, first: int, where: str) -> Node:
    """The groups with their seeds; groups at given points, or with an operator, have none."""
    if isinstance(sensors.value, tuple):
        groups = (_seeded_sensors(group, first + k, where) for k, group in enumerate(sensors.value))
        return Node(tuple(groups), sensors.where)
    if isinstance(sensors.value, dict) and {"points", "operator"} & sensors.value.keys():
        return sensors
    return _seeded(sensors, first, where)


def apply_all(tree: Node, overrides: Iterable[str], seed: int | None) -> Node:
    """``tree`` with ``--seed`` and then every ``--set``, in order."""
    if seed is not None:
        tree = apply_seed(tree, seed)
    for option in overrides:
        tree = apply_set(tree, option)
    return tree
