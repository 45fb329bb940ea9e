"""The descriptions that the server publishes: OpenAPI of what it answers over HTTP, AsyncAPI of its WebSocket."""

from typing import Any

import vasa_jax
from vasa_jax.serve.guard import Limits
from vasa_jax.serve.protocol import SCHEMAS

LICENSE = {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}
ERROR = {
    "type": "object",
    "properties": {"type": {"type": "string", "const": "error"}, "message": {"type": "string"}},
    "required": ["type", "message"],
}
PORTRAIT = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "own": {"type": "boolean", "description": "whether you uploaded it"},
        "width": {"type": "integer"},
        "height": {"type": "integer"},
        "url": {"type": "string", "description": "of a small JPEG picture"},
    },
    "required": ["id", "own", "width", "height", "url"],
}
LATENCY = {
    "type": "object",
    "properties": {"p50": {"type": "number"}, "p95": {"type": "number"}},
    "required": ["p50", "p95"],
    "description": "milliseconds from the arrival of the last sample of a hop to its bytes being on their way",
}
ANSWERS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "ready": (
        "The session has started.",
        {
            "width": {"type": "integer"},
            "height": {"type": "integer"},
            "fps": {"type": "integer"},
            "hop": {"type": "integer", "description": "frames that come together"},
            "mime": {"type": "string", "description": "of the binary frames, for MediaSource"},
            "mark": {
                "type": "string",
                "description": "32 bits, in hexadecimal, that the watermark of all frames carries",
            },
            "remarks": {"type": "array", "items": {"type": "string"}},
        },
        ("width", "height", "fps", "hop", "mime", "mark", "remarks"),
    ),
    "state": (
        "How it goes, once a second.",
        {
            "frame": {"type": "integer", "description": "frames so far"},
            "late": {"type": "integer", "description": "frames that were made after they were due"},
            "dropped": {"type": "integer", "description": "frames that were not sent, since you read too slowly"},
            "waiting": {"type": "number", "description": "seconds of sound that wait"},
            "latency": LATENCY,
        },
        ("frame", "late", "dropped", "waiting"),
    ),
    "pong": ("The answer to a ping.", {"id": {"type": "integer"}}, ("id",)),
    "error": (
        "Something cannot be done. Unless it is fatal, the session goes on as if it had not been asked for.",
        {
            "message": {"type": "string"},
            "fatal": {"type": "boolean"},
            "retry_after": {"type": "number", "description": "seconds after which a busy server may have a place"},
        },
        ("message", "fatal"),
    ),
    "closed": ("The last message.", {"reason": {"type": "string"}}, ("reason",)),
}
"""The server's messages by type: what they say, properties, and which of these are always there."""
CODES = {
    1000: "the session has ended: closed, or idle",
    1003: "too many messages that cannot be used",
    1008: "too much was sent, too little was read, or no session was started",
    1009: "a message or a piece of sound is too large",
    1011: "the server failed",
    1013: "no place is free now, or the server is shutting down; see retry_after",
}


def openapi(limits: Limits) -> dict[str, Any]:
    """OpenAPI 3.1."""
    error = _json(ERROR, "What is wrong, in one line.")
    found = _json({"type": "object", "properties": {"portraits": {"type": "array", "items": PORTRAIT}}}, "Yours too.")
    one = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    whole = {
        "name": "whole",
        "in": "query",
        "schema": {"type": "string", "enum": ["1"]},
        "description": "the face fills the middle square, so that none is looked for, as in drawings",
    }
    picture = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}, "required": True}
    offer = {
        "type": "object",
        "properties": {
            "sdp": {"type": "string"},
            "type": {"type": "string", "enum": ["offer"]},
            "portrait": {"type": "string"},
            "controls": SCHEMAS["start"][1]["controls"],
        },
        "required": ["sdp", "type", "portrait"],
    }
    answer = {"type": "object", "properties": {name: {"type": "string"} for name in ("sdp", "type", "mark")}}
    paths = {
        "/portraits": {
            "get": {"summary": "The portraits that can be animated.", "responses": {"200": found}},
            "post": {
                "summary": f"Upload one of at most {limits.upload // 1_000_000} MB, which you alone see, for a while.",
                "parameters": [whole],
                "requestBody": picture,
                "responses": {"201": _json(PORTRAIT, "Kept."), "413": error, "422": error},
            },
        },
        "/portraits/{id}": {
            "parameters": one,
            "get": {
                "summary": "A small picture.",
                "responses": {"200": {"description": "JPEG", "content": {"image/jpeg": {}}}, "404": error},
            },
            "delete": {
                "summary": "Forget an upload of yours.",
                "responses": {"204": {"description": "Forgotten."}, "404": error, "422": error},
            },
        },
        "/state": {"get": {"summary": "Sessions and places.", "responses": {"200": _json({"type": "object"}, "Now.")}}},
        "/offer": {
            "post": {
                "summary": "Open a session over WebRTC: your microphone in, the face's video and sound out.",
                "requestBody": {"required": True, "content": {"application/json": {"schema": offer}}},
                "responses": {"200": _json(answer, "The answer."), "422": error, "503": error},
            }
        },
    }
    scheme = {"token": {"type": "http", "scheme": "bearer", "description": "where the server was started with one"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "vasa-jax live", "version": vasa_jax.__version__, "license": LICENSE},
        "paths": paths,
        "components": {"securitySchemes": scheme},
        "security": [{}, {"token": []}],
    }


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0."""
    sound = {
        "contentType": "application/octet-stream",
        "summary": "Samples: 16 bits, signed, little-endian, mono, at the rate of `start`.",
        "payload": {"type": "string", "format": "binary"},
    }
    media = {
        "contentType": "application/octet-stream",
        "summary": "Pieces of one fragmented MP4; or, with the container jpeg, a byte (1 picture, 2 sound), eight "
        "bytes (microseconds of the stream's clock, big-endian), then a JPEG picture or s16le samples at 16 kHz.",
        "payload": {"type": "string", "format": "binary"},
    }
    asked = {
        name: _message(name, build.__doc__, properties, required)
        for name, (build, properties, required) in SCHEMAS.items()
    }
    answered = {name: _message(name, *rest) for name, rest in ANSWERS.items()}

    def named(names: Any) -> list[dict[str, str]]:
        return [{"$ref": f"#/channels/live/messages/{name}"} for name in names]

    codes = "; ".join(f"{code}: {meaning}" for code, meaning in CODES.items())
    channel = {
        "address": "/live",
        "messages": {**asked, **answered, "sound": sound, "media": media},
        "description": f"Codes of closing are {codes}.",
    }
    here = {"$ref": "#/channels/live"}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "vasa-jax live", "version": vasa_jax.__version__, "license": LICENSE},
        "channels": {"live": channel},
        "operations": {
            "say": {"action": "receive", "channel": here, "messages": named([*asked, "sound"])},
            "show": {"action": "send", "channel": here, "messages": named([*answered, "media"])},
        },
    }


def _message(name: str, about: str | None, properties: dict[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    payload = {
        "type": "object",
        "properties": {"type": {"type": "string", "const": name}, **properties},
        "required": ["type", *required],
    }
    return {"summary": (about or "").partition("\n")[0], "contentType": "application/json", "payload": payload}


def _json(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
