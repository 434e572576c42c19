"""Type hints as JSON Schema, and JSON values as what was hinted."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, Required, Union

from jsonschema import Draft202012Validator

from awpo_env.references import put_in_place
from awpo_env.types import JSON

_SIMPLE: Mapping[Any, dict[str, JSON]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    type(None): {"type": "null"},
    None: {"type": "null"},
    Any: {},
    object: {},
}
_ARRAYS = (list, tuple, set, frozenset, Sequence, Iterable, Set)
_OBJECTS = (dict, Mapping)
# Attributes of the bounds that the package annotated-types defines and pydantic uses.
_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
}
_LENGTHS = {"string": "Length", "array": "Items", "object": "Properties"}


@dataclass(frozen=True, slots=True)
class Hint:
    """A type hint that was understood.

    Attributes:
        schema: JSON Schema of its values.
        read: Makes a valid JSON value what was hinted; raises ValueError when a class of the user's refuses it.
        definitions: Schemas to put under ``$defs`` of the whole document.
    """

    schema: dict[str, JSON]
    read: Callable[[JSON], Any]
    definitions: dict[str, JSON]

    def default(self, value: Any) -> JSON:
        """Return a default as a JSON value; None when it has none, or one the schema does not allow."""
        try:
            shown = json.loads(json.dumps(plain(value), allow_nan=False))
        except (TypeError, ValueError):
            return None  # a sentinel of the function's own
        return shown if _validator(self.schema, self.definitions).is_valid(shown) else None


def read_hint(annotation: Any) -> Hint:
    """Understand a type hint.

    These are: bool, int, float, str, None, Any; list, tuple, set, dict and their abstract relatives, with or without
    what is in them; Literal; Enum; Union and Optional; dataclasses, TypedDict and pydantic models, recursive ones too;
    NewType and aliases. ``Annotated`` adds a description (a text), keywords of JSON Schema (a mapping), or bounds
    (pydantic's ``Field``, annotated-types).

    Raises:
        TypeError: Nothing in JSON corresponds to it; the message is a clause that says to what.
    """
    reader = _HintReader()
    schema, read = reader.read(annotation)
    return Hint(schema, read, reader.definitions)


def plain(value: Any) -> JSON:
    """Return a Python value as a JSON value: dataclasses, enums and models taken apart, sets sorted."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if _is_model(type(value)):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value), key=lambda item: json.dumps(item, sort_keys=True))
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _same(value: JSON) -> JSON:
    return value


def _is_model(annotation: Any) -> bool:
    pydantic = sys.modules.get("pydantic")  # whoever has a model has imported it
    return pydantic is not None and isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel)


def _validator(schema: dict[str, JSON], definitions: dict[str, JSON]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "$defs": definitions})


_Read = tuple[dict[str, JSON], Callable[[JSON], Any]]


