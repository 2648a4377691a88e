"""The broker: the one process of a user that speaks to a Ray; supervisors speak to it over a socket.

`import ray` is slow, Ray ends the process that is connected to it when its cluster is gone, and it starts threads that
no fork survives: so nothing of it is in a supervisor. A Ray of lx's own lives as long as its broker.
`python -m lightex.dispatcher.engines.rayside.broker FOLDER PLACE LOCK` serves those who find its address in FOLDER.

Lines of JSON: {"id", "do", ...} -> {"id", "answer"} or {"id", "error"}; {"news": {NAME: STATE}} and {"used":
{NAME: USAGE}} for what is watched.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightex.core.rundir import ENDED, LOST
from lightex.dispatcher.engines.rayside.cluster import Cluster
from lightex.dispatcher.engines.rayside.place import LOCAL, is_jobs_api

_LINGER = 15.0  # seconds that it stays without anybody: a supervisor that was killed is started again
_LOOK = 0.5  # seconds between two looks whether it is needed
_LINE = 1 << 30  # bytes that a message may have


class _Client:
    """A supervisor's connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.watched: set[str] = set()

    def send(self, message: dict[str, Any]) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")


class Broker:
    """Serves supervisors until nobody needs it."""

    def __init__(self, folder: Path, place: str) -> None:
        self._folder, self._place = folder, place
        if is_jobs_api(place):
            from lightex.dispatcher.engines.rayside.jobs_api import JobsApi

            self.backend: Cluster | JobsApi = JobsApi(place, self._tell)
        else:
            self.backend = Cluster(place, self._tell, self._tell_used)
        self._clients: set[_Client] = set()
        self._kept: dict[str, dict[str, Any]] = {}  # ends of a former Ray of our own
        self._alone_since = 0.0
        self._leaving = False
        self._parting: list[asyncio.StreamWriter] = []
        self._parted = asyncio.Event()
        self._error: str | None = None

    async def serve(self, listening: socket.socket, error: str | None) -> None:
        """Answer until it is not needed any more."""
        self._error = error
        kept = self._folder / "ends.json"  # what nobody had noted down when a Ray of our own ended: see `Link.kept`
        if kept.exists():
            self._kept = json.loads(kept.read_text())
        server = await asyncio.start_unix_server(self._client, sock=listening, limit=_LINE)
        follow = asyncio.create_task(self.backend.follow()) if not error else None
        clock = asyncio.get_running_loop().time
        self._alone_since = clock()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._parted.wait(), _LOOK)
            self._parted.clear()
            if follow and follow.done():
                traceback.print_exception(follow.exception())
                break
            patience = 0.0 if self._leaving else 1.0 if error else _LINGER
            if self._clients or self.backend.at_work or clock() - self._alone_since < patience:
                continue
            break
        server.close()
        (self._folder / "address").unlink(missing_ok=True)
        if follow and not follow.done():
            follow.cancel()
            await self.backend.leave()
        if self._place == LOCAL:
            left = {**self._kept, **self.backend.states}
            if left:
                kept.write_text(json.dumps(left))
            else:
                kept.unlink(missing_ok=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Client(writer)
        self._clients.add(client)
        self._leaving = False
        try:
            while line := await reader.readline():
                message = json.loads(line)
                if message["do"] == "leave":
                    self._clients.discard(client)
                    self._leaving = not self._clients and not self.backend.at_work
                    if self._leaving:  # the connection ends with this process, which is waited for
                        self._parting.append(writer)
                        self._parted.set()
                        return
                    break
                try:
                    if self._error:
                        raise ConnectionError(self._error)
                    answer = await self._do(client, message)
                except Exception as error:  # noqa: BLE001  one question that fails must not end all others
                    client.send({"id": message["id"], "error": _words(error)})
                else:
                    client.send({"id": message["id"], "answer": answer})
        except ConnectionError:  # a supervisor that was killed
            pass
        finally:
            self._clients.discard(client)
            self._alone_since = asyncio.get_running_loop().time()
            if not self._leaving:
                writer.close()

    async def _do(self, client: _Client, message: dict[str, Any]) -> Any:
        backend = self.backend
        match message["do"]:
            case "facts":
                return await backend.facts()
            case "take":
                await backend.take(message["orders"])
            case "knows":
                return message["name"] in self._kept or await backend.knows(message["name"])
            case "watch":
                await backend.complete.wait()
                backend.expect(set(message["names"]) - set(self._kept))
                client.watched |= set(message["names"])
                self._send_news(client, message["names"])
            case "end":
                await backend.end(message["names"], message["force"])
            case "forget":
                for name in message["names"]:
                    self._kept.pop(name, None)
                await backend.forget(message["names"])
        return None

    def _tell(self, names: Iterable[str]) -> None:
        changed = set(names)
        for client in self._clients:
            if wanted := client.watched & changed:
                self._send_news(client, wanted)

    def _tell_used(self, used: Mapping[str, Any]) -> None:
        for client in self._clients:
            if wanted := {name: used[name] for name in client.watched & used.keys()}:
                client.send({"used": wanted})

    def _send_news(self, client: _Client, names: Iterable[str]) -> None:
        gone = {"state": LOST, "cause": "lost", "reason": f"the Ray at {self._place} knows nothing of it"}
        states = {**self._kept, **self.backend.states}
        news = {name: states.get(name, gone) for name in names}
        if news:
            client.send({"news": news})
        client.watched -= {name for name, state in news.items() if state["state"] in ENDED}


def _words(error: BaseException) -> str:
    """What an exception says, in its first lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:4])[:600] or type(error).__name__


def main() -> None:
    """Serve."""
    folder, place = Path(sys.argv[1]), sys.argv[2]  # the third is the lock, held by being open
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    home = tempfile.mkdtemp(prefix="lx-")  # not in the folder: a socket's path has 107 characters at most
    try:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(f"{home}/socket")
        listening.listen(64)
        staged = folder / ".address.part"
        staged.write_text(f"{home}/socket")
        staged.replace(folder / "address")
        broker = Broker(folder, place)
        error = None
        try:
            broker.backend.open()
        except BaseException as failed:  # noqa: BLE001  Ray also calls sys.exit; supervisors are told of it
            traceback.print_exc()
            error = _words(failed)
        try:
            asyncio.run(broker.serve(listening, error))
        finally:
            broker.backend.close()
    finally:
        shutil.rmtree(home, ignore_errors=True)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)  # Ray's threads may hold a process up


if __name__ == "__main__":
    main()
