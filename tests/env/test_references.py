"""Schemas that refer to each other mean the same when what they refer to is put in place."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from awpo_env.references import put_in_place

PLACE = {"type": "object", "properties": {"city": {"$ref": "Name"}}, "required": ["city"]}
SCHEMAS = {
    "Name": {"type": "string", "minLength": 1, "title": "Name"},
    "Place": PLACE,
    "Tree": {"type": "object", "properties": {"child": {"$ref": "Tree"}, "name": {"$ref": "Name"}}},
    "Egg": {"type": "object", "properties": {"from": {"$ref": "Hen"}}},
    "Hen": {"type": "object", "properties": {"from": {"$ref": "Egg"}, "name": {"$ref": "Name"}}},
    "Any": True,
}
NAME = SCHEMAS["Name"]
TREE = {"type": "object", "properties": {"child": {"$ref": "#/$defs/Tree"}, "name": NAME}}


def placed(schema: Any) -> tuple[Any, dict[str, Any]]:
    return put_in_place(schema, lambda reference: (reference, SCHEMAS[reference]))


@pytest.mark.parametrize(
    ("schema", "expected", "definitions"),
    [
        ({"$ref": "Name"}, NAME, {}),
        ({"$ref": "Any"}, True, {}),
        ({"$ref": "Any", "title": "A"}, {"allOf": [True], "title": "A"}, {}),
        ({"$ref": "Name", "title": "City"}, {**NAME, "title": "City"}, {}),
        ({"$ref": "Name", "maxLength": 3}, {"allOf": [NAME], "maxLength": 3}, {}),
        (
            {"items": {"anyOf": [{"$ref": "Name"}, {"type": "null"}]}},
            {"items": {"anyOf": [NAME, {"type": "null"}]}},
            {},
        ),
        (
            {"const": {"$ref": "Name"}, "enum": [{"$ref": "Name"}]},
            {"const": {"$ref": "Name"}, "enum": [{"$ref": "Name"}]},
            {},
        ),
        (
            {"properties": {"$ref": {"$ref": "Name"}, "default": {"$ref": "Name"}}},
            {"properties": {"$ref": NAME, "default": NAME}},
            {},
        ),
        ({"$ref": "Tree"}, {"$ref": "#/$defs/Tree"}, {"Tree": TREE}),
        ([{"$ref": "Tree"}, {"$ref": "Tree"}], [{"$ref": "#/$defs/Tree"}] * 2, {"Tree": TREE}),
        ({"$ref": "Tree", "title": "T"}, {"allOf": [{"$ref": "#/$defs/Tree"}], "title": "T"}, {"Tree": TREE}),
    ],
)
def test_what_is_referred_to_is_put_in_place(schema: Any, expected: Any, definitions: dict[str, Any]) -> None:
    assert placed(schema) == (expected, definitions)


@pytest.mark.parametrize("first", ["Egg", "Hen"])
def test_circles_of_schemas_keep_their_meaning(first: str) -> None:
    schema, definitions = placed({"properties": {"one": {"$ref": first}, "two": {"$ref": "Hen"}}})
    check = Draft202012Validator({**schema, "$defs": definitions})
    hen = {"from": {"from": {"name": "Berta"}}}
    assert check.is_valid({"one": hen["from"] if first == "Egg" else hen, "two": hen})
    assert not check.is_valid({"two": {"from": {"from": {"name": ""}}}})
    wrong = {"from": {"from": {"from": {"name": ""}}}}
    assert not check.is_valid({"one": wrong if first == "Egg" else wrong["from"]})
