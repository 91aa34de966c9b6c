"""Where the keys and values of a YAML text stand."""

from collections.abc import Iterator
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode


@dataclass(frozen=True)
class Entry:
    """A key and its value, or an item of a list (its key is empty), in a YAML text.

    Parameters
    ----------
    path : dotted name.
    key, value : where they begin and end: indices of characters.
    flow : whether it stands between brackets.
    """

    path: str
    key: tuple[int, int]
    value: tuple[int, int]
    flow: bool

    @property
    def span(self) -> tuple[int, int]:
        """Key and value."""
        return self.key[0], self.value[1]


def entries(text: str) -> list[Entry]:
    """All keys and items of a YAML text."""

    def span(node: Node) -> tuple[int, int]:
        start, end = node.start_mark.index, node.end_mark.index
        return start, start + len(text[start:end].rstrip())

    def below(node: Node, path: str) -> Iterator[Entry]:
        flow = bool(getattr(node, "flow_style", False))
        if isinstance(node, MappingNode):
            for key, value in node.value:
                name = f"{path}.{key.value}".lstrip(".")
                yield Entry(name, span(key), span(value), flow)
                yield from below(value, name)
        elif isinstance(node, SequenceNode):
            for k, item in enumerate(node.value):
                yield Entry(f"{path}.{k}", (span(item)[0],) * 2, span(item), flow)
                yield from below(item, f"{path}.{k}")

    return list(below(YAML(typ="safe", pure=True).compose(text), ""))


def line_of(text: str, index: int) -> int:
    """Line number of a character."""
    return text.count("\n", 0, index) + 1


def spliced(text: str, span: tuple[int, int], new: str) -> str:
    """`text` with something else at `span`."""
    return text[: span[0]] + new + text[span[1] :]
