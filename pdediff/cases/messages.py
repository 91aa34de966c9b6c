"""From pydantic's list of failures to one line that a user can act on.

pydantic reports every failure of every alternative, in its own words and without lines. We report the one failure
that explains the others: a misspelt key first (it also makes a required key go missing), then the first wrong value
in the grammar's order, then the first missing key; with the line of the offending key and the nearest valid spelling.
"""

import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from pdediff.cases.reader import Node
from pdediff.cases.suggest import shown, suggestion
from pdediff.solvers.errors import InputError

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[str | int, ...]


def validate(tree: Node, model: type[Model], context: Mapping[str, Any] | None = None) -> Model:
    """``model`` filled from ``tree``; InputError, one line with its place, if it does not fit."""
    try:
        return model.model_validate(tree.plain(), context=dict(context or {}))
    except ValidationError as error:
        raise _explain(tree, model, min(error.errors(include_url=False), key=_rank)) from None


def _rank(failure: Mapping[str, Any]) -> int:
    if failure["type"] == "missing" and isinstance(failure["loc"][-1], str):
        return 2
    return 0 if failure["type"] == "extra_forbidden" else 1


def _explain(tree: Node, model: type[BaseModel], failure: Mapping[str, Any]) -> InputError:
    kind, location, context = failure["type"], tuple(failure["loc"]), failure.get("ctx", {})
    if kind == "at_key":
        location, text = (*location, context["key"]), context["message"]
    elif kind == "extra_forbidden":
        return tree.error(location, _unknown(tree, model, location))
    elif kind == "missing" and isinstance(location[-1], str):
        section = tree.find(location[:-1])[1]
        return tree.error(location[:-1], f"missing key {location[-1]!r}{_inside(section)}")
    elif failure["input"] is None:
        text = "is empty; give it a value or remove the key"
    elif kind == "value_error":
        text = str(context["error"])
    elif kind in ("model_type", "model_attributes_type"):
        text = f"must be a section with keys {', '.join(_keys(model, location))}; got {shown(failure['input'])}"
    elif kind in SENTENCES:
        text = SENTENCES[kind](failure["input"], context)
    else:
        text = failure["msg"]
    name = tree.find(location)[1]
    if kind == "at_key" and not name.endswith(context["key"]):
        name = f"{name}.{context['key']}".lstrip(".")  # the key that is absent and should not be
    return tree.error(location, f"{name}: {text}" if name else text)


def _unknown(tree: Node, model: type[BaseModel], location: Location) -> str:
    """What to say of a key that its section does not have: it is misspelt, at the wrong place, or of another kind."""
    key, (node, section) = str(location[-1]), tree.find(location[:-1])
    valid = _keys(model, location[:-1])
    homes = [home for home in _homes(model) if home.rpartition(".")[2] == key]
    if re.sub(r"\[\d+\]", "", f"{section}.{key}") in homes:
        beside = ", ".join(other for other in node.value if other in valid)
        return f"{section}.{key}: contradicts {beside}; keep one or the other"
    if homes == [key]:
        hint = "it belongs to the top level of the file"
    else:
        hint = f"did you mean {homes[0]!r}?" if len(homes) == 1 else suggestion(key, valid)
    return f"unknown key {shown(key)}{_inside(section)}; {hint}"


def _inside(section: str) -> str:
    return f" in {section}" if section else ""


def _got(text: str) -> Callable[[Any, Mapping[str, Any]], str]:
    """A sentence that ends with the user's value; ``text`` is filled from pydantic's context."""
    return lambda given, context: f"{text.format(**context)}, got {shown(given)}"


def _choose(given: Any, context: Mapping[str, Any]) -> str:
    options = [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
    return f"unknown {shown(given)}; {suggestion(str(given), options)}"


SENTENCES: dict[str, Callable[[Any, Mapping[str, Any]], str]] = {
    "missing": lambda given, context: f"has too few numbers: {shown(given)}",
    "too_long": _got("needs at most {max_length} items"),
    "too_short": _got("needs at least {min_length}"),
    "greater_than": _got("must be greater than {gt:g}"),
    "greater_than_equal": _got("must be at least {ge:g}"),
    "less_than": _got("must be less than {lt:g}"),
    "less_than_equal": _got("must be at most {le:g}"),
    "int_type": _got("must be a whole number"),
    "int_from_float": _got("must be a whole number"),
    "int_parsing": _got("must be a whole number"),
    "int_parsing_size": _got("is too large"),
    "float_type": _got("must be a number"),
    "float_parsing": _got("must be a number"),
    "finite_number": _got("must be a finite number"),
    "bool_type": _got("must be true or false"),
    "string_type": _got("must be text"),
    "string_too_short": _got("must have at least {min_length} characters"),
    "string_too_long": _got("must have at most {max_length} characters"),
    "string_pattern_mismatch": _got("must be a name of letters, digits, '.', '_' and '-'"),
    "tuple_type": _got("must be a list"),
    "list_type": _got("must be a list"),
    "dict_type": _got("must be a section of 'key: value'"),
    "literal_error": _choose,
}


def _keys(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The valid keys of the section at ``location``; a union's branch is named by its class."""
    candidates = [model]
    for step in location:
        inner = [m for c in candidates if step in c.model_fields for m in _models(c.model_fields[str(step)].annotation)]
        candidates = inner or [c for c in candidates if c.__name__ == step] or candidates
    return list(dict.fromkeys(key for candidate in candidates for key in candidate.model_fields))


def _homes(model: type[BaseModel], name: str = "") -> Iterator[str]:
    """Dotted names of all keys below ``model``, to find the home of a key at the wrong depth."""
    for key, field in model.model_fields.items():
        yield f"{name}{key}"
        for inner in _models(field.annotation):
            yield from _homes(inner, f"{name}{key}.")


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models inside an annotation, such as A of ``tuple[A, ...] | None``."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    if get_origin(annotation) is typing.Literal:
        return []
    return [model for argument in get_args(annotation) for model in _models(argument)]
