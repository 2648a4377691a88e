"""Types: pydantic parses the leaves and writes the JSON Schema; the user's dataclasses stay plain."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Annotated, Any, Union, cast, get_args, get_origin

from pydantic import BeforeValidator, GetCoreSchemaHandler, Strict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError, core_schema

from lightex.core.errors import ConfigError
from lightex.namedconf.classes import declaration, is_config_class, members, slots, tags, type_name, with_article
from lightex.namedconf.tree import to_tree

_NONFINITE = ("NaN", "Infinity", "-Infinity")


def parse(kind: Any, value: Any, path: str, where: str, owner: type | None = None) -> Any:
    """A value of a type, from plain data or from instances.

    Args:
        kind: the type, any annotation.
        value: data; dataclass instances inside are taken as they are valued.
        path: its place, for messages.
        where: where it was given, for messages.
        owner: the class whose field it is, for messages.

    Raises:
        ConfigError: it is not of that type; names path, type, value and where it came from.
    """
    try:
        return _adapter(kind).validate_python(to_tree(value, kind=kind, path=path))
    except ValidationError as error:
        raise _explain(error, kind, value, path, where, owner) from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(_typed(kind))
    except RecursionError:
        raise ConfigError(f"{type_name(kind)} contains itself", "a config is a tree of finite depth") from None


def _typed(kind: Any) -> Any:
    """A type with strict scalars, with dataclasses and their unions by our own schema, all the way down."""
    if kind in (int, bool):
        return Annotated[kind, Strict()]
    if kind is float:
        return Annotated[float, Strict(), BeforeValidator(_nonfinite, json_schema_input_type=float)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return Annotated[kind, BeforeValidator(_enum_by_name(kind))]
    if is_config_class(get_origin(kind) or kind):
        return Annotated[Any, _Dataclass(get_origin(kind) or kind)]
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        marks = [BeforeValidator(_guarded(m)) if isinstance(m, types.FunctionType) else m for m in parts[1:]]
        inner = Any if any(isinstance(mark, types.FunctionType) for mark in parts[1:]) else _typed(parts[0])
        shown = [_ShownAs(parts[0])] if inner is Any else []
        return Annotated[inner, *shown, *marks]
    if origin in (Union, types.UnionType):
        classes = members(kind)
        if len(classes) > 1:
            rest = [_typed(part) for part in parts if not members(part)]
            return Union[(Annotated[Any, _Tagged(classes)], *rest)]
        return Union[tuple(_typed(part) for part in parts)]  # noqa: UP007
    if parts and origin not in (cast(Any, type),) and str(origin) != "typing.Literal":
        return origin[tuple(part if part is ... else _typed(part) for part in parts)]
    return kind


class _ShownAs:
    """In the JSON Schema, a value that goes through a function has the type that its annotation names."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def __get_pydantic_json_schema__(self, _core: Any, _handler: Any) -> dict[str, Any]:
        return TypeAdapter(self.kind).json_schema()


