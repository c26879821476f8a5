"""The engine's safeguards, each with a switch. The law kept here: whoever shows that a safeguard matters (the tests of ablations, ``explore
--without``) switches off the same thing, and production code carries no switch: one replaces a function of the engine for as long as its
context lasts.

A switch takes away what keeps the law in the engine, no more. What then goes wrong is for a test, a scenario or the explorer to find.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

from attrs import evolve, frozen

from protocol import coordination, gossip, ids, limits, node, promises, suspicion
from protocol.clocks import Context
from protocol.effects import Forget
from protocol.inputs import InstanceExited, InstanceReady, Probed, Snapshotted, Tick
from protocol.lifecycle import boot, creation, doors, offers, outcomes, process, routing, sleep, wake
from protocol.lifecycle.orders import Subject
from protocol.messages import CreateRequest, Message, RecordNews, SleepReport, SleepVote, StoreBirth, WakeIntent
from protocol.records import Record, Version
from protocol.rows import NamePromise
from protocol.state import Hosted, Seeking, State
from protocol.suspicion import majority
from protocol.timers import Name, Timers
from protocol.turn import Turn

Switch = AbstractContextManager[Any]

MESSAGES: Final[dict[type, Any]] = node._MESSAGES  # pyright: ignore[reportPrivateUsage]
TIMERS: Final[dict[str, Any]] = node._TIMERS  # pyright: ignore[reportPrivateUsage]


@frozen
class Safeguard:
    """``law``: the number that it keeps; ``off``: what happens once it is gone, in words; ``switch``: takes it away."""

    law: str
    off: str
    switch: Callable[[], Switch]

    def __str__(self) -> str:
        return f"{self.law} {self.off}"


@contextmanager
def without(*safeguards: Safeguard) -> Generator[None]:
    """The engine without these, and with them again afterwards."""
    with ExitStack() as stack:
        for safeguard in safeguards:
            stack.enter_context(safeguard.switch())
        yield


def of(law: str) -> tuple[Safeguard, ...]:
    """All safeguards that keep this law."""
    return tuple(one for one in SAFEGUARDS if one.law == law)


def _set(owner: Any, name: str, value: Any) -> Callable[[], Switch]:
    return lambda: patch.object(owner, name, value)


def _heard(message: type, handler: Callable[..., None]) -> Callable[[], Switch]:
    return lambda: patch.dict(MESSAGES, {message: handler})


def _write_nothing(prefix: str) -> Callable[[], Switch]:
    write = Turn.write

    def forgetful(turn: Turn, key: str, row: Any) -> None:
        if not key.startswith(prefix):
            write(turn, key, row)

    return _set(Turn, "write", forgetful)


@contextmanager
def _look_before_expiring() -> Generator[None]:
    step, expired = node.Node.step, Timers.expired
    ticking: list[bool] = []

    def lazy(engine: node.Node, given: Any) -> Any:
        ticking.append(type(given) is Tick)
        return step(engine, given)

    def expired_by_tick(timers: Timers, now: int) -> Name | None:
        return expired(timers, now) if ticking[-1] else None

    with (
        patch.object(Timers, "expired", expired_by_tick),
        patch.object(node.Node, "step", lazy),
    ):
        yield


def _deny_without_promise(turn: Turn, sender: str, message: CreateRequest) -> None:
    """What was denied to a higher attempt before is denied again, and nothing is promised by it."""
    internal = ids.DatabaseName.internal_of(message.app, message.name)
    held = turn.state.names.pop(internal, None)
    creation.on_request(turn, sender, message)
    offers.on_request(turn, sender, message)
    turn.state.names.pop(internal, None)
    if held is not None:
        turn.state.names[internal] = held


def _store_any_birth(turn: Turn, sender: str, message: StoreBirth) -> None:
    """Whichever attempt asks: no denial stands against it."""
    turn.state.names[message.birth.internal] = NamePromise(message.birth.internal, message.birth.attempt)
    offers.on_store_birth(turn, sender, message)


def _resume_unacknowledged() -> Switch:
    resume = boot._resume  # pyright: ignore[reportPrivateUsage]

    def careless(turn: Turn, records: list[Record], *rest: Any) -> None:
        resume(turn, [record.at(record.version._replace(sequence=9), "active") for record in records], *rest)

    return patch.object(boot, "_resume", careless)


def _any_counter() -> Switch:
    sample = sleep.on_vote_sample

    def trusting(turn: Turn, hosted: Hosted, probed: Probed) -> None:
        hosted.counter = probed.counter
        sample(turn, hosted, probed)

    return patch.object(sleep, "on_vote_sample", trusting)


def _overhear_vetoes(turn: Turn, sender: str, message: SleepVote) -> None:
    if message.granted or message.absent:
        sleep.on_vote(turn, sender, message)


def _commit_by_majority(turn: Turn, incarnation: str) -> None:
    hosted = turn.state.hosted.get(incarnation)
    if hosted is not None and hosted.sleep is not None and not hosted.sleep.committed:
        if len(hosted.sleep.votes) >= majority(len(hosted.record.members)):
            sleep.commit(turn, hosted, -1)
        else:
            sleep.abort(turn, hosted, "not enough votes in time")


@contextmanager
def _veto_forbids_nothing() -> Generator[None]:
    with patch.dict(MESSAGES, {SleepVote: _overhear_vetoes}), patch.dict(TIMERS, {"votes": _commit_by_majority}):
        yield


def _seal_any_stop(turn: Turn, sender: str, message: SleepReport) -> None:
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is not None and hosted.sleep is not None:
        hosted.sleep.index = max(hosted.sleep.index, 0)
        message = evolve(message, clean=True, applied=hosted.sleep.index)
    sleep.on_sleep_report(turn, sender, message)


def _end_any_sleep(turn: Turn, sender: str, message: WakeIntent) -> None:
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is not None:
        message = WakeIntent(message.incarnation, hosted.sleep_epoch)
    wake.on_intent(turn, sender, message)


def _blind_to_direct_clients() -> Switch:
    sample = sleep.on_idle_sample

    def blind(turn: Turn, hosted: Hosted, probed: Probed) -> None:
        hosted.used_since_sample = True
        sample(turn, hosted, probed)

    return patch.object(sleep, "on_idle_sample", blind)


def _answer_without_records() -> Switch:
    send = Turn.send

    def silent(turn: Turn, to: str, message: Message) -> None:
        if not isinstance(message, RecordNews):
            send(turn, to, message)

    return patch.object(Turn, "send", silent)


def _one_intent_each(turn: Turn, record: Record, request: int) -> None:
    seeking = turn.state.seeking.setdefault(record.incarnation, Seeking(turn.now + limits.WAKE_DEADLINE))
    seeking.waiters.append(request)
    routing._seek_on(turn, record, seeking)  # pyright: ignore[reportPrivateUsage]


def _not_forwarded(_state: State) -> set[int]:
    return set()


def _believe_nobody(*_: object) -> Forget:
    return Forget("")


def _launch_at_once(turn: Turn, hosted: Hosted, _purpose: str) -> None:
    process.launch(turn, hosted, "restart")


def _version_in(_turn: Turn, hosted: Hosted, epoch: int) -> Version:
    return hosted.record.version._replace(epoch=epoch)


def _drained(_turn: Turn, hosted: Hosted) -> bool:
    return not hosted.open


def _of_any_run(turn: Turn, outcome: InstanceReady | InstanceExited | Probed | Snapshotted) -> Hosted | None:
    return turn.state.hosted.get(outcome.incarnation)


def _one_underscore(name: ids.DatabaseName) -> str:
    return f"{name.app}_{name.name}"


def _true(*_: object) -> bool:
    return True


def _false(*_: object) -> bool:
    return False


def _none(*_: object) -> int:
    return 0


def _nothing(*_: object) -> None:
    return None


_TRUE: Final = property(_true)

SAFEGUARDS: Final[tuple[Safeguard, ...]] = (
    Safeguard("P1", "a second coordinator is promised the same epoch", _set(promises, "promise", _true)),
    Safeguard("P1", "a promise is not durable", _write_nothing("promise/")),
    Safeguard("P3", "a veto spends nothing", _set(promises, "spend", _nothing)),
    Safeguard("P4", "an intent out of an old directory is not answered", _answer_without_records),
    Safeguard(
        "P5",
        "a spent epoch is written in",
        _set(promises, "next_version", _version_in),
    ),
    Safeguard("P7", "messages are looked at before deadlines", _look_before_expiring),
    Safeguard(
        "P10",
        "a denial promises nothing",
        lambda: patch.dict(MESSAGES, {CreateRequest: _deny_without_promise, StoreBirth: _store_any_birth}),
    ),
    Safeguard("P11", "the founder starts before its birth is durable", _write_nothing("name/")),
    Safeguard("P12", "an unacknowledged birth is resumed", _resume_unacknowledged),
    Safeguard("P20", "the context is forgotten", _set(Context, "__contains__", _false)),
    Safeguard("P30", "the vote does not wait for the workers", _set(doors, "drained", _drained)),
    Safeguard("P31", "the last look at the counters is left out", _any_counter),
    Safeguard("P31", "a veto forbids nothing, and a majority is enough", _veto_forbids_nothing),
    Safeguard("P32", "any commit is obeyed", _set(Subject, "vote_is_highest_promise", _TRUE)),
    Safeguard("P34", "any stop counts for the seal", _heard(SleepReport, _seal_any_stop)),
    Safeguard("P40", "an intent ends any sleep", _heard(WakeIntent, _end_any_sleep)),
    Safeguard("P41", "a start does not wait for the exit", _set(Subject, "exit_observed", _TRUE)),
    Safeguard(
        "P42",
        "a changed address needs no promise",
        _set(coordination, "seek", _launch_at_once),
    ),
    Safeguard("P61", "a node listens to nobody before it creates", _set(gossip, "enough", _true)),
    Safeguard("F2", "leases do not end", lambda: patch.dict(TIMERS, {"lease": _nothing})),
    Safeguard("F6", "nothing counts against max_databases", _set(State, "load", _none)),
    Safeguard("F40", "direct clients are not noticed", _blind_to_direct_clients),
    Safeguard(
        "F45",
        "outcomes of older runs count",
        _set(outcomes, "_current", _of_any_run),
    ),
    Safeguard("F46", "a failed start is not retried", _set(process, "again_later", _nothing)),
    Safeguard("F51", "each who waits outside sends an intent", _set(routing, "_seek", _one_intent_each)),
    Safeguard("F51", "a lost intent is not repeated", _set(limits, "WAKE_REPEAT", limits.WAKE_DEADLINE)),
    Safeguard("F93", "a forwarded query is sent on", _set(State, "forwarded", property(_not_forwarded, _nothing))),
    Safeguard("F93", "members that are not heard are named", _set(routing, "hears", _true)),
    Safeguard("F93", "a changed certificate is not told", _set(suspicion, "Believe", _believe_nobody)),
    Safeguard(
        "R3",
        "underscores are not doubled",
        _set(ids.DatabaseName, "internal", property(_one_underscore)),
    ),
)
