"""Media Streams messages, signed requests and TwiML, as Twilio has them.

Signatures are checked by the official package's RequestValidator; TwiML is rebuilt with the official package's
classes, which know the verbs, their attributes and what nests in what. The messages' shapes are written down
here: Twilio publishes no schema (Media Streams "WebSocket Messages" page, read 2026-11-20).
"""

from __future__ import annotations

import base64
import inspect
import re
from xml.etree import ElementTree

from twilio.request_validator import RequestValidator
from twilio.twiml import voice_response

NUMBER_TEXT = re.compile(r"[0-9]+")
STREAM_SID = re.compile(r"MZ[0-9a-f]{32}")
CALL_SID = re.compile(r"CA[0-9a-f]{32}")
ACCOUNT_SID = re.compile(r"AC[0-9a-f]{32}")


def text(pattern=None):
    def check(value):
        if not isinstance(value, str):
            return "not a string"
        if pattern is not None and not pattern.fullmatch(value):
            return f"{value[:40]!r} does not look like {pattern.pattern}"
        return None

    return check


def exactly(expected):
    return lambda value: None if value == expected and type(value) is type(expected) else f"not {expected!r}"


def payload(value):
    if not isinstance(value, str):
        return "not a string"
    try:
        return None if base64.b64decode(value, validate=True) else "no audio"
    except ValueError as error:
        return f"not standard base64: {error}"


def text_map(value):
    ok = isinstance(value, dict) and all(isinstance(x, str) for pair in value.items() for x in pair)
    return None if ok else "not an object of strings"


SEQUENCE = text(NUMBER_TEXT)
MARK = {"name": text()}
FORMAT = {"encoding": exactly("audio/x-mulaw"), "sampleRate": exactly(8000), "channels": exactly(1)}

FROM_CARRIER = {
    "connected": {"protocol": exactly("Call"), "version": text()},
    "start": {
        "sequenceNumber": SEQUENCE,
        "streamSid": text(STREAM_SID),
        "start": {
            "streamSid": text(STREAM_SID),
            "accountSid": text(ACCOUNT_SID),
            "callSid": text(CALL_SID),
            "tracks": exactly(["inbound"]),
            "customParameters": text_map,
            "mediaFormat": FORMAT,
        },
    },
    "media": {
        "sequenceNumber": SEQUENCE,
        "streamSid": text(STREAM_SID),
        "media": {
            "track": exactly("inbound"),
            "chunk": SEQUENCE,
            "timestamp": SEQUENCE,
            "payload": payload,
        },
    },
    "mark": {"sequenceNumber": SEQUENCE, "streamSid": text(STREAM_SID), "mark": MARK},
    "dtmf": {
        "sequenceNumber": SEQUENCE,
        "streamSid": text(STREAM_SID),
        "dtmf": {"track": exactly("inbound_track"), "digit": text(re.compile(r"[0-9*#A-D]"))},
    },
    "stop": {
        "sequenceNumber": SEQUENCE,
        "streamSid": text(STREAM_SID),
        "stop": {"accountSid": text(ACCOUNT_SID), "callSid": text(CALL_SID)},
    },
}

FROM_RELAY = {
    "media": {"streamSid": text(STREAM_SID), "media": {"payload": payload}},
    "mark": {"streamSid": text(STREAM_SID), "mark": MARK},
    "clear": {"streamSid": text(STREAM_SID)},
}


def compare(shape, value, path):
    if callable(shape):
        problem = shape(value)
        return [f"{path}: {problem}"] if problem else []
    if not isinstance(value, dict):
        return [f"{path}: not an object"]
    found = [f"{path}.{name}: missing" for name in shape.keys() - value.keys()]
    found += [f"{path}.{name}: no such field" for name in value.keys() - shape.keys()]
    for name in sorted(shape.keys() & value.keys()):
        found += compare(shape[name], value[name], f"{path}.{name}")
    return sorted(found)


def message_problems(side: str, message) -> list[str]:
    """What is wrong with one message of `side` ("carrier" or "relay")."""
    shapes = FROM_CARRIER if side == "carrier" else FROM_RELAY
    event = message.get("event") if isinstance(message, dict) else None
    if event not in shapes:
        return [f"the {side} says no `{event}`"]
    return compare({"event": exactly(event), **shapes[event]}, message, event)


def request_problems(auth_token: str, request) -> list[str]:
    """What is wrong with one signed request and the TwiML that answered it."""
    pairs: dict[str, list[str]] = {}
    for name, value in request["params"]:
        pairs.setdefault(name, []).append(value)
    params = {name: values[0] if len(values) == 1 else values for name, values in pairs.items()}
    found = []
    if not RequestValidator(auth_token).validate(request["url"], params, request["signature"]):
        found.append(f"the signature of {request['method']} {request['url']} does not validate")
    if request.get("twiml"):
        found += twiml_problems(request["twiml"])
    return found


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def twiml_problems(document: str) -> list[str]:
    """Rebuilds a document with the official classes; what they do not take is a problem."""
    try:
        root = ElementTree.fromstring(document)
    except ElementTree.ParseError as error:
        return [f"TwiML is not XML: {error}"]
    if root.tag != "Response" or root.attrib:
        return ["TwiML's root is not <Response>"]
    found: list[str] = []
    rebuilt = voice_response.VoiceResponse()
    for child in root:
        rebuild(rebuilt, child, found)
    if not found:
        ours, theirs = canonical(root), canonical(ElementTree.fromstring(str(rebuilt)))
        if ours != theirs:
            found.append(f"TwiML is read as {theirs}, written as {ours}")
    for stream in root.iter("Stream"):
        found += stream_problems(stream)
    return found


def rebuild(parent, element, found) -> None:
    method = getattr(parent, {"Number": "number"}.get(element.tag, snake(element.tag)), None)
    if method is None:
        found.append(f"<{element.tag}> is not allowed inside <{parent.name}>")
        return
    known = inspect.signature(method).parameters
    arguments = {}
    for name, value in element.attrib.items():
        if snake(name) not in known:
            found.append(f"<{element.tag}> has no attribute `{name}`")
        arguments[snake(name)] = value
    body = (element.text or "").strip()
    if body:
        first = next(iter(known))
        arguments[first] = body
    try:
        built = method(**arguments)
    except TypeError as error:
        found.append(f"<{element.tag}>: {error}")
        return
    for child in element:
        rebuild(built, child, found)


def canonical(element):
    return (
        element.tag,
        sorted(element.attrib.items()),
        (element.text or "").strip(),
        [canonical(child) for child in element],
    )


def stream_problems(stream) -> list[str]:
    found = []
    url = stream.get("url", "")
    if not url.startswith("wss://"):
        found.append("a stream's URL is not wss (31922)")
    if "?" in url:
        found.append("a stream's URL has a query, which Twilio drops")
    size = sum(len(p.get("name", "")) + len(p.get("value", "")) for p in stream.iter("Parameter"))
    if size >= 500:
        found.append(f"the stream's parameters have {size} characters, 500 is too many")
    return found
