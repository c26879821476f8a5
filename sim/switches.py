"""What takes the engine's safeguards away, one by one: the functions that stand in for those of the engine while a switch is off. The law kept
here: a switch takes away what keeps the law in the engine, no more, and gives it back. ``sim.safeguards`` says which law each one is of.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final
from unittest.mock import patch

from attrs import evolve

from protocol import coordination, ids, limits, node, promises
from protocol.effects import Forget
from protocol.inputs import InstanceExited, InstanceReady, Probed, ReadSealed, SealedAck, Snapshotted, Tick
from protocol.lifecycle import boot, creation, offers, outcomes, process, routing, sealed, sleep, stopping, wake
from protocol.lifecycle.orders import fire
from protocol.messages import (
    CreateConfirm,
    CreateRequest,
    CreateSuperseded,
    Message,
    PromiseAsk,
    Purpose,
    SealAnswer,
    SleepReport,
    SleepVote,
    StoreBirth,
    WakeIntent,
)
from protocol.records import ApiKey, Attempt, Record, Version, join
from protocol.rows import EpochPromise, NamePromise
from protocol.state import Hosted, Seeking, State
from protocol.suspicion import majority
from protocol.timers import Name, Timers
from protocol.turn import Turn

Switch = AbstractContextManager[Any]

MESSAGES: Final[dict[type, Any]] = node._MESSAGES  # pyright: ignore[reportPrivateUsage]
INPUTS: Final[dict[type, Any]] = node._INPUTS  # pyright: ignore[reportPrivateUsage]
TIMERS: Final[dict[str, Any]] = node._TIMERS  # pyright: ignore[reportPrivateUsage]


def replaced(owner: Any, name: str, value: Any) -> Callable[[], Switch]:
    return lambda: patch.object(owner, name, value)


def handled_by(message: type, handler: Callable[..., None]) -> Callable[[], Switch]:
    return lambda: patch.dict(MESSAGES, {message: handler})


def write_nothing(prefix: str) -> Callable[[], Switch]:
    write = Turn.write

    def forgetful(turn: Turn, key: str, row: Any) -> bytes:
        return b"" if key.startswith(prefix) else write(turn, key, row)

    return replaced(Turn, "write", forgetful)


@contextmanager
def look_before_expiring() -> Generator[None]:
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


def deny_without_promise(turn: Turn, sender: str, message: CreateRequest) -> None:
    """What was denied to a higher attempt before is denied again, and nothing is promised by it."""
    internal = ids.DatabaseName.internal_of(message.app, message.name)
    held = turn.state.names.pop(internal, None)
    creation.on_request(turn, sender, message)
    offers.on_request(turn, sender, message)
    turn.state.names.pop(internal, None)
    if held is not None:
        turn.state.names[internal] = held


def store_any_birth(turn: Turn, sender: str, message: StoreBirth) -> None:
    """Whichever attempt asks: no denial stands against it."""
    turn.state.names[message.birth.internal] = NamePromise(message.birth.internal, message.attempt)
    offers.on_store_birth(turn, sender, message)


def coordinator_writes() -> Switch:
    broadcast = Turn.broadcast

    def signed(turn: Turn, message: Message) -> None:
        if isinstance(message, CreateConfirm):
            version = message.record.version._replace(writer=turn.state.store)
            message = CreateConfirm(evolve(message.record, version=version), message.attempt)
        broadcast(turn, message)

    return patch.object(Turn, "broadcast", signed)


def resume_unacknowledged() -> Switch:
    resume = boot._resume  # pyright: ignore[reportPrivateUsage]

    def careless(turn: Turn, records: list[Record], *rest: Any) -> None:
        resume(turn, [record.at(record.version._replace(sequence=9), "active") for record in records], *rest)

    return patch.object(boot, "_resume", careless)


def any_counter() -> Switch:
    sample = sleep.on_vote_sample

    def trusting(turn: Turn, hosted: Hosted, probed: Probed) -> None:
        hosted.counter = probed.counter
        sample(turn, hosted, probed)

    return patch.object(sleep, "on_vote_sample", trusting)


def overhear_vetoes(turn: Turn, sender: str, message: SleepVote) -> None:
    if message.granted or message.absent:
        sleep.on_vote(turn, sender, message)


def commit_by_majority(turn: Turn, incarnation: str) -> None:
    hosted = turn.state.hosted.get(incarnation)
    if hosted is not None and hosted.sleep is not None and not hosted.sleep.committed:
        if len(hosted.sleep.votes) >= majority(len(hosted.record.members)):
            stopping.commit(turn, hosted, -1)
        else:
            sleep.abort(turn, hosted, "not enough votes in time")


@contextmanager
def veto_forbids_nothing() -> Generator[None]:
    with patch.dict(MESSAGES, {SleepVote: overhear_vetoes}), patch.dict(TIMERS, {"votes": commit_by_majority}):
        yield


def seal_any_stop(turn: Turn, sender: str, message: SleepReport) -> None:
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is not None and hosted.sleep is not None:
        hosted.sleep.index = max(hosted.sleep.index, 0)
        message = evolve(message, clean=True, applied=hosted.sleep.index)
    stopping.on_sleep_report(turn, sender, message)


@contextmanager
def read_any_copy() -> Generator[None]:
    """Whatever a stop has left, sealed or not."""
    keep = sealed.keep

    def keep_any(hosted: Hosted, _clean: bool) -> None:
        keep(hosted, True)

    with patch.object(sealed, "keep", keep_any), patch.object(sealed, "_sealed", always):
        yield


def unknown_is_new() -> Switch:
    """A process that was started since takes the copy of a seal to be as old as itself."""

    def hopeful(turn: Turn, asked: ReadSealed) -> None:
        for hosted in turn.state.hosted.values():
            seal = hosted.record.seal
            if seal is not None and not hosted.run and not hosted.readers.epoch:
                hosted.readers.keep(seal.epoch, seal.applied, turn.now)
        sealed.on_read(turn, asked)

    return patch.dict(INPUTS, {ReadSealed: hopeful})


def of_any_closing() -> Switch:
    def credulous(turn: Turn, ack: SealedAck) -> None:
        hosted = turn.state.hosted.get(ack.incarnation)
        outcomes.on_sealed_ack(turn, ack if hosted is None else evolve(ack, generation=hosted.readers.generation))

    return patch.dict(INPUTS, {SealedAck: credulous})


def end_any_sleep(turn: Turn, sender: str, message: WakeIntent) -> None:
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is not None:
        message = WakeIntent(message.incarnation, hosted.sleep_epoch)
    wake.on_intent(turn, sender, message)


def blind_to_direct_clients() -> Switch:
    sample = sleep.on_idle_sample

    def blind(turn: Turn, hosted: Hosted, probed: Probed) -> None:
        hosted.used_since_sample = True
        sample(turn, hosted, probed)

    return patch.object(sleep, "on_idle_sample", blind)


def one_intent_each(turn: Turn, record: Record, request: int) -> None:
    seeking = turn.state.seeking.setdefault(record.incarnation, Seeking(turn.now + limits.WAKE_DEADLINE))
    seeking.waiters.append(request)
    routing._seek_on(turn, record, seeking)  # pyright: ignore[reportPrivateUsage]


def not_forwarded(_state: State) -> set[int]:
    return set()


def believe_nobody(*_: object) -> Forget:
    return Forget("")


def launch_at_once() -> Switch:
    seek = coordination.seek

    def hasty(turn: Turn, hosted: Hosted, purpose: Purpose) -> None:
        if purpose == "address":
            process.launch(turn, hosted, "restart")
        else:
            seek(turn, hosted, purpose)

    return patch.object(coordination, "seek", hasty)


def at_one_moment() -> Switch:
    """Whoever has not told yet that the database is awake tries again after the same time, whatever its rank."""

    def alike(_turn: Turn, _hosted: Hosted) -> int:
        return 2 * limits.PROMISE_WINDOW

    return patch.object(wake, "_again", alike)


def promise_lower() -> Switch:
    """An epoch below the one that is promised, as if none were."""
    promise = promises.promise

    def forgetful(turn: Turn, hosted: Hosted, epoch: int, to: str) -> bool:
        return epoch < hosted.promise.epoch or promise(turn, hosted, epoch, to)

    return patch.object(promises, "promise", forgetful)


def promise_to_anybody() -> Switch:
    """The same epoch to whoever asks for it; a lower one to nobody."""
    promise = promises.promise

    def generous(turn: Turn, hosted: Hosted, epoch: int, to: str) -> bool:
        given = epoch == hosted.promise.epoch and hosted.promise.holder != promises.NOBODY
        return given or promise(turn, hosted, epoch, to)

    return patch.object(promises, "promise", generous)


def commit_with_any_promise(turn: Turn, hosted: Hosted, index: int) -> None:
    stopping.commit(turn, hosted, index)


def follow_at_once(turn: Turn, hosted: Hosted) -> None:
    epoch = hosted.record.version.epoch
    if fire(turn, hosted, "slept"):
        hosted.stopping = epoch


def version_below() -> Switch:
    following = promises.next_version

    def old(turn: Turn, hosted: Hosted, epoch: int) -> Version | None:
        if hosted.promise == EpochPromise(hosted.incarnation, epoch, turn.me):
            return hosted.record.version._replace(epoch=epoch)
        return following(turn, hosted, epoch)

    return patch.object(promises, "next_version", old)


def version_in(_turn: Turn, hosted: Hosted, epoch: int) -> Version:
    return hosted.record.version._replace(epoch=epoch)


def drained(_turn: Turn, hosted: Hosted) -> bool:
    return not hosted.open


def hung_is_failed() -> Switch:
    exit_of = wake.on_exit

    def unforgiving(turn: Turn, hosted: Hosted, exited: InstanceExited, _asked: bool) -> None:
        exit_of(turn, hosted, exited, False)

    return patch.object(wake, "on_exit", unforgiving)


def of_any_run(turn: Turn, outcome: InstanceReady | InstanceExited | Probed | Snapshotted) -> Hosted | None:
    return turn.state.hosted.get(outcome.incarnation)


def later_phase(left: Record, right: Record) -> Record:
    joined = join(left, right)
    return evolve(joined, phase=max(left, right, key=lambda one: one.version).phase)


def one_underscore(name: ids.DatabaseName) -> str:
    return f"{name.app}_{name.name}"


def always(*_: object) -> bool:
    return True


def never(*_: object) -> bool:
    return False


def zero(*_: object) -> int:
    return 0


def nothing(*_: object) -> None:
    return None


def all_of(of: int) -> int:
    return of


def one_of(_of: int) -> int:
    return 1


def no_timer(kind: str) -> Callable[[], Switch]:
    return lambda: patch.dict(TIMERS, {kind: nothing})


def never_send(*kinds: type) -> Callable[[], Switch]:
    send = Turn.send

    def silent(turn: Turn, to: str, message: Message) -> None:
        if not isinstance(message, kinds):
            send(turn, to, message)

    return replaced(Turn, "send", silent)


def under_any_members() -> Switch:
    ask = MESSAGES[PromiseAsk]

    def forgiving(turn: Turn, sender: str, message: PromiseAsk) -> None:
        hosted = turn.state.hosted.get(message.incarnation)
        ask(turn, sender, evolve(message, stamp=hosted.record.stamp) if hosted is not None else message)

    return patch.dict(MESSAGES, {PromiseAsk: forgiving})


def seal_at_once(turn: Turn, hosted: Hosted, _sample: Probed) -> None:
    turn.send(hosted.promise.holder, SealAnswer(hosted.incarnation, hosted.vote, hosted.awaited))


def wait_for_nobody() -> Switch:
    consider = sleep._consider_commit  # pyright: ignore[reportPrivateUsage]

    def hasty(turn: Turn, hosted: Hosted) -> None:
        assert hosted.sleep is not None
        hosted.sleep.absent.update(hosted.record.peers)
        consider(turn, hosted)

    return patch.object(sleep, "_consider_commit", hasty)


ALWAYS: Final = property(always)


def told_last(_known: ApiKey, told: ApiKey) -> ApiKey:
    return told


def no_bytes(*_: object) -> bytes:
    return b""


def give_way_to_nobody(attempt: Attempt, app: str, name: str, _higher: int) -> CreateSuperseded:
    return CreateSuperseded(attempt, app, name, 0)


def acknowledge_only(turn: Turn, hosted: Hosted) -> None:
    fire(turn, hosted, "acknowledged")
