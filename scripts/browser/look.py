"""Opens the quick start's page and /docs in a headless Chromium, restarts control while the page watches, and says
what was seen. Reads the two addresses from standard input, a line each, so that the browser is up before the call.

The browser is driven over two pipes (`--remote-debugging-pipe`, the DevTools protocol as JSON between NUL bytes):
nothing but Chromium itself has to be installed.
"""

import argparse
import base64
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

# A call takes 20 s, the rest a few.
PATIENCE_SECONDS = 120

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--remote-debugging-pipe",
    "about:blank",
]

# Resolves when the page shows an event of this kind.
SHOWN = """new Promise((done) => {
  const look = () => [...document.querySelectorAll("li")].some((line) => line.textContent.split(" ")[1] === KIND) && done(true);
  new MutationObserver(look).observe(document, { childList: true, subtree: true });
  look();
})"""

LOADED = """document.readyState === "complete" || new Promise((done) => addEventListener("load", () => done(true)))"""

LINES = """[...document.querySelectorAll("li")].map((line) => line.textContent.split(" ").slice(0, 2).join(" "))"""

OPERATIONS = """document.querySelectorAll("article h3 b").length"""


class Chromium:
    """A browser with one tab."""

    def __init__(self, profile):
        program = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
        if program is None:
            sys.exit("look: there is no chromium; scripts/setup.sh browser installs it")
        # High numbers: 3 and 4 are the browser's, where it reads and where it writes.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for pair in (os.pipe(), os.pipe()) for end in pair]
        theirs_in, self.out, self.into, theirs_out = ends

        def ends_in_place():
            os.dup2(theirs_in, 3)
            os.dup2(theirs_out, 4)

        self.process = subprocess.Popen(
            [program, f"--user-data-dir={profile}", *ARGUMENTS],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            close_fds=False,
            preexec_fn=ends_in_place,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.rest, self.number, self.tab = b"", 0, None
        self.streams = 0
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.tab = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Page.enable")
        self.ask("Network.enable")
        self.ask("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)

    def ask(self, method, **params):
        """Asks for one thing and waits for the answer; counts the event streams that are opened meanwhile."""
        self.number += 1
        wish = {"id": self.number, "method": method, "params": params}
        if self.tab:
            wish["sessionId"] = self.tab
        wish = json.dumps(wish).encode() + b"\0"
        while wish:
            wish = wish[os.write(self.out, wish):]
        while True:
            said = self.hear()
            if said.get("method") == "Network.requestWillBeSent" and said["params"].get("type") == "EventSource":
                self.streams += 1
            if said.get("id") == self.number:
                if "error" in said:
                    raise RuntimeError(f"{method}: {said['error']['message']}")
                return said["result"]

    def hear(self):
        while b"\0" not in self.rest:
            piece = os.read(self.into, 1 << 16)
            if not piece:
                raise RuntimeError("the browser has ended")
            self.rest += piece
        one, self.rest = self.rest.split(b"\0", 1)
        return json.loads(one)

    def open(self, address):
        failure = self.ask("Page.navigate", url=address).get("errorText")
        if failure:
            raise RuntimeError(f"{address}: {failure}")
        self.evaluate(LOADED)

    def evaluate(self, script):
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["text"])
        return answer["result"].get("value")

    def shown(self, kind):
        self.evaluate(SHOWN.replace("KIND", json.dumps(kind)))

    def save(self, path):
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))

    def end(self):
        self.process.terminate()
        self.process.wait()


def address(what):
    line = sys.stdin.readline().strip()
    if not line:
        sys.exit(f"look: no address of {what}")
    return line


def watch_a_call(browser, args):
    browser.open(address("the page"))
    # The greeting was heard: the call is in its middle.
    browser.shown("turn")
    before = browser.evaluate(LINES)
    assert not any(line.endswith(" call.ended") for line in before), "the call is over before control is restarted"
    os.kill(int(args.control.read_text()), signal.SIGTERM)
    browser.shown("call.ended")
    lines = browser.evaluate(LINES)
    browser.save(args.shots / "events.png")
    args.seen.write_text("".join(f"{line}\n" for line in lines))
    assert len(lines) > len(before), "nothing came after the restart"
    assert browser.streams >= 2, "the page has never come back"
    print(f"look: {len(lines)} events on {browser.streams} connections")


def read_the_docs(browser, args):
    browser.open(address("/docs"))
    title, operations = browser.evaluate("document.title"), browser.evaluate(OPERATIONS)
    browser.save(args.shots / "docs.png")
    assert title == "Linecard API", f"the title is {title!r}"
    assert operations > 30, f"there are {operations} operations"
    print(f"look: /docs with {operations} operations")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--control", type=Path, required=True, help="the file with control's process id")
    parser.add_argument("--shots", type=Path, required=True, help="the folder of the screenshots")
    parser.add_argument("--seen", type=Path, required=True, help="the file that gets the lines of the page")
    args = parser.parse_args()

    def too_long(*_):
        raise TimeoutError(f"not done after {PATIENCE_SECONDS} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("look: ended"))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Chromium(profile)
        try:
            signal.alarm(PATIENCE_SECONDS)
            watch_a_call(browser, args)
            read_the_docs(browser, args)
        finally:
            browser.end()


if __name__ == "__main__":
    main()