class _HintReader:
    """Reads one annotation and everything in it; gathers definitions of classes that contain themselves."""

    def __init__(self) -> None:
        self.definitions: dict[str, JSON] = {}
        self._open: dict[type, list[Callable[[JSON], Any]]] = {}  # classes being read, each with its reader once known
        self._recursive: set[type] = set()

    def read(self, annotation: Any) -> _Read:
        if isinstance(annotation, typing.NewType):
            return self.read(annotation.__supertype__)
        if type(annotation).__name__ == "TypeAliasType":  # the statement `type X = ...`
            return self.read(annotation.__value__)
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Annotated:
            schema, read = self.read(arguments[0])
            return _annotated(schema, annotation.__metadata__), read
        if origin in (Required, NotRequired):
            return self.read(arguments[0])
        if origin is Literal:
            return {"enum": _scalars(arguments)}, _same
        if origin in (Union, types.UnionType):
            return self._union(arguments)
        kind = origin or annotation
        if kind in _ARRAYS:
            return self._array(kind, arguments)
        if kind in _OBJECTS:
            return self._mapping(arguments)
        if isinstance(annotation, type):
            if issubclass(annotation, enum.Enum):
                return {"enum": _scalars([member.value for member in annotation])}, annotation
            if _is_model(annotation):
                return self._model(annotation)
            if dataclasses.is_dataclass(annotation) or typing.is_typeddict(annotation):
                return self._class(annotation)
        try:
            return dict(_SIMPLE[annotation]), _same
        except (KeyError, TypeError):
            raise TypeError(
                f"nothing in JSON corresponds to {annotation!r}; expected for example str or list[int]"
            ) from None

    def _union(self, arguments: Sequence[Any]) -> _Read:
        arms = [self.read(argument) for argument in arguments]
        schema = {"anyOf": [arm for arm, _ in arms]}
        if all(read is _same for _, read in arms):
            return schema, _same

        @functools.cache
        def validators() -> list[tuple[Draft202012Validator, Callable[[JSON], Any]]]:
            # Not before the first call: definitions are complete only when the whole hint was read.
            return [(_validator(arm, self.definitions), read) for arm, read in arms]

        return schema, lambda value: next(read(value) for check, read in validators() if check.is_valid(value))

    def _array(self, kind: Any, arguments: Sequence[Any]) -> _Read:
        make = kind if kind in (tuple, set, frozenset) else list
        if kind is tuple and arguments and arguments[-1] is not Ellipsis:
            items = [self.read(argument) for argument in arguments]
            schema = {
                "type": "array",
                "prefixItems": [part for part, _ in items],
                "items": False,
                "minItems": len(items),
            }
            return schema, lambda value: tuple(read(item) for (_, read), item in zip(items, value, strict=True))
        part, read = self.read(arguments[0]) if arguments else ({}, _same)
        schema = {"type": "array", **({"items": part} if part else {})}
        if make in (set, frozenset):
            schema["uniqueItems"] = True
        return schema, _same if make is list and read is _same else lambda value: make(map(read, value))

    def _mapping(self, arguments: Sequence[Any]) -> _Read:
        key, item = arguments or (str, Any)
        if key is not str:
            raise TypeError(f"keys of JSON objects are texts, not {key!r}; expected dict[str, ...]")
        part, read = self.read(item)
        schema = {"type": "object", **({"additionalProperties": part} if part else {})}
        return schema, _same if read is _same else lambda value: {name: read(each) for name, each in value.items()}

    def _model(self, model: Any) -> _Read:
        whole = model.model_json_schema()
        parts = whole.pop("$defs", {})

        def find(reference: str) -> tuple[str, JSON]:
            name = reference.removeprefix("#/$defs/")
            return name, parts[name]

        schema, definitions = put_in_place(whole, find)
        for name, definition in definitions.items():
            self._define(name, definition)
        return schema, functools.partial(_read_model, model)

    def _class(self, cls: Any) -> _Read:
        if cls in self._open:
            self._recursive.add(cls)
            later = self._open[cls]
            return {"$ref": f"#/$defs/{cls.__name__}"}, lambda value: later[0](value)
        self._open[cls] = []
        hints = typing.get_type_hints(cls, include_extras=True)
        if typing.is_typeddict(cls):
            # A hint that was postponed is not seen by the class itself.
            optional = {name for name, hint in hints.items() if typing.get_origin(hint) is NotRequired}
            needed = cls.__required_keys__ - optional
        else:
            fields = [field for field in dataclasses.fields(cls) if field.init]
            hints = {field.name: hints[field.name] for field in fields}
            missing = dataclasses.MISSING
            needed = {field.name for field in fields if field.default is missing and field.default_factory is missing}
        parts = {name: self.read(hint) for name, hint in hints.items()}
        readers = {name: read for name, (_, read) in parts.items()}

        def read(value: JSON) -> Any:
            return cls(**{name: readers[name](item) for name, item in value.items()})

        self._open.pop(cls).append(read)
        schema: dict[str, JSON] = {
            "type": "object",
            "properties": {name: part for name, (part, _) in parts.items()},
            "required": [name for name in hints if name in needed],
            "additionalProperties": False,
        }
        if cls not in self._recursive:
            return schema, read
        self._define(cls.__name__, schema)
        return {"$ref": f"#/$defs/{cls.__name__}"}, read

    def _define(self, name: str, schema: JSON) -> None:
        if self.definitions.setdefault(name, schema) != schema:
            raise TypeError(f"two different classes are called {name!r}; rename one")


def _read_model(model: Any, value: JSON) -> Any:
    try:
        return model.model_validate(value)
    except ValueError as error:  # pydantic's own is one, and its text is long
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}".lstrip(": ") for item in error.errors()]
        raise ValueError("; ".join(problems)) from error


def _scalars(values: Sequence[Any]) -> list[JSON]:
    for value in values:
        if not isinstance(value, str | int | float | bool | None):
            raise TypeError(f"{value!r} is no JSON value to choose; expected texts or numbers")
    return list(values)


def _annotated(schema: dict[str, JSON], metadata: Iterable[Any]) -> dict[str, JSON]:
    for item in metadata:
        if isinstance(item, str):
            schema = {**schema, "description": item}
        elif isinstance(item, Mapping):
            schema = {**schema, **item}
        else:
            schema = {**schema, **_bounds(item, schema.get("type"))}
            schema = _annotated(schema, getattr(item, "metadata", ()))  # pydantic's Field holds its bounds there
    return schema


def _bounds(item: Any, kind: JSON) -> dict[str, JSON]:
    found = {keyword: getattr(item, name) for name, keyword in _BOUNDS.items() if getattr(item, name, None) is not None}
    for bound in ("min", "max"):
        length = getattr(item, f"{bound}_length", None)
        if isinstance(length, int) and kind in _LENGTHS:
            found[bound + _LENGTHS[kind]] = length
    description = getattr(item, "description", None)
    return {**found, "description": description} if isinstance(description, str) else found
