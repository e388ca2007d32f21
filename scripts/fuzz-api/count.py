"""Counts the cases that Schemathesis made, from its report. Usage: count.py REPORT.ndjson"""

import json
import sys


def cases(value):
    """Requests that were sent, wherever they stand in an event of the report."""
    if isinstance(value, dict):
        own = 1 if "request" in value and "response" in value else 0
        return own + sum(cases(part) for part in value.values())
    if isinstance(value, list):
        return sum(cases(part) for part in value)
    return 0


with open(sys.argv[1], encoding="utf-8") as report:
    print(sum(cases(json.loads(line)) for line in report))
