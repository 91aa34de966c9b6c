"""The JSON Schema of a case file, for editors that complete and check YAML as it is typed."""

from typing import Any

from pdediff.cases.case import Case

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NULL = {"type": "null"}


def case_schema() -> dict[str, Any]:
    """JSON Schema of a case: every key with its description, unit, default and bounds.

    It says what pydantic's own does not: a prior and a kind of physics may be a bare name, a lone group of
    sensors stands for a list of one, and an optional key is left out, never null.
    """
    schema = _tidy(Case.model_json_schema())
    prior = schema["properties"]["prior"]
    prior["anyOf"] = [{"type": "string"}, *prior.pop("oneOf")]
    physics = schema["properties"]["physics"]
    names = schema["$defs"]["PhysicsSection"]["properties"]["kind"]["enum"]
    physics["anyOf"] = [{"type": "string", "enum": names}, {"$ref": physics.pop("$ref")}]
    sensors = schema["$defs"]["ObservationsSection"]["properties"]["sensors"]
    group = {"$ref": "#/$defs/SensorSection"}
    description = sensors.pop("description")
    schema["$defs"]["ObservationsSection"]["properties"]["sensors"] = {
        "description": description,
        "anyOf": [group, sensors],
    }
    return {"$schema": DIALECT, **schema, "title": "pdediff case"}


def _tidy(node: Any) -> Any:
    """Without null branches, the defaults of whole sections, and titles that only repeat the key."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidy = {key: _tidy(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    if NULL in tidy.get("anyOf", ()):
        tidy["anyOf"].remove(NULL)
        if len(tidy["anyOf"]) == 1:
            tidy |= tidy.pop("anyOf")[0]
    if "default" in tidy and (tidy["default"] is None or isinstance(tidy["default"], dict)):
        del tidy["default"]
    return tidy
