#!/usr/bin/env python3
"""The status page in headless Chromium, against a running server.

  page_test.py PROGRAM DEPS [SCREENSHOT]

Skipped (77) where there is no Chromium. Talks to it over a pipe, in the DevTools protocol.
"""

import base64
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PATIENCE_S = 60


class Browser:
    """One page. Collects what the page complains about."""

    def __init__(self, program, profile):
        to_browser, self.to = os.pipe()
        self.come, from_browser = os.pipe()

        def wire():  # The browser reads from 3 and writes to 4.
            os.dup2(to_browser, 13)
            os.dup2(from_browser, 14)
            os.dup2(13, 3)
            os.dup2(14, 4)

        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--disable-background-networking", "--no-first-run", "--window-size=1100,1000",
             f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"],
            preexec_fn=wire, pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.buffer, self.serial, self.complaints, self.requests = b"", 0, [], []
        target = self.call("Target.getTargets", {}, None)["targetInfos"]
        page = next(t["targetId"] for t in target if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", {"targetId": page, "flatten": True}, None)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method, parameters=None, session="own"):
        self.serial += 1
        message = {"id": self.serial, "method": method, "params": parameters or {}}
        if session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.serial:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]
            self.note(answer)

    def read(self):
        while b"\0" not in self.buffer:
            piece = os.read(self.come, 1 << 16)
            if not piece:
                raise AssertionError("the browser has ended")
            self.buffer += piece
        line, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(line)

    def note(self, event):
        parameters = event.get("params", {})
        if event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(parameters["entry"]["text"])
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])

    def value(self, expression):
        return self.call("Runtime.evaluate", {"expression": expression, "returnByValue": True})["result"].get("value")

    def wait_for(self, expression):
        end = time.monotonic() + PATIENCE_S
        while not self.value(expression):
            if time.monotonic() > end:
                raise AssertionError(f"never true: {expression}; {self.complaints}")
            time.sleep(0.1)

    def choose(self, selector, file):
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
        self.call("DOM.setFileInputFiles", {"files": [str(file)], "nodeId": node})

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", {"captureBeyondViewport": True})["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))

    def close(self):
        self.process.kill()
        self.process.wait()


def check(browser, base, picture, screenshot):
    browser.call("Page.navigate", {"url": base + "/"})
    browser.wait_for("document.querySelectorAll('#models .good').length > 0")
    browser.wait_for("document.getElementById('state').textContent === 'ready'")
    browser.value("document.getElementById('model').value = 'ppocr-det'")
    browser.choose("#file", picture)
    browser.value("document.getElementById('send').click()")
    browser.wait_for("!document.getElementById('answer').hidden")
    text = browser.value("document.getElementById('answer').textContent")
    assert text.startswith("{"), text
    answer = json.loads(text)
    assert answer["model_name"] == "ppocr-det", answer
    assert answer["predictions"][0]["regions"], answer
    browser.wait_for("!document.getElementById('picture').hidden")
    assert browser.value("document.getElementById('picture').width") > 100
    for _ in range(3):  # So that the sparkline has points.
        browser.value("document.getElementById('send').click()")
        browser.wait_for("!document.getElementById('send').disabled")
        time.sleep(2.2)
    browser.wait_for("[...document.querySelectorAll('polyline')].some(l => l.points.length > 1)")
    if screenshot:
        browser.screenshot(screenshot)
    foreign = [url for url in browser.requests if not url.startswith((base, "data:", "blob:"))]
    assert not foreign, foreign
    assert not browser.complaints, browser.complaints


def main():
    program, deps = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        sys.exit(77)
    server = subprocess.Popen([program, "serve", "--models", deps / "models", "--http-port", "0", "--grpc-port", "0"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with tempfile.TemporaryDirectory() as profile:
        try:
            base = server.stdout.readline().split()[1]
            browser = Browser(chromium, profile)
            try:
                check(browser, base, deps / "data/opencv/imageTextN.png", sys.argv[3] if len(sys.argv) > 3 else None)
            finally:
                browser.close()
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=60)


if __name__ == "__main__":
    main()
