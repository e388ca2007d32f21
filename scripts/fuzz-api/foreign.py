"""Asks for what is one tenant's with the key of another: everything must be 404.

Usage: foreign.py make URL OWNER_KEY FILE
       foreign.py check URL OWNER_KEY FILE OPENAPI STRANGER_KEY NEIGHBOUR_KEY

`make` gives the owner, a tenant for whom nothing else asks, one of everything and writes down how it
is called. `check` asks every operation of the document whose path holds an id, with the stranger's
key, for those and for what a neighbour has got by being asked at random; then it looks whether the
owner still has what was made.
"""

import json
import sys
import urllib.error
import urllib.request

do, url, owner, file, *others = sys.argv[1:]

# Operations whose path names nothing that is somebody's: whoever asks sets it for themselves.
OF_NOBODY = {"setProviderKey", "addDoNotCall"}

# An address on loopback needs no provider's key.
PROVIDER = {"kind": "openai_realtime", "url": "ws://127.0.0.1:9/v1/realtime"}
AGENT = {"name": "fuzz-owners-own", "instructions": "x", "provider": PROVIDER}
MADE = {
    "agent": ("/v1/agents", AGENT, "name"),
    "number": ("/v1/numbers", {"number": "+15557650001"}, "number"),
    "call": ("/v1/calls", {"to": "+15557650002", "agent": AGENT["name"]}, "id"),
    "run": ("/v1/runs", {"agent": AGENT["name"], "calls": [{"to": "+15557650003"}]}, "id"),
    "key": ("/v1/keys", {"name": "fuzz-owners-own"}, "id"),
    "webhook": ("/v1/webhooks", {"url": "https://hooks.example/"}, "id"),
}
# Where a neighbour's are listed. Agents and numbers have names that a stranger may give to its own.
LISTS = {"call": "/v1/calls?limit=200", "run": "/v1/runs?limit=200", "key": "/v1/keys", "webhook": "/v1/webhooks"}


def ask(method, target, key, body=None):
    """Status and body of an answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "If-Match": "*", "Content-Type": "application/json"}
    request = urllib.request.Request(url + target, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read() or b"null")


def make():
    """One of everything, by the names that paths give to their ids."""
    made = {}
    for name, (target, body, field) in MADE.items():
        status, answer = ask("POST", target, owner, body)
        assert status == 201, f"POST {target}: {status} {answer}"
        made[name] = answer[field]
    status, answer = ask("PUT", "/v1/keys/providers/openai", owner, {"key": "sk-fuzz-owner-0000"})
    assert status == 200, f"a provider's key: {status} {answer}"
    with open(file, "w", encoding="utf-8") as out:
        json.dump(made, out)


def operations(document):
    """Operations that take a key and have an id in their path: method, path, example of a body."""
    with open(document, encoding="utf-8") as text:
        described = json.load(text)
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            if method == "parameters" or "{" not in path or operation["operationId"] in OF_NOBODY:
                continue
            if not any("key" in one for one in operation.get("security", described["security"])):
                continue
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            yield method.upper(), path, body.get("example")


def check():
    """Everything of the owner's and the neighbour's, asked for by the stranger."""
    document, stranger, neighbour = others
    with open(file, encoding="utf-8") as text:
        made = json.load(text)
    ids = {name: [value] for name, value in made.items()}
    for name, target in LISTS.items():
        _, page = ask("GET", target, neighbour)
        listed = next(value for value in page.values() if isinstance(value, list))
        ids[name] += [one["id"] for one in listed if one["id"] not in ids[name]][:50]
    asked = 0
    for method, path, body in operations(document):
        name = path.split("{")[1].split("}")[0]
        for value in ids.get(name, []):
            if path.startswith("/v1/do_not_call/"):
                continue
            status, answer = ask(method, path.replace("{" + name + "}", value), stranger, body)
            assert status == 404, f"{method} {path} of another tenant's {value}: {status} {answer}"
            asked += 1
    for name, (target, _, _) in MADE.items():
        status, answer = ask("GET", f"{target}/{made[name]}", owner)
        assert status == 200, f"the owner's {name} is gone: {status} {answer}"
    print(f"fuzz-api: {asked} questions for what is another tenant's, each 404")


{"make": make, "check": check}[do]()
