"""A hostile peer: ``python -m tests.runtime.hostile_peer WHAT ADDRESS SECRET OTHER``. It uses libp2p as it comes, and does what no
node of ours would. It says ``ready`` when the attack stands, and goes on until it is killed."""

from __future__ import annotations

import os
import struct
import sys
import time
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519
from libp2p.network.config import ConnectionConfig
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.utils import encode_varint_prefixed
from multiaddr import Multiaddr

from protocol import codec
from protocol.messages import Heartbeat
from runtime.transport import asking, direct
from runtime.transport.gossip import PROTOCOL as GOSSIP
from runtime.transport.gossip import TOPIC

HERE = [Multiaddr("/ip4/127.0.0.1/tcp/0")]


def say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def host_of(secret: str) -> Any:
    key = create_new_key_pair()
    host: Any = new_host(
        key_pair=key,
        sec_opt={NOISE: Noise(key, noise_privkey=create_x25519().private_key)},
        muxer_opt={YAMUX: Yamux},
        listen_addrs=HERE,
        psk=secret,
        connection_config=ConnectionConfig(
            max_connections=10_000,
            min_connections=0,
            low_watermark=0,
            high_watermark=10_000,
            max_connections_per_peer=1000,
        ),
    )
    host.get_network().set_resource_manager(None)
    return host


def word(text: str) -> bytes:
    return codec.encode(Heartbeat(text, "store", 0, (), (), 1, b"", False))


