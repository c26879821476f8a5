"""Several nodes as an operator would make a cluster of them: the first founds it, the others get a copy of its secret and its address.
Law: whoever starts them ends them, whatever happens in between; they are given away when each hears all others, and listens no more (P61)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from runtime import control
from runtime.identity import DIRECTORY, SECRET
from runtime.spawned import NodeDidNotStart, PortBlock, SpawnedNode, port_blocks, sections, spawned, write_settings

FORMED_WITHIN: Final = 60.0
_LOOK: Final = 0.05


@asynccontextmanager
async def spawned_cluster(
    directory: Path,
    size: int,
    keys: Mapping[str, str],
    settings: Mapping[str, Mapping[str, Any]],
    *,
    hibernation_timeout: str = "60s",
    blocks: Sequence[PortBlock] = (),
) -> AsyncGenerator[list[SpawnedNode]]:
    """``size`` nodes below ``directory``, ``node1`` and so on, each with its ``node.yaml``, ``node.log`` and ``data``. ``settings`` come over
    those of :func:`runtime.spawned.sections`. ``blocks``: ports for the databases of each node, if not any. Raises :class:`NodeDidNotStart`."""
    blocks = blocks or port_blocks(size)
    async with AsyncExitStack() as stack:

        async def start(number: int, founder: SpawnedNode | None) -> SpawnedNode:
            place = directory / f"node{number}"
            place.mkdir()
            log, block = place / "node.log", blocks[number - 1]
            its = sections(place, keys, hibernation_timeout=hibernation_timeout, log=log, block=block)
            for section, values in settings.items():
                its[section] = {**its.get(section, {}), **values}
            if founder is not None:
                its["discovery"] = its.get("discovery", {}) | {"bootstrap_peers": founder.status()["addresses"]}
                its["security"]["cluster_secret_file"] = str(founder.data / DIRECTORY / SECRET)
            config = write_settings(place / "node.yaml", its)
            arguments = () if founder is not None else ("--found",)
            return await stack.enter_async_context(spawned(config, *arguments, data=place / "data", stderr=None))

        nodes = [await start(1, None)]
        nodes += [await start(number, nodes[0]) for number in range(2, size + 1)]
        await formed(nodes)
        yield nodes


async def formed(nodes: Sequence[SpawnedNode]) -> None:
    """Wait until each of the nodes hears all others and listens no more. Raises :class:`NodeDidNotStart`."""
    with trio.move_on_after(FORMED_WITHIN):
        for node in nodes:
            # Polled: a node does not call back when it has heard the others.
            while not await _in_step(node, len(nodes)):  # noqa: ASYNC110
                await trio.sleep(_LOOK)
        return
    raise NodeDidNotStart(f"the nodes do not hear each other after {FORMED_WITHIN:g} s")


async def _in_step(node: SpawnedNode, size: int) -> bool:
    status = await ask(node, "status")
    return not status["listening"] and sum(peer["eligible"] for peer in status["peers"]) == size


async def ask(node: SpawnedNode, do: str, **arguments: str) -> Any:
    """What ``torpor`` would be told by this node."""
    return await trio.to_thread.run_sync(lambda: control.ask(node.data, do, **arguments))
