"""OpenAI Realtime events against the models of the official SDK.

Strict: "1" is not an int, an unknown enum text is an error, and a field that the models lack is an error even
though they would take it silently. It is a type check: order, ids and value ranges are the fake model's business.
"""

from __future__ import annotations

import json
import typing

from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter, ValidationError

# Fields that the service sends although the models do not declare them.
KNOWN_EXTRA = {
    "session.id",
    "session.object",
    "session.expires_at",
    "obfuscation",
    "item.content[].format",
    "response.audio.output.speed",
}


def members(alias):
    """All model classes inside a (possibly annotated) union."""
    origin = typing.get_origin(alias)
    if origin is typing.Annotated:
        return members(typing.get_args(alias)[0])
    if origin is typing.Union or str(origin) == "<class 'types.UnionType'>":
        return [m for a in typing.get_args(alias) for m in members(a)]
    return [alias] if isinstance(alias, type) and issubclass(alias, BaseModel) else []


def by_type(alias):
    return {
        literal: cls
        for cls in members(alias)
        for literal in typing.get_args(cls.model_fields["type"].annotation)
    }


TABLES = {"client": by_type(RealtimeClientEvent), "server": by_type(RealtimeServerEvent)}


def unknown_fields(model, path=""):
    """Fields that pydantic kept although the model lacks them, at any depth."""
    join = lambda name: f"{path}.{name}" if path else name
    if isinstance(model, BaseModel):
        for name in model.model_extra or {}:
            yield join(name)
        for name, field in type(model).model_fields.items():
            yield from unknown_fields(getattr(model, name, None), join(field.alias or name))
    elif isinstance(model, (list, tuple)):
        for value in model:
            yield from unknown_fields(value, path + "[]")
    elif isinstance(model, dict):
        for value in model.values():
            yield from unknown_fields(value, path)


def problems(side: str, event) -> list[str]:
    """What is wrong with one event of `side` ("client" or "server"); empty when it conforms."""
    kind = event.get("type") if isinstance(event, dict) else None
    if not isinstance(kind, str):
        return ["no `type`"]
    cls = TABLES[side].get(kind)
    if cls is None:
        return [f"there is no {side} event `{kind}`"]
    try:
        parsed = TypeAdapter(cls).validate_json(json.dumps(event), strict=True)
    except ValidationError as error:
        return [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)]
    known = KNOWN_EXTRA if side == "server" else set()
    return [f"{name}: no such field" for name in sorted(set(unknown_fields(parsed)) - known)]
