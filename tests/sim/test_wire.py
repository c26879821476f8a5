"""What is remembered of messages changes nothing but time."""

from __future__ import annotations

import pytest

from protocol import codec
from protocol.messages import IdleNews, SleepProposal
from sim import wire


def test_the_same_bytes_and_the_same_messages_as_the_codec() -> None:
    for epoch in range(3 * wire.KEPT):  # more than are remembered
        message = SleepProposal("s-1-x", epoch)
        data = wire.encode(message)
        assert data == codec.encode(message) == wire.encode(message)
        assert wire.decode(data) == message
        assert wire.encode(wire.decode(data)) == data


def test_a_message_that_is_gone_never_lends_its_bytes_to_another() -> None:
    for epoch in range(wire.KEPT):
        assert wire.encode(IdleNews("s-1-x", epoch, True)) == codec.encode(IdleNews("s-1-x", epoch, True))


def test_what_is_no_message_is_refused_every_time() -> None:
    for _ in range(2):
        with pytest.raises(codec.CodecError):
            wire.decode(b"\xff")