class _Dataclass:
    """Parses a mapping into a plain dataclass through its own constructor, so that its __post_init__ runs."""

    def __init__(self, cls: type, tag: tuple[str, str] | None = None) -> None:
        self.cls, self.tag = cls, tag

    def __get_pydantic_core_schema__(self, _source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        fields = {}
        for name, slot in slots(self.cls).items():
            schema = handler.generate_schema(_typed(slot.type))
            if not slot.required:
                schema = core_schema.with_default_schema(schema, default=slot.default, validate_default=False)
            fields[name] = core_schema.typed_dict_field(schema, required=slot.required)
        if self.tag and self.tag[0] not in fields:
            fields[self.tag[0]] = core_schema.typed_dict_field(
                core_schema.literal_schema([self.tag[1]]), required=False
            )
        body = core_schema.typed_dict_schema(fields, extra_behavior="forbid", cls_name=self.cls.__name__)
        return core_schema.no_info_after_validator_function(self._build, body)

    def _build(self, values: dict[str, Any]) -> Any:
        known = slots(self.cls)
        try:
            return self.cls(**{name: value for name, value in values.items() if name in known})
        except (ValueError, ConfigError) as error:
            raise PydanticCustomError("refused", "{words}", {"words": str(error)}) from error


class _Tagged:
    """Parses a union of dataclasses by its tag."""

    def __init__(self, classes: tuple[type, ...]) -> None:
        self.key, self.classes = tags(classes)

    def __get_pydantic_core_schema__(self, _source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        choices = {
            tag: handler.generate_schema(Annotated[Any, _Dataclass(cls, (self.key, tag))])
            for tag, cls in self.classes.items()
        }
        return core_schema.tagged_union_schema(choices, discriminator=self.key)


def _guarded(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def through(value: Any) -> Any:
        try:
            return function(value)
        except (ValueError, TypeError, ConfigError) as error:
            words = error.message if isinstance(error, ConfigError) else str(error)
            hint = " ".join(error.details) if isinstance(error, ConfigError) else ""
            raise PydanticCustomError("refused", "{words}", {"words": words, "hint": hint}) from error

    return through


def _enum_by_name(kind: type[Enum]) -> Callable[[Any], Any]:
    def through(value: Any) -> Any:
        if isinstance(value, str) and value in kind.__members__ and value not in {item.value for item in kind}:
            return kind[value]
        return value

    return through


def _nonfinite(value: Any) -> Any:
    return float(value) if isinstance(value, str) and value in _NONFINITE else value


def _explain(error: ValidationError, kind: Any, value: Any, path: str, where: str, owner: type | None) -> ConfigError:
    """The first fault of a validation, in our words."""
    fault = max(error.errors(), key=lambda fault: len(fault["loc"])) if members(kind) else error.errors()[0]
    place, wanted, at_class = _located(kind, path, fault["loc"], owner)
    given = fault.get("input", value)
    details: list[str] = []
    if at_class and (name := place.rpartition(".")[2]) in slots(at_class):
        details.append(declaration(at_class, name))
    source = f" ({where})" if where else ""
    match fault["type"]:
        case "refused":
            hint = fault.get("ctx", {}).get("hint")
            return ConfigError(f"{place}: {fault['msg']}{source}", *([hint] if hint else []), *details)
        case "missing":
            return ConfigError(f"{place} is missing{source}", *details)
        case "extra_forbidden":
            return ConfigError(f"{place}: there is no such field{source}", *details)
        case "union_tag_invalid" | "union_tag_not_found":
            key, known = tags(members(wanted))
            tag = given.get(key) if isinstance(given, Mapping) else given
            return ConfigError(
                f"{place} must say which it is: {key}: one of {', '.join(known)}, got {_brief(tag)}{source}", *details
            )
        case "literal_error" | "enum":
            return ConfigError(f"{place} must be {fault['ctx']['expected']}, got {_brief(given)}{source}", *details)
    words = f"must be {with_article(type_name(wanted))}"
    if not fault["type"].endswith(("_type", "_parsing", "_from_float", "_error")):  # a constraint of the user's
        words = fault["msg"][0].lower() + fault["msg"][1:].replace("nput should", "t should")
    return ConfigError(f"{place} {words}, got {_brief(given)}{source}", *details)


def _located(kind: Any, path: str, loc: tuple[int | str, ...], owner: type | None) -> tuple[str, Any, type | None]:
    """The dotted place of a fault, the type wanted there, and the class whose field it is."""
    wanted, at_class = kind, owner
    for part in loc:
        classes = members(wanted)
        found = next((cls for cls in classes if str(part) in slots(cls)), None)
        if len(classes) > 1 and str(part) in tags(classes)[1]:
            wanted = tags(classes)[1][str(part)]
        elif found:
            path, at_class, wanted = f"{path}.{part}" if path else str(part), found, slots(found)[str(part)].type
        elif isinstance(part, int) or (get_origin(wanted) in (dict, Mapping)):
            path, arguments = f"{path}.{part}", get_args(wanted)
            wanted = arguments[-1] if arguments and arguments[-1] is not ... else arguments[0] if arguments else Any
            at_class = None
        elif classes:
            path = f"{path}.{part}" if path else str(part)
    return path, wanted, at_class


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def config_schema(config: Any) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a file that extends a config: every key may be left out.

    Args:
        config: a dataclass instance; it tells the classes of its open fields.
    """
    properties: dict[str, Any] = {
        "extends": {
            "type": "string",
            "description": "A named config, or a file, whose values hold where none is given.",
        },
        "sweep": {"type": ["object", "array"], "description": "Paths to lists of values, `zip`, `sample`; or points."},
        "search": {"type": "object", "description": "A `space` of paths, `trials`, and what else `search` takes."},
    }
    definitions: dict[str, Any] = {}
    for name, slot in slots(type(config)).items():
        found = _adapter(slot.type_of(getattr(config, name))).json_schema()
        definitions |= found.pop("$defs", {})
        properties[name] = _all_optional(found)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": type(config).__name__,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return schema | ({"$defs": definitions} if definitions else {})


def _all_optional(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _all_optional(value) for key, value in schema.items() if key != "required"}
    return [_all_optional(item) for item in schema] if isinstance(schema, list) else schema
