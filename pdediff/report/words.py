"""A case in plain words, as a reader who never saw its file would want it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

EQUATIONS = {
    "darcy": "Darcy flow, −∇·(a∇u) = f, for the coefficient a and the solution u",
    "none": "none: a is observed itself",
}
PHYSICS = {
    "solver": "u solves the equation exactly, in every sample",
    "none": "none: u is tied to a by the prior alone",
    "residual": "u satisfies the equation up to a stated error of the model",
}
MOST = 6
"""Wells and groups of sensors beyond this number are counted, not listed."""


def in_words(case: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (what, words) for the parts of a resolved case (see `Case.resolved`)."""
    units = case["observations"].get("units", "")
    sampling, has_equation = case["sampling"], case["pde"] != "none"
    rows = [
        ("Equation", EQUATIONS.get(case["pde"], case["pde"])),
        ("Domain", _domain(case["grid"])),
        ("Boundary", _boundary(case["boundary"], units) if has_equation else ""),
        ("Source", _source(case["source"]) if has_equation else ""),
        ("Data", _data(case["observations"])),
        ("Prior", _prior(case["prior"])),
        ("Physics", _kind(case["physics"], "kind", PHYSICS) if has_equation else ""),
        ("Method", _kind(case["guidance"], "method", {})),
        ("Inferred along", _inferred(case.get("infer") or {})),
        ("Samples", f"{sampling['samples']}, seed {sampling['seed']}"),
    ]
    return [(what, words) for what, words in rows if words or (what == "Source" and has_equation)]


def inline(value: Any) -> str:
    """Return plain data on one line: "key value, key value" for a mapping, numbers in their shortest form."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_nested(item)}" for key, item in value.items())
    if _is_list(value):
        return "[" + ", ".join(map(_nested, value)) + "]"
    if value is None:
        return "removed"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _nested(value: Any) -> str:
    return f"({inline(value)})" if isinstance(value, Mapping) else inline(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _inferred(infer: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}, between {inline(part['min'])} and {inline(part['max'])}" for name, part in infer.items())


def _kind(value: str | Mapping[str, Any], key: str, words: Mapping[str, str]) -> str:
    """Return the words for a name, or for a section with its name under `key` and further settings beside it."""
    if not isinstance(value, Mapping):
        return words.get(value, value)
    name = str(value.get(key, ""))
    rest = inline({k: v for k, v in value.items() if k != key})
    return ", ".join(part for part in (words.get(name, name), rest) if part)


def _domain(grid: Mapping[str, Any]) -> str:
    (ny, nx), domain = grid["shape"], grid["domain"]
    unit = f" {domain['unit']}" if domain.get("unit") else ""
    x, y = (f"{domain[axis][0]:g} to {domain[axis][1]:g}{unit}" for axis in ("x", "y"))
    return f"x from {x}, y from {y}; {nx} × {ny} cells"


def _boundary(boundary: Mapping[str, Any], units: str) -> str:
    sides = {side: _side(condition, units) for side, condition in boundary.items()}
    if len(set(sides.values())) == 1:
        return f"{next(iter(sides.values()))} on all sides"
    return "; ".join(f"{side}: {words}" for side, words in sides.items())


def _side(condition: Mapping[str, Any], units: str) -> str:
    (kind, value), *rest = condition.items()
    if kind == "flux" and value == 0:
        return "no flow"
    if kind not in ("value", "flux") or rest:
        return inline(condition)
    unit = units if kind == "value" else ""
    if _is_list(value):
        words = "given face by face"
    elif isinstance(value, str):
        words = f"{value} [{unit}]" if unit else value
    else:
        words = f"{inline(value)} {unit}".strip()
    return f"{'u' if kind == 'value' else 'inflow'} = {words}"


def _source(source: Mapping[str, Any]) -> str:
    value, wells = source.get("value", 0), source.get("wells", [])
    words = [f"f = {inline(value)}" if value != 0 or not wells else ""]
    if len(wells) > MOST:
        words.append(f"{len(wells)} wells")
    else:
        words += [f"well at ({well['x']:g}, {well['y']:g}) with rate {inline(well['rate'])}" for well in wells]
    return "; ".join(filter(None, words))


def _data(observations: Mapping[str, Any]) -> str:
    noise = observations.get("noise")
    noise_words = ""
    if noise:
        unit = f" [{observations['units']}]" if observations.get("units") else ""
        noise_words = f"noise: {inline({k: v for k, v in noise.items() if k != 'seed'})}{unit}"
    if "file" in observations:
        return "; ".join(filter(None, (f"measurements from {observations['file']['name']}", noise_words)))
    truth, sensors = observations["truth"], observations.get("sensors", [])
    words = [f"{len(sensors)} groups of sensors"] if len(sensors) > MOST else [_sensors(group) for group in sensors]
    solved = f", solved on cells {truth['refine']} times smaller" if truth.get("refine", 1) > 1 else ""
    return "; ".join(filter(None, [f"a synthetic truth (seed {truth['seed']}{solved})", *words, noise_words]))


def _sensors(group: Mapping[str, Any]) -> str:
    name = f" ({group['name']})" if group.get("name") else ""
    gain = f", times {inline(group['gain'])}" if group.get("gain", 1) != 1 else ""
    if "operator" in group:
        return f"{group['field']} through {', then '.join(inline(part) for part in group['operator'])}{gain}{name}"
    if "points" in group:
        return f"{len(group['points'])} sensors of {group['field']} at given points{name}"
    placement = f", {group['placement']}" if group.get("placement") else ""
    return f"{group['count']} sensors of {group['field']}{placement}{name}"


def _prior(prior: Mapping[str, Any], field: str = "a") -> str:
    if "name" in prior:
        return f"the trained network {prior['name']}"
    if "weights" in prior:
        weights = prior["weights"]
        return f"the trained network {weights['name'] if isinstance(weights, Mapping) else weights}"
    if "law" in prior:
        rest = inline(
            {key: value for key, value in prior.items() if key not in ("law", "units") and value not in ("", 0)}
        )
        return f"{prior['law']} {field}, {rest}"
    return "; ".join(
        _prior(part, name) if isinstance(part, Mapping) else f"{name}: {part}" for name, part in prior.items()
    )
