"""A process that hosts a gateway, for tests that kill or stop it: ``python -m tests.runtime.gateway_parent LISTEN LEASE_S URL KEY_DIGEST``.

Opens the door of any database to the rqlited at URL when asked. Prints the address and the worker's pid, a line each.
"""

from __future__ import annotations

import sys

import psutil
import structlog
import trio

from runtime.gateway.frames import Ask, FromWorker, WorkerJoined
from runtime.gateway.host import GatewayHost
from runtime.gateway.worker_config import WorkerConfig


async def main(listen: str, lease_s: str, url: str, digest: str) -> None:
    def deliver(frame: FromWorker) -> None:
        if isinstance(frame, WorkerJoined):
            print(psutil.Process().children()[0].pid, flush=True)
        if isinstance(frame, Ask):
            host.door(None, incarnation="i", app=frame.app, name=frame.name, generation=1, open=True, url=url)
            host.answer(frame.request, error=None)

    config = WorkerConfig({digest: "one"}, lease_s=float(lease_s))
    host = GatewayHost(listen=listen, workers=1, config=config, deliver=deliver)
    async with trio.open_nursery() as nursery:
        name, port = await nursery.start(host.run)
        print(f"{name}:{port}", flush=True)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is the test's
    trio.run(main, *sys.argv[1:])
