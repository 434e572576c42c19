"""Operations of an OpenAPI 3.1 document: which arguments each takes, and the HTTP request they make."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from awpo_env.errors import SuiteError, ToolError
from awpo_env.references import put_in_place
from awpo_env.types import JSON

BODY = "body"
"""Name of the argument that is the request's body."""

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_STYLES = {"path": "simple", "header": "simple", "query": "form", "cookie": "form"}
_UNSENT_HEADERS = ("accept", "content-type", "authorization")  # the standard says to ignore such parameters
_FORM = "application/x-www-form-urlencoded"
_SCHEMAS = "#/components/schemas/"
_HEADER_TEXT = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an operation.

    Attributes:
        argument: What the model calls it.
        name: What the server calls it.
        place: ``path``, ``query``, ``header`` or ``cookie``.
        style: ``simple``, ``form``, ``deepObject``, or ``json`` for one that is sent as a JSON text.
        explode: Whether each item of a list or object is sent on its own.
    """

    argument: str
    name: str
    place: str
    style: str
    explode: bool


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent to a server: `path` begins with a slash, `query` is encoded already."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    content: bytes | None


@dataclass(frozen=True, slots=True)
class Operation:
    """Something a server can do.

    Attributes:
        id: The document's ``operationId``, or method and path.
        method: In lower case.
        path: With the names of path parameters in braces.
        description: What it does.
        parameters: Everything but the body.
        media_type: Of the body; empty without one.
        parameters_schema: JSON Schema of all arguments.
    """

    id: str
    method: str
    path: str
    description: str
    parameters: tuple[Parameter, ...]
    media_type: str
    parameters_schema: dict[str, JSON]

    def request(self, arguments: Mapping[str, JSON]) -> Request:
        """Return the request of a call with valid arguments.

        Raises:
            ToolError: A value cannot be sent where it belongs.
        """
        path, query = self.path, []
        headers: dict[str, str] = {}
        cookies: list[str] = []
        for parameter in self.parameters:
            if parameter.argument not in arguments:
                continue
            value = arguments[parameter.argument]
            if parameter.place == "query":
                query += _pairs(parameter, value)
            elif parameter.place == "path":
                path = path.replace(f"{{{parameter.name}}}", _path_segment(parameter, value))
            elif parameter.place == "header":
                headers[parameter.name] = _header_text(parameter, _joined(parameter, value))
            else:
                cookies += [f"{name}={quote(text)}" for name, text in _pairs(parameter, value)]
        if cookies:
            headers["cookie"] = "; ".join(cookies)
        if {".", ".."} & set(path.split("/")):  # anybody on the way would read it as another path
            raise ToolError(f"'.' and '..' cannot stand in the path {self.path}")
        content = None
        if BODY in arguments and self.media_type:
            body = arguments[BODY]
            headers["content-type"] = self.media_type
            text = urlencode(_form_pairs(body)) if self.media_type == _FORM else json.dumps(body, ensure_ascii=False)
            content = text.encode()
        return Request(self.method.upper(), path, urlencode(query), headers, content)


def _text(value: JSON) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _joined(parameter: Parameter, value: JSON) -> str:
    if parameter.style == "json":
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return ",".join(map(_text, value))
    if isinstance(value, dict):
        between = "=" if parameter.explode else ","
        return ",".join(f"{name}{between}{_text(item)}" for name, item in value.items())
    return _text(value)


def _path_segment(parameter: Parameter, value: JSON) -> str:
    text = _joined(parameter, value)
    if not text:
        raise ToolError(f"{parameter.argument} cannot be empty")
    return quote(text, safe=",=")


def _header_text(parameter: Parameter, text: str) -> str:
    if not _HEADER_TEXT.fullmatch(text):
        raise ToolError(f"{parameter.argument} can only hold printable ASCII characters")
    return text


def _pairs(parameter: Parameter, value: JSON) -> list[tuple[str, str]]:
    if parameter.style == "deepObject" and isinstance(value, dict):
        return [(f"{parameter.name}[{name}]", _text(item)) for name, item in value.items()]
    if parameter.style == "form" and parameter.explode:
        if isinstance(value, list):
            return [(parameter.name, _text(item)) for item in value]
        if isinstance(value, dict):
            return [(name, _text(item)) for name, item in value.items()]
    return [(parameter.name, _joined(parameter, value))]


def _form_pairs(body: JSON) -> list[tuple[str, str]]:
    pairs = []
    for name, value in body.items():
        pairs += [(name, _text(item)) for item in (value if isinstance(value, list) else [value])]
    return pairs


def read_operations(document: Mapping[str, Any], chosen: Collection[str] | None) -> list[Operation]:
    """Return the operations of a document, in its order.

    Args:
        document: OpenAPI 3.1.
        chosen: Ids of the ones that are wanted; None is all. Others need not be such as can be called.

    Raises:
        SuiteError: An operation is malformed or uses something that cannot be called; the message names it.
    """
    operations: dict[str, Operation] = {}
    for path, entry in (document.get("paths") or {}).items():
        item = _resolved(document, entry, path)
        for method in _METHODS:
            if method not in item:
                continue
            operation_id = item[method].get("operationId") or f"{method} {path}"
            if chosen is not None and operation_id not in chosen:
                continue
            if operation_id in operations:
                raise SuiteError(f"operation {operation_id!r} stands twice in the document; ids must be unique")
            try:
                operations[operation_id] = _operation(document, operation_id, method, path, item)
            except (AttributeError, KeyError, TypeError) as error:
                raise SuiteError(f"operation {operation_id!r} is malformed: {error!r}") from None
    return list(operations.values())


def _operation(
    document: Mapping[str, Any], operation_id: str, method: str, path: str, item: Mapping[str, Any]
) -> Operation:
    own = item[method]
    declared = {}
    for reference in [*item.get("parameters", ()), *own.get("parameters", ())]:
        parameter = _resolved(document, reference, operation_id)
        declared[parameter["name"], parameter["in"]] = parameter  # an operation's own replaces its path's
    properties: dict[str, JSON] = {}
    required = []
    parameters = []
    media_type, body, is_body_required = _body(document, operation_id, own)
    if unnamed := set(re.findall(r"{(.*?)}", path)) ^ {name for name, place in declared if place == "path"}:
        raise SuiteError(f"operation {operation_id!r}: path and path parameters disagree about {sorted(unnamed)}")
    for (name, place), parameter in declared.items():
        if place == "header" and name.lower() in _UNSENT_HEADERS:
            continue
        is_taken = name in properties or (name == BODY and bool(media_type))
        argument = f"{name}_{place}" if is_taken else name
        schema, style = _parameter_schema(operation_id, parameter)
        properties[argument] = schema
        if parameter.get("required") or place == "path":
            required.append(argument)
        explode = parameter.get("explode", style == "form")
        parameters.append(Parameter(argument, name, place, style, explode))
    if media_type:
        properties[BODY] = body
        if is_body_required:
            required.append(BODY)
    schema: dict[str, JSON] = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    said = [own.get("summary"), own.get("description")]
    description = "\n".join(text.strip() for text in said if text and text.strip()) or f"{method.upper()} {path}"
    complete = _standing_alone(document, operation_id, schema)
    return Operation(operation_id, method, path, description, tuple(parameters), media_type, complete)


def _parameter_schema(operation_id: str, parameter: Mapping[str, Any]) -> tuple[JSON, str]:
    place, name = parameter["in"], parameter["name"]
    if "content" in parameter:
        ((media_type, media),) = parameter["content"].items()
        schema, style = media.get("schema", True), "json"
        if media_type != "application/json":
            raise SuiteError(f"operation {operation_id!r}: parameter {name!r} is {media_type}; only JSON can be sent")
    else:
        schema, style = parameter.get("schema", True), parameter.get("style", _STYLES[place])
        if style != _STYLES[place] and (place, style) != ("query", "deepObject"):
            raise SuiteError(
                f"operation {operation_id!r}: parameter {name!r} has the style {style!r}, which is not supported; "
                "choose other operations"
            )
    if parameter.get("description") and isinstance(schema, dict):
        schema = {"description": parameter["description"], **schema}
    return schema, style


def _body(document: Mapping[str, Any], operation_id: str, own: Mapping[str, Any]) -> tuple[str, JSON, bool]:
    if "requestBody" not in own:
        return "", None, False
    body = _resolved(document, own["requestBody"], operation_id)
    for media_type, media in body["content"].items():
        plain = media_type.partition(";")[0].strip().lower()
        if plain in ("application/json", _FORM) or plain.endswith("+json"):
            return plain, media.get("schema", True), bool(body.get("required"))
    raise SuiteError(
        f"operation {operation_id!r}: its body is {', '.join(body['content'])}; only JSON and forms can be sent; "
        "choose other operations"
    )


def _resolved(document: Mapping[str, Any], value: Any, where: str) -> Any:
    """Return what a reference to another part of the document stands for, at whatever number of removes."""
    for _ in range(32):
        if not isinstance(value, Mapping) or "$ref" not in value:
            return value
        value = _pointed(document, value["$ref"], where)
    raise SuiteError(f"{where}: references lead in a circle")


def _pointed(document: Mapping[str, Any], reference: str, where: str) -> Any:
    if not reference.startswith("#/"):
        raise SuiteError(f"{where}: reference {reference!r} leaves the document; bundle it into one first")
    target: Any = document
    for step in reference[2:].split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(target, Mapping) or name not in target:
            raise SuiteError(f"{where}: reference {reference!r} leads nowhere")
        target = target[name]
    return target


def _standing_alone(document: Mapping[str, Any], operation_id: str, schema: dict[str, JSON]) -> dict[str, JSON]:
    """Return a schema with everything of the document it refers to."""

    def find(reference: Any) -> tuple[str, JSON]:
        name = str(reference).removeprefix(_SCHEMAS)
        if name == reference or "/" in name:
            raise SuiteError(f"operation {operation_id!r}: schema reference {reference!r} is not to {_SCHEMAS}...")
        return name, _pointed(document, reference, operation_id)

    placed, definitions = put_in_place(schema, find)
    return {**placed, "$defs": definitions} if definitions else placed
