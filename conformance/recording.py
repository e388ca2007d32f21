"""Makes a recording for relay/tests/it/replay.rs out of a capture of one call.

Usage: recording.py CAPTURE_DIR > relay/tests/recordings/NAME.jsonl

The capture is what `loadtest demo --scene NAME --capture DIR` leaves. A recording keeps what came to the relay,
from the carrier and from the model, with the millisecond at which it came. Audio is kept by its length alone:
`audio_bytes` stands for so many bytes of silence, and `count` frames of the caller, 20 ms apart, are one line.
"""

import base64
import json
import pathlib
import sys


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def carrier(capture):
    """The carrier's messages, its media run together."""
    run = None
    for line in lines(capture / "twilio.jsonl"):
        if line["from"] != "carrier":
            continue
        at, message = line["at_us"], line["message"]
        if message["event"] in ("connected", "start"):
            # The call's own inputs begin with the start; its parameters name a machine and a moment.
            if message["event"] == "start":
                yield at, {"from": "carrier", "started": True}
            continue
        if message["event"] == "media":
            media = message["media"]
            chunk, stamp = int(media["chunk"]), int(media["timestamp"])
            if run and chunk == run["first_chunk"] + run["count"] and stamp == run["first_ms"] + 20 * run["count"]:
                run["count"] += 1
                continue
            run = {"from": "carrier", "first_chunk": chunk, "first_ms": stamp, "count": 1}
            yield at, run
            continue
        message.pop("sequenceNumber", None)
        yield at, {"from": "carrier", "message": message}


def model(capture):
    """The model's events, their audio by its length."""
    for line in lines(capture / "openai.jsonl"):
        if line["from"] != "server":
            continue
        event = line["event"]
        entry = {"from": "agent", "message": event}
        if event["type"] == "response.output_audio.delta":
            entry["audio_bytes"] = len(base64.b64decode(event.pop("delta")))
        yield line["at_us"], entry


def main():
    capture = pathlib.Path(sys.argv[1])
    entries = sorted([*carrier(capture), *model(capture)], key=lambda entry: entry[0])
    began = entries[0][0]
    for at, entry in entries:
        json.dump({"at_ms": (at - began) // 1000, **entry}, sys.stdout, separators=(",", ":"), sort_keys=True)
        print()


main()