class Attack:
    def __init__(self, address: str, secret: str, other: str) -> None:
        self.other = other
        self.place, _, self.victim = address.rpartition("/p2p/")
        self.secret = secret
        self.port = int(self.place.rsplit("/", 1)[1])

    async def dial(self, host: Any) -> Any:
        return await host.get_network().dial_addr(Multiaddr(self.place), ID.from_base58(self.victim))

    async def silent(self) -> None:
        """300 connections that say nothing."""
        held = [await trio.open_tcp_stream("127.0.0.1", self.port) for _ in range(300)]
        say("ready")
        await trio.sleep_forever()
        held.clear()

    async def noise(self) -> None:
        """100 connections that send what is no handshake."""
        for size in range(100):
            stream = await trio.open_tcp_stream("127.0.0.1", self.port)
            await stream.send_all(os.urandom(1 + size * 40))
        say("ready")
        await trio.sleep_forever()

    async def outsider(self) -> None:
        """Without the secret (the caller gave a wrong one)."""
        host = host_of(self.secret)
        async with host.run(listen_addrs=HERE):
            try:
                with trio.fail_after(15):
                    await self.dial(host)
            except Exception as error:
                say(f"refused {type(error).__name__}")
            else:
                say("let in")
            await trio.sleep_forever()

    async def garbage(self) -> None:
        """With the secret: everything that is no frame, on every protocol."""
        host = host_of(self.secret)
        junk = [
            b"\xff" * 10,
            struct.pack("!I", 2**32 - 1) + b"x" * 100,
            struct.pack("!I", 59_000) + b"cut off",
            struct.pack("!I", 300) + os.urandom(300),
            b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x05" + os.urandom(5),
            os.urandom(70_000),
            b"",
        ]
        message = rpc_pb2.Message(data=b"x", topicIDs=[TOPIC], from_id=b"\x00" * 38, seqno=b"1" * 8, key=b"\x01\x02")
        message.signature = b"s" * 64
        plain = rpc_pb2.RPC(publish=[message]).SerializeToString()
        junk.append(bytes([len(plain) & 0x7F | 0x80, len(plain) >> 7]) + plain)
        async with host.run(listen_addrs=HERE):
            for protocol in (direct.PROTOCOL, asking.PROTOCOL, GOSSIP, "/ipfs/id/1.0.0", "/no/such"):
                for data in junk:
                    with trio.move_on_after(10):
                        try:
                            if not host.is_peer_connected(ID.from_base58(self.victim)):
                                await self.dial(host)
                            stream = await host.new_stream(ID.from_base58(self.victim), [protocol])
                            if data:
                                await stream.write(data)
                            await stream.close()
                        except Exception as error:
                            sys.stderr.write(f"{protocol}: {error!r}\n")
            say("ready")
            await trio.sleep_forever()

    async def streams(self) -> None:
        """300 streams, held; half of them never even say what for."""
        host = host_of(self.secret)
        opened: list[Any] = []
        async with host.run(listen_addrs=HERE):
            connection = await self.dial(host)
            for number in range(300):
                try:
                    if number % 2:
                        opened.append(await connection.new_stream())
                    else:
                        with trio.move_on_after(5):
                            opened.append(await host.new_stream(ID.from_base58(self.victim), [direct.PROTOCOL]))
                except Exception:
                    continue
            say("ready")
            await trio.sleep_forever()

    async def connections(self) -> None:
        """250 connections of one peer, held."""
        host = host_of(self.secret)
        async with host.run(listen_addrs=HERE):
            made = 0
            for _ in range(250):
                try:
                    await self.dial(host)
                    made += 1
                except Exception:
                    continue
            say(f"ready {made}")
            await trio.sleep_forever()

    async def crowd(self) -> None:
        """40 peers that nobody knows, one connection each."""
        async with trio.open_nursery() as nursery:

            async def one(task_status: trio.TaskStatus[None]) -> None:
                host = host_of(self.secret)
                async with host.run(listen_addrs=HERE):
                    try:
                        await self.dial(host)
                    except Exception as error:
                        sys.stderr.write(f"{error!r}\n")
                    task_status.started()
                    await trio.sleep_forever()

            for _ in range(40):
                await nursery.start(one)
            say("ready")

    async def flood(self) -> None:
        """Signed broadcasts, ten in a frame, as fast as they go."""
        host = host_of(self.secret)
        key, me = host.get_private_key(), host.get_id()
        ready = time.time_ns()
        async with host.run(listen_addrs=HERE):
            await self.dial(host)
            stream = await host.new_stream(ID.from_base58(self.victim), [GOSSIP])
            say(f"ready {me}")
            while True:
                frame = rpc_pb2.RPC()
                for _ in range(10):
                    ready += 1
                    message = rpc_pb2.Message(
                        data=word("flood"), topicIDs=[TOPIC], from_id=me.to_bytes(), seqno=ready.to_bytes(8, "big")
                    )
                    message.signature = key.sign(b"libp2p-pubsub:" + message.SerializeToString())
                    frame.publish.append(message)
                await stream.write(encode_varint_prefixed(frame.SerializeToString()))

    async def forger(self) -> None:
        """A broadcast in somebody else's name, signed with its own key; then with a signature of something else."""
        host = host_of(self.secret)
        key = host.get_private_key()
        async with host.run(listen_addrs=HERE):
            await self.dial(host)
            stream = await host.new_stream(ID.from_base58(self.victim), [GOSSIP])
            frame = rpc_pb2.RPC()
            for number, author in enumerate((ID.from_base58(self.other), host.get_id())):
                seqno = (time.time_ns() + number).to_bytes(8, "big")
                message = rpc_pb2.Message(data=word("forged"), topicIDs=[TOPIC], from_id=author.to_bytes(), seqno=seqno)
                message.signature = key.sign(b"libp2p-pubsub:" + message.SerializeToString())
                if number:
                    message.data = word("tampered")
                frame.publish.append(message)
            await stream.write(encode_varint_prefixed(frame.SerializeToString()))
            say("ready")
            await trio.sleep_forever()

    async def deaf(self) -> None:
        """It takes streams and reads none of them."""
        host = host_of(self.secret)

        async def never(_stream: Any) -> None:
            await trio.sleep_forever()

        host.set_stream_handler(direct.PROTOCOL, never)
        async with host.run(listen_addrs=HERE):
            await self.dial(host)
            say(f"ready {host.get_id()}")
            await trio.sleep_forever()

    async def torrent(self) -> None:
        """Direct messages, as fast as they go."""
        host = host_of(self.secret)
        message = word("torrent")
        frames = (struct.pack("!I", len(message)) + message) * 100
        async with host.run(listen_addrs=HERE):
            await self.dial(host)
            stream = await host.new_stream(ID.from_base58(self.victim), [direct.PROTOCOL])
            say("ready")
            while True:
                await stream.write(frames)


if __name__ == "__main__":
    trio.run(getattr(Attack(*sys.argv[2:]), sys.argv[1]))
