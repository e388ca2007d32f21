#!/usr/bin/env python3
"""Checks a captured call against the official OpenAI and Twilio packages.

    validate.py --self-check        the fixtures conform, and every bad example is found out
    validate.py DIR                 a capture: what `loadtest demo --capture DIR` wrote

A capture holds openai.jsonl, twilio.jsonl, http.jsonl and account.json (README.md says what is in them).
Prints what does not conform, and `N passed, N failed` last. Exit status: 0 all conform, 1 something does not.
"""

from __future__ import annotations

import json
import pathlib
import sys

import openai_events
import twilio_wire

HERE = pathlib.Path(__file__).parent
SHOWN_MAX = 40


class Tally:
    """Counts what passes and shows what fails."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0

    def take(self, where: str, problems: list[str]) -> None:
        if not problems:
            self.passed += 1
            return
        self.failed += 1
        if self.failed <= SHOWN_MAX:
            for problem in problems[:6]:
                print(f"{where}: {problem}")


def lines(path: pathlib.Path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            yield f"{path.name}:{number}", json.loads(line)


def self_check(tally: Tally) -> None:
    for side in ("client", "server"):
        for path in sorted((HERE / "fixtures/openai" / side).glob("*.json")):
            event = json.loads(path.read_text(encoding="utf-8"))
            tally.take(f"{side}/{path.name}", openai_events.problems(side, event))
    for where, line in lines(HERE / "fixtures/captures/openai_good.jsonl"):
        tally.take(where, openai_events.problems(line["from"], line["event"]))
    for where, event in lines(HERE / "fixtures/captures/openai_bad.jsonl"):
        sides = [side for side in ("client", "server") if not openai_events.problems(side, event)]
        tally.take(where, [f"passes as a {side} event, but must not" for side in sides])
    for where, line in lines(HERE / "fixtures/captures/twilio_examples.jsonl"):
        found = twilio_wire.message_problems(line["from"], line["message"])
        tally.take(where, expectation(line, found))
    for where, line in lines(HERE / "fixtures/captures/twiml_examples.jsonl"):
        tally.take(where, expectation(line, twilio_wire.twiml_problems(line["twiml"])))
    for where, line in lines(HERE / "fixtures/captures/http_examples.jsonl"):
        tally.take(where, expectation(line, twilio_wire.request_problems(line["auth_token"], line)))


def expectation(line, found: list[str]) -> list[str]:
    """A line that names a `problem` must be found out, another must pass."""
    wanted = line.get("problem")
    if wanted is None:
        return found
    return [] if any(wanted in problem for problem in found) else [f"should be found out as {wanted!r}: {found}"]


def capture(folder: pathlib.Path, tally: Tally) -> None:
    token = json.loads((folder / "account.json").read_text(encoding="utf-8"))["auth_token"]
    counts = {}
    for where, line in count(folder / "openai.jsonl", counts):
        tally.take(where, openai_events.problems(line["from"], line["event"]))
    for where, line in count(folder / "twilio.jsonl", counts):
        tally.take(where, twilio_wire.message_problems(line["from"], line["message"]))
    for where, line in count(folder / "http.jsonl", counts):
        tally.take(where, twilio_wire.request_problems(token, line))
    for name, number in counts.items():
        print(f"{name}: {number} lines")
        tally.take(name, [] if number else ["empty: nothing was captured"])


def count(path: pathlib.Path, counts: dict[str, int]):
    """The file's lines, counted; a file that is missing has none."""
    counts[path.name] = 0
    for line in lines(path) if path.is_file() else ():
        counts[path.name] += 1
        yield line


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    tally = Tally()
    try:
        if arguments[0] == "--self-check":
            self_check(tally)
        else:
            capture(pathlib.Path(arguments[0]), tally)
    except (OSError, ValueError, KeyError, TypeError) as error:
        # Not a message that fails, but no capture at all: a missing account, a line that is not JSON, or not ours.
        tally.take("capture", [f"cannot be read: {type(error).__name__}: {error}"])
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
