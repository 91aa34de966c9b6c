"""YAML 1.2 with a memory: every value knows the file and line it came from.

A case file is read into a tree of :class:`Node` and validated from there, so that whatever is wrong with it, however
late that is found, is reported as ``FILE:LINE``. Only plain data is read: no tags, no merge keys, no duplicate keys,
and aliases cannot grow without bound, because a case file may come from anywhere.
"""

import stat
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode
from ruamel.yaml.nodes import Node as YamlNode
from ruamel.yaml.reader import ReaderError

from pdediff.cases.suggest import nearest, shown
from pdediff.cases.syntax import explained
from pdediff.solvers.errors import InputError

MAX_BYTES = 2**20  # larger tables belong in a CSV
MAX_NODES = 200_000
MAX_DEPTH = 40

CORE = "tag:yaml.org,2002:"
TEXT = {CORE + "str", CORE + "timestamp"}  # a date is text: nothing in a case is a date
COLLECTIONS = {CORE + "map", CORE + "seq"}
TYPED = {CORE + "null", CORE + "bool", CORE + "int", CORE + "float"}

Path_: TypeAlias = Sequence[str | int]

SIGNATURES = {  # how files begin that are given for text by mistake
    b"\x89HDF": "HDF5 (or NetCDF-4)",
    b"CDF": "NetCDF",
    b"PK\x03\x04": "a zip archive (such as an .xlsx or .npz file)",
    b"\x1f\x8b": "compressed with gzip",
    b"PAR1": "Parquet",
    b"\x93NUMPY": "a NumPy array",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"%PDF": "a PDF",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}


@dataclass(frozen=True)
class Node:
    """A value and where it was written.

    Parameters
    ----------
    value : None, bool, int, float or str; ``dict[str, Node]``; or ``tuple[Node, ...]``.
    where : ``FILE:LINE`` of its key (of the value itself in a list), or the command-line option that gave it.
    """

    value: Any
    where: str

    def plain(self) -> Any:
        """The value without its places: dict, list and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        return self.value

    def find(self, path: Path_) -> tuple["Node", str]:
        """The deepest node along ``path`` and its dotted name.

        Steps that are not in the tree are skipped: a missing key is reported at its section, the name of a union's
        branch is not a key, and a lone item stands for a list of one.
        """
        node, name = self, ""
        for step in path:
            if isinstance(node.value, dict) and step in node.value:
                node, name = node.value[step], f"{name}.{step}".lstrip(".")
            elif isinstance(node.value, tuple) and isinstance(step, int) and step < len(node.value):
                node, name = node.value[step], f"{name}[{step}]"
        return node, name

    def get(self, *path: str) -> "Node | None":
        """The node exactly at ``path``, or None."""
        node = self
        for step in path:
            if not isinstance(node.value, dict) or step not in node.value:
                return None
            node = node.value[step]
        return node

    def error(self, path: Path_, message: str) -> InputError:
        """An InputError located at ``path``."""
        return InputError(f"{self.find(path)[0].where}: {message}")

    def moved(self, where: str) -> "Node":
        """The same tree, said to come from ``where``."""
        if isinstance(self.value, dict):
            return Node({key: node.moved(where) for key, node in self.value.items()}, where)
        if isinstance(self.value, tuple):
            return Node(tuple(node.moved(where) for node in self.value), where)
        return Node(self.value, where)


def read_yaml(path: str | Path, kind: str = "case file") -> Node:
    """The tree of a YAML file whose top level is a mapping; ``kind`` says in messages what it should have been.

    Raises InputError, with file and line, if the file is missing, unreadable, empty, not UTF-8 or not YAML.
    """
    path = Path(path)
    return parse_yaml(read_text(path, kind), str(path))


def read_text(path: Path, kind: str, limit: int = MAX_BYTES) -> str:
    """The text of a file that a user named (UTF-8, with or without byte-order mark).

    Raises InputError if it is missing, not a file, unreadable, not UTF-8 text, or larger than ``limit`` bytes. ``kind``
    says in messages what it should have been.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: is a folder, not a {kind}")
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device may have no end, and can be read only once
            raise InputError(f"{path}: is not a regular file; save the {kind} on a disk")
        if status.st_size > limit:
            raise InputError(f"{path}: is larger than {limit // 2**20} MiB; too large for a {kind}")
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such {kind}{_similar(path)}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{path}: cannot be read: {reason}") from None
    return _decoded(data, path, kind)


