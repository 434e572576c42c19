"""References between JSON Schemas: what they stand for is put in place, so that a schema can be read on its own."""

from __future__ import annotations

from collections.abc import Callable

from awpo_env.types import JSON

_ANNOTATIONS = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
_BY_NAME = ("properties", "patternProperties", "dependentSchemas")  # keywords whose values hold schemas by name
_DATA = ("const", "enum", "default", "examples")  # keywords whose values are no schemas, whatever they look like

Find = Callable[[str], tuple[str, JSON]]
"""Returns the name and the schema a reference stands for; raises what its user wants raised."""


def put_in_place(schema: JSON, find: Find) -> tuple[JSON, dict[str, JSON]]:
    """Return a schema without references, except to those that contain themselves, which come as definitions.

    References to definitions are ``#/$defs/<name>``; they belong under ``$defs`` of the whole document.

    Args:
        schema: JSON Schema Draft 2020-12.
        find: Finds what a reference stands for.
    """
    walk = _Walk(find)
    return walk.placed(schema), walk.definitions


class _Walk:
    def __init__(self, find: Find) -> None:
        self._find = find
        self._open: list[str] = []  # names of the schemas that are being put in place
        self._recursive: set[str] = set()
        self.definitions: dict[str, JSON] = {}

    def placed(self, schema: JSON) -> JSON:
        if isinstance(schema, list):
            return [self.placed(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        reference = schema.get("$ref")
        beside = {word: self._value(word, value) for word, value in schema.items() if word != "$ref"}
        if reference is None:
            return beside
        target = self._target(reference)
        if not beside:
            return target
        if isinstance(target, dict) and "$ref" not in target and beside.keys() <= _ANNOTATIONS:
            return {**target, **beside}
        return {"allOf": [target], **beside}

    def _value(self, keyword: str, value: JSON) -> JSON:
        if keyword in _DATA:
            return value
        if keyword in _BY_NAME:
            return {name: self.placed(part) for name, part in value.items()}
        return self.placed(value)

    def _target(self, reference: str) -> JSON:
        name, schema = self._find(reference)
        here = {"$ref": f"#/$defs/{name}"}
        if name in self.definitions:
            return here
        if name in self._open:
            self._recursive.add(name)
            return here
        self._open.append(name)
        placed = self.placed(schema)
        self._open.pop()
        if name not in self._recursive:
            return placed
        self.definitions[name] = placed
        return here
