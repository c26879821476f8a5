"""Where the chart meets the engine: guards read the facts from here, and the chart's orders are carried out here. An order
only orders: none of them fires the chart again."""

from __future__ import annotations

from protocol import limits
from protocol.effects import Problem, Snapshot
from protocol.lifecycle import doors, process
from protocol.rows import EpochPromise
from protocol.state import Hosted
from protocol.turn import Turn


class Subject:
    """One database in one turn: the ``Facts`` of ``protocol.chart``."""

    __slots__ = ("hosted", "turn")

    def __init__(self, turn: Turn, hosted: Hosted) -> None:
        self.turn = turn
        self.hosted = hosted

    # Facts.

    @property
    def voters_match(self) -> bool:
        record = self.hosted.record
        return self.hosted.voters == tuple(sorted(member.node_id(record.incarnation) for member in record.members))

    @property
    def strong_read_passed(self) -> bool:
        return self.hosted.process == "ready"

    @property
    def nothing_in_flight(self) -> bool:
        return not doors.busy(self.hosted)

    @property
    def vote_is_highest_promise(self) -> bool:
        return 0 < self.hosted.vote == self.hosted.stopping == self.hosted.promise.epoch

    @property
    def nothing_newer_promised(self) -> bool:
        return self.hosted.promise.epoch <= self.hosted.record.version.epoch

    @property
    def asleep_by_record(self) -> bool:
        return self.hosted.record.phase == "hibernating"

    @property
    def exit_observed(self) -> bool:
        return self.hosted.process == "none"

    @property
    def still_running(self) -> bool:
        return self.hosted.process in ("ready", "snapshotting")

    # Orders.

    def open_door(self) -> None:
        hosted = self.hosted
        hosted.last_used = self.turn.now
        hosted.used_since_sample = True
        hosted.error = ""
        self.turn.cancel("wake", hosted.incarnation)
        self.turn.cancel("quorum", hosted.incarnation)
        doors.swing(self.turn, hosted, True)
        doors.watch(self.turn, hosted)

    def close_door(self) -> None:
        self.turn.cancel("idle", self.hosted.incarnation)
        self.turn.cancel("drain", self.hosted.incarnation)
        self.hosted.closing = self.hosted.vote = self.hosted.following = 0
        self.hosted.sleep = None
        doors.swing(self.turn, self.hosted, False)

    def answer_waiters(self) -> None:
        for request in self.hosted.waiters:
            self.turn.answer(request)
        self.hosted.waiters.clear()

    def refuse_waiters(self) -> None:
        for request in self.hosted.waiters:
            self.turn.answer(request, self.hosted.problem, self.hosted.error)
        self.hosted.waiters.clear()

    def snapshot_then_stop(self) -> None:
        self.turn.state.turn_to(self.hosted, process="snapshotting")
        self.hosted.folded = -1
        self.hosted.doubt = ""
        self.turn.cancel("drain", self.hosted.incarnation)
        self.turn.cancel("idle", self.hosted.incarnation)
        self.turn.act(Snapshot(self.hosted.incarnation, self.hosted.run))

    def start_again(self) -> None:
        if self.hosted.failures > 1:
            process.again_later(self.turn, self.hosted)
        else:
            process.spend_and_begin(self.turn, self.hosted)
        self._patience()

    def read_again(self) -> None:
        """The stop was cancelled before SIGTERM: this run serves on, once a strong read has passed again."""
        self._patience()
        self.turn.state.turn_to(self.hosted, process="ready")
        process.probe(self.turn, self.hosted, "serve")

    def be_patient(self) -> None:
        self._patience()

    def stop_now(self) -> None:
        self.hosted.wanted = False
        self.turn.cancel("wake", self.hosted.incarnation)
        self.turn.cancel("backoff", self.hosted.incarnation)
        process.stop(self.turn, self.hosted)
        process.free_port(self.turn, self.hosted)

    def discard(self) -> None:
        doors.forget(self.turn, self.hosted)
        self.hosted.discard = True

    def _patience(self) -> None:
        self.hosted.stopping = self.hosted.vote = self.hosted.closing = self.hosted.following = 0
        self.hosted.woken_at = self.turn.now
        self.turn.cancel("doubt", self.hosted.incarnation)
        self.turn.after("wake", self.hosted.incarnation, self.turn.state.config.wake_deadline)
        self.turn.after("quorum", self.hosted.incarnation, limits.QUORUM_PATIENCE)


def fire(turn: Turn, hosted: Hosted, event: str) -> bool:
    """Send one event to the database's chart; whether a transition was taken."""
    target = turn.chart.fire(hosted.state, event, Subject(turn, hosted))
    if target is None:
        return False
    turn.state.turn_to(hosted, state=target)
    if hosted.discard and hosted.process == "none":
        process.bury(turn, hosted)
    return True


def holds(hosted: Hosted, epoch: int, holder: str) -> bool:
    """This member's highest promise is ``epoch``, to ``holder``."""
    return hosted.promise == EpochPromise(hosted.incarnation, epoch, holder)


def complain(hosted: Hosted, problem: Problem, detail: str) -> None:
    """Remember why, for the waiters and for ``status``."""
    hosted.problem = problem
    hosted.error = detail[: limits.DETAIL]