def _decoded(data: bytes, path: Path, kind: str) -> str:
    try:
        text = data.decode("utf-8-sig")
        problem, place = "not text: it has zero bytes", data.find(0)
    except UnicodeDecodeError as error:
        problem, place = "not UTF-8 text", error.start
    if place < 0:
        return text
    what = next((what for signature, what in SIGNATURES.items() if data.startswith(signature)), None)
    if what is not None:
        raise InputError(f"{path}:1: not a {kind}: this is {what}")
    raise InputError(f"{path}:{_line(data, place)}: {problem}")


def _line(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1


def parse_yaml(text: str, name: str) -> Node:
    """The tree of ``text``; ``name`` stands for the file in messages."""
    root = _compose(text, name)
    if root is None:
        raise InputError(f"{name}:1: the file is empty; it must have lines 'key: value'")
    node = _Converter(name).convert(root)
    if not isinstance(node.value, dict):
        raise InputError(f"{node.where}: expected 'key: value' lines, got {shown(node.plain())}")
    return node


def parse_value(text: str, where: str) -> Node:
    """The tree of a single value, as typed after ``--set key=``; every node of it comes from ``where``."""
    try:
        root = _compose(text, "")
        if root is None:
            raise InputError("no value after '='; write null to remove the key")
        return _Converter("").convert(root).moved(where)
    except InputError as error:
        raise InputError(f"{where}: {str(error).split(': ', 1)[-1]}") from None


def _similar(path: Path) -> str:
    """``; did you mean 'x'?`` with a file that does exist beside ``path``."""
    try:
        names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())
    except OSError:
        return ""
    close = nearest(path.name, names)
    return f"; did you mean {str(path.with_name(close))!r}?" if close else ""


def _compose(text: str, name: str) -> YamlNode | None:
    """ruamel's node graph of ``text``, before any construction."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a reused anchor is no concern of ours
            return YAML(typ="safe", pure=True).compose(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(f"{name}:{line}: not YAML: character {shown(chr(error.character))} is not allowed") from None
    except MarkedYAMLError as error:
        line, problem = explained(error)
        raise InputError(f"{name}:{line}: not YAML: {problem}") from None
    except (YAMLError, ValueError, AssertionError) as error:  # ruamel asserts on a %YAML directive it does not know
        raise InputError(f"{name}:1: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise InputError(f"{name}:1: nested deeper than {MAX_DEPTH} levels") from None


@dataclass
class _Converter:
    """Turns ruamel's nodes into ours, counting them: an alias is copied at every use."""

    name: str
    count: int = 0
    constructor: Any = field(default_factory=lambda: YAML(typ="safe", pure=True).constructor)

    def convert(self, node: YamlNode, depth: int = 0) -> Node:
        where = f"{self.name}:{node.start_mark.line + 1}"
        self.count += 1
        if self.count > MAX_NODES:
            raise InputError(f"{where}: more than {MAX_NODES} values; put large tables in a CSV")
        if depth > MAX_DEPTH:
            raise InputError(f"{where}: nested deeper than {MAX_DEPTH} levels")
        if isinstance(node, ScalarNode):
            return Node(self._scalar(node, where), where)
        if node.tag not in COLLECTIONS:
            raise self._tag_error(node, where)
        if isinstance(node, MappingNode):
            return Node(dict(self._items(node, depth)), where)
        return Node(tuple(self.convert(item, depth + 1) for item in node.value), where)

    def _items(self, node: MappingNode, depth: int) -> Iterator[tuple[str, Node]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            where = f"{self.name}:{line}"
            key = key_node.value
            if key_node.tag == CORE + "merge":
                raise InputError(f"{where}: merge keys '<<' are not part of YAML 1.2; write the keys out")
            if not isinstance(key_node, ScalarNode) or key_node.tag == CORE + "null":
                raise InputError(f"{where}: a key must be a word")
            if key in seen:
                raise InputError(f"{where}: duplicate key {shown(key)}, first given on line {seen[key]}")
            seen[key] = line
            yield key, replace(self.convert(value_node, depth + 1), where=where)

    def _scalar(self, node: ScalarNode, where: str) -> Any:
        if node.tag in TEXT:
            return node.value
        if node.tag not in TYPED:
            raise self._tag_error(node, where)
        try:
            return self.constructor.construct_object(node)
        except (YAMLError, ValueError, OverflowError, KeyError):
            raise InputError(f"{where}: {shown(node.value)} is not a number") from None

    def _tag_error(self, node: YamlNode, where: str) -> InputError:
        return InputError(f"{where}: tag {shown(str(node.tag).removeprefix(CORE))} is not allowed in a case")
