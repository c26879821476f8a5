"""Broadcasts, over gossipsub. Laws: the sender of a broadcast is the peer whose signature it carries, never the one that handed it on
(F81); each peer is limited before its work is done, and before anything is forwarded in its name (F92).

Imports libp2p: only :mod:`runtime.transport.session` may import this, which is itself loaded in a thread.
"""

from __future__ import annotations

import functools
import time
from typing import Any, Final

import structlog
import trio
from libp2p.abc import IHost
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub import pubsub as libp2p_pubsub
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.pubsub.validators import signature_validator

from protocol import codec, limits
from runtime.rates import Rates
from runtime.transport import bounds
from runtime.transport.hearing import Hearing

TOPIC: Final = "torpor/1"
PROTOCOL: Final = TProtocol("/meshsub/1.1.0")
_SIGNATURE: Final = 64
_SEQUENCE: Final = 8
_ID_LENGTH: Final = 64

log = structlog.stdlib.get_logger("transport")


def _believe_no_record(_frame: rpc_pb2.RPC, _host: IHost, _peer: ID) -> bool:
    """In place of libp2p's: the frame is read on."""
    return True


# Both are hard-coded to 32, which loses bursts without a word (measured: 10 of 500 delivered).
_module: Any = libp2p_pubsub
_module.RpcQueue = functools.partial(RpcQueue, max_size=bounds.GOSSIP_QUEUE, max_message_size=bounds.RPC_BYTES)
# Every frame carries a signed record of its sender's addresses: a second signature to check for what our own heartbeats say, and a
# record that is older than the last one, as after a clock was set back, silences its sender for two hours.
_module.maybe_consume_signed_record = _believe_no_record
_module.SUBSCRIPTION_CHANNEL_SIZE = 1  # broadcasts are delivered at once, below; the channel stays empty


def router(most: int) -> GossipSub:
    """Gossipsub as it works here; ``most``: connections that this node may have."""
    return GossipSub(
        protocols=[PROTOCOL],
        # 3/2/4 made a permanent partition of ten nodes in one run of three: while small, everyone is in everyone's mesh.
        degree=8,
        degree_low=6,
        degree_high=max(12, min(most, 16)),
        heartbeat_interval=1,  # 120 s by default: late joiners get replays that are 22 s old
        adaptive_gossip_enabled=False,  # stretches a heartbeat of 1 s to 30 s
        spam_protection_enabled=False,  # drops a node's own broadcasts above 10/s; our own limits are below
        eclipse_protection_enabled=False,  # refuses meshes of one address: three nodes on one machine
        prune_back_off=5,
        unsubscribe_back_off=1,  # 10 s by default: 8 s of loss after subscribing again
    )


class Gossip(libp2p_pubsub.Pubsub):
    """Delivers straight to :class:`Hearing`; ``strict_signing`` stays on."""

    def __init__(self, host: IHost, mesh: GossipSub, hearing: Hearing) -> None:
        super().__init__(
            host,
            mesh,
            strict_signing=True,
            max_subscriptions_per_peer=4,
            max_inbound_rpc_size=bounds.RPC_BYTES,
            allowed_topics={TOPIC},
        )
        # The default is the time in seconds: after a burst and a restart, 300 of 300 new messages passed for duplicates.
        self.counter = time.time_ns()
        self._hearing = hearing
        self._forwarders = Rates[str](bounds.FORWARDER_RATE, bounds.FORWARDER_BURST, bounds.PEERS)
        self._authors = Rates[str](bounds.AUTHOR_RATE, bounds.AUTHOR_BURST, bounds.PEERS)
        self._unknown = Rates[str](bounds.STRANGER_RATE, bounds.STRANGER_BURST, bounds.PEERS)

    def _is_subscribed_to_msg(self, msg: rpc_pb2.Message) -> bool:
        # Asked before a task is made for the message: one frame may hold thousands that are no messages at all.
        return (
            len(msg.topicIDs) == 1
            and msg.topicIDs[0] == TOPIC
            and len(msg.signature) == _SIGNATURE
            and len(msg.seqno) == _SEQUENCE
            and 0 < len(msg.from_id) <= _ID_LENGTH
            and len(msg.data) <= limits.MESSAGE_BYTES
        )

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """One broadcast, ours or of others. Replaces libp2p's, in which a malformed key or a raising validator ends the process."""
        try:
            if msg_forwarder == self.my_id or self._heard(msg_forwarder, msg):
                self._mark_msg_seen(msg)
                await self.router.publish(msg_forwarder, msg)
        except Exception as error:
            self._hearing.count("gossip_failed")
            log.debug("broadcast not taken", forwarder=str(msg_forwarder), because=repr(error)[:200])

    def _heard(self, forwarder: ID, msg: rpc_pb2.Message) -> bool:
        """Whether it is to be handed on; if so it was delivered here, too. The order is that of the cost."""
        hearing, now = self._hearing, trio.current_time()
        by = str(forwarder)
        if not self._forwarders.take(by, now):
            hearing.too_much(by)
            return False
        if self._is_msg_seen(msg):
            return False
        author_id = ID(msg.from_id)
        author = str(author_id)
        # The forwarder is authenticated, so its own broadcasts are limited before their signature costs anything. Those
        # of others are limited after it: who forges a name must not use up what the name's owner may say.
        direct = author == by
        if author_id == self.my_id or hearing.banned(author):
            return False
        if direct and not self._authors.take(author, now):
            hearing.too_much(author)
            return False
        if not direct and author not in hearing.known() and not self._unknown.take(by, now):
            hearing.count("gossip_limited")
            return False
        if not signature_validator(msg):
            hearing.count("gossip_unsigned")
            return False
        if not direct and not self._authors.take(author, now):
            hearing.count("gossip_limited")
            return False
        try:
            message = codec.decode(msg.data)
        except codec.CodecError:
            hearing.count("undecodable")
            return False
        return hearing.message(author, message)

    def notify_subscriptions(self, publish_message: rpc_pb2.Message) -> None:
        """Nothing: delivered already."""

    async def say(self, data: bytes) -> None:
        """Broadcast."""
        await self.publish(TOPIC, data)

    def forget_deliveries(self) -> None:
        """``recent_message_deliveries`` grows for ever when adaptive gossip is off."""
        mesh: Any = self.router
        mesh.recent_message_deliveries.clear()
