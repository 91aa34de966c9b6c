"""The JSON Schema: complete, documented, and free of what only pydantic understands."""

from collections.abc import Iterator
from typing import Any

from pdediff.cases.case import Case
from pdediff.cases.schema import case_schema

KEYWORDS = {
    *("$schema", "$defs", "$ref", "title", "description", "type", "enum", "const", "default", "pattern", "format"),
    *(
        "properties",
        "required",
        "additionalProperties",
        "patternProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
        "items",
        "prefixItems",
    ),
    *("minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("anyOf", "oneOf"),
}


def schemas(node: Any) -> Iterator[dict[str, Any]]:
    """Every schema inside a schema."""
    if isinstance(node, dict):
        yield node
        for key, value in node.items():
            for child in (
                value.values()
                if key in ("properties", "patternProperties", "$defs")
                else [value]
                if key != "default"
                else []
            ):
                yield from schemas(child)
    elif isinstance(node, list):
        for item in node:
            yield from schemas(item)


def test_only_keywords_of_json_schema() -> None:
    """Bounds are minimum and maximum, not pydantic's ge and le, and no key may be null."""
    for schema in schemas(case_schema()):
        assert schema.keys() <= KEYWORDS, schema
        assert schema.get("type") != "null"


def test_every_key_is_described() -> None:
    """An editor shows what each key means, and every section refuses unknown keys."""
    schema = case_schema()
    assert schema["properties"].keys() == Case.model_fields.keys()
    assert set(schema["required"]) == {"pde", "grid", "prior", "observations"}
    for name, section in {"case": schema, **schema["$defs"]}.items():
        assert section["additionalProperties"] is False, name
        for key, property_ in section["properties"].items():
            assert property_.get("description"), f"{name}.{key}"


def test_short_forms_are_in_the_schema() -> None:
    """A bare name for a prior and for physics; one group of sensors for a list of one; names with their spellings."""
    schema = case_schema()
    assert {"type": "string"} in schema["properties"]["prior"]["anyOf"]
    assert {"$ref": "#/$defs/LogNormalPrior"} in schema["properties"]["prior"]["anyOf"]
    sensors = schema["$defs"]["ObservationsSection"]["properties"]["sensors"]
    assert [("$ref" in branch, branch.get("type")) for branch in sensors["anyOf"]] == [(True, None), (False, "array")]
    names, section = schema["properties"]["physics"]["anyOf"]
    assert "solver" in names["enum"]
    assert section == {"$ref": "#/$defs/PhysicsSection"}
    sigma = schema["$defs"]["NoiseSection"]["properties"]["sigma"]
    assert (sigma["type"], sigma["exclusiveMinimum"]) == ("number", 0)
