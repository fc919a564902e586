"""Run scripts in a page of a real browser and wait for them: Chromium's DevTools, over a pipe."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from command import PATIENCE

# --remote-debugging-pipe: commands arrive on descriptor 3, answers leave on 4, each ends with NUL.
_PIPES = 'exec "$@" 3<&0 4>&1 </dev/null >&2'
_ONLY_HERE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


class Page:
    """An open page. Each call raises AssertionError where the browser reports an error."""

    def __init__(self, commands: IO[bytes], answers: IO[bytes]) -> None:
        self._commands, self._answers = commands, answers
        self._number = 0
        self._read = b""  # of the next answer
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a DevTools command. Events between are skipped."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters} | self._session
        self._commands.write(json.dumps(command).encode() + b"\0")
        self._commands.flush()
        while (answer := self._answer()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def go(self, url: str) -> None:
        """Leave the page, with what its scripts keep, and load that one."""
        self.call("Page.navigate", url="about:blank")  # another fragment alone loads nothing
        assert "errorText" not in self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression, once its promise is kept."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def _answer(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            some = os.read(self._answers.fileno(), 1 << 16)
            assert some, "the browser has ended"
            self._read += some
        one, _, self._read = self._read.partition(b"\0")
        answer: dict[str, Any] = json.loads(one)
        return answer


@contextmanager
def opened(browser: str, profile: Path) -> Iterator[Page]:
    """An empty page, without any network but 127.0.0.1. `profile`: a folder to be made."""
    with subprocess.Popen(
        ["sh", "-c", _PIPES, "sh", browser, "--headless", "--no-sandbox", "--disable-gpu",
         f"--user-data-dir={profile}", _ONLY_HERE, "--remote-debugging-pipe"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as running:  # fmt: skip
        assert running.stdin
        assert running.stdout
        try:
            yield Page(running.stdin, running.stdout)
            running.terminate()
            running.wait(PATIENCE)
        finally:
            running.kill()
