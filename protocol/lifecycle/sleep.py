"""Falling asleep, up to the commit. The laws kept here are P30 (a proposal closes doors; a vote needs every worker's acknowledgement
and no query in flight), P31 (the commit needs a majority, the Raft leader's node and every member heard) and P34 (the seal's
index is the leader's after a strong read, and all apply it first). ``stopping`` goes on from there.

    idle everywhere → promise → proposal → votes → strong read on the leader → all have applied it → commit
"""

from __future__ import annotations

from protocol import coordination, limits, promises, standing
from protocol.ids import Peer
from protocol.inputs import Probed
from protocol.lifecycle import doors, process, stopping, wake
from protocol.lifecycle.orders import fire, holds
from protocol.messages import (
    IdleNews,
    SealAnswer,
    SealAsk,
    SleepAbort,
    SleepProposal,
    SleepVote,
    StandingAsk,
)
from protocol.state import Hosted, PromiseRound, SleepRound
from protocol.suspicion import majority
from protocol.turn import Turn

# --- idleness -------------------------------------------------------------------------------------------------------


def on_idle_timer(turn: Turn, incarnation: str) -> None:
    hosted = turn.state.hosted.get(incarnation)
    if hosted is not None and hosted.state in ("active", "idle") and hosted.process == "ready" and not hosted.closing:
        process.probe(turn, hosted, "idle")


def on_idle_sample(turn: Turn, hosted: Hosted, sample: Probed) -> None:
    foreign = sample.counter != hosted.counter and not hosted.used_since_sample
    hosted.counter = sample.counter if sample.ok else hosted.counter
    hosted.used_since_sample = False
    if not sample.ok:
        turn.after("idle", hosted.incarnation, limits.PROBE_RETRY)
        return
    if foreign or doors.busy(hosted):
        used(turn, hosted, "rqlite counted requests that no door saw" if foreign else "a query is in flight")
    elif turn.now - hosted.last_used >= turn.state.config.hibernation_timeout and fire(turn, hosted, "quiet"):
        seconds = (turn.now - hosted.last_used) / limits.SECOND
        turn.decide("database idle", hosted, "nothing passed its door, or rqlite itself", "P30", idle_time=seconds)
        _tell_idle(turn, hosted, True)
    if hosted.state == "active":
        doors.watch(turn, hosted)
    elif hosted.state == "idle":
        turn.after("idle", hosted.incarnation, turn.state.config.hibernation_timeout)
        if hosted.sleep is None:
            _tell_idle(turn, hosted, True)


def _tell_idle(turn: Turn, hosted: Hosted, idle: bool) -> None:
    turn.send(coordination.coordinator(turn, hosted), IdleNews(hosted.incarnation, hosted.promise.epoch, idle))


def used(turn: Turn, hosted: Hosted, because: str) -> None:
    """Activity. While a sleep is being prepared, it is a veto (F41)."""
    hosted.last_used = turn.now
    if hosted.following:
        stay(turn, hosted, because)
    if hosted.state == "idle":
        if hosted.closing:
            veto(turn, hosted, because)
        fire(turn, hosted, "used")
        _tell_idle(turn, hosted, False)
        doors.watch(turn, hosted)


def on_idle_news(turn: Turn, sender: Peer, message: IdleNews) -> None:
    """As the coordinator: when all members that are heard are idle, ask for an epoch. Who is heard and says nothing may have
    nothing to say: a member that lost its copy. It is asked, once for each idle sample of this node."""
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is None or hosted.record.member(sender) is None or hosted.lost:
        standing.tell(turn, sender, message.incarnation)
        return
    hosted.absent.discard(sender)
    (hosted.idle.add if message.idle else hosted.idle.discard)(sender)
    if hosted.state != "idle" or hosted.sleep is not None:
        return
    silent = set(coordination.heard(turn, coordination.present(hosted))) - hosted.idle
    if not silent:
        coordination.seek(turn, hosted, "sleep")
    elif sender == turn.me:
        for peer in sorted(silent):
            turn.send(peer, StandingAsk(message.incarnation))


def on_absent(turn: Turn, hosted: Hosted, peer: Peer) -> None:
    """``peer`` has nothing of this database: if it is all that was waited for, or was the coordinator, go on without it."""
    if peer not in hosted.absent:
        hosted.absent.add(peer)
        turn.decide("member absent", hosted, f"{peer} has nothing of it, and starts nothing", "P54", peer=peer)
        if hosted.state == "idle" and hosted.sleep is None:
            _tell_idle(turn, hosted, True)


# --- proposal and votes ---------------------------------------------------------------------------------------------


def propose(turn: Turn, hosted: Hosted, asked: PromiseRound) -> None:
    """The epoch is promised by a majority."""
    epoch = asked.epoch
    if hosted.state != "idle":
        promises.spend(turn, hosted, epoch)
        return
    hosted.sleep = SleepRound(epoch)
    turn.after("votes", hosted.incarnation, limits.VOTE_WINDOW)
    for peer in hosted.record.peers:
        turn.send(peer, SleepProposal(hosted.incarnation, epoch))


def on_proposal(turn: Turn, sender: Peer, message: SleepProposal) -> None:
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is None or hosted.lost:
        # Nobody uses here what is not here, and nothing will start: that is no veto, nor is it a vote (P54).
        if message.incarnation in turn.state.records and not turn.state.listening:
            turn.send(sender, SleepVote(message.incarnation, message.epoch, False, absent=True))
        return
    if not holds(hosted, message.epoch, sender):
        _refuse(turn, hosted, sender, message.epoch, "another epoch is promised")
        return
    if message.epoch <= hosted.record.version.epoch:  # it came late: how that round ended is recorded (P33)
        _refuse(turn, hosted, sender, message.epoch, "that epoch is over")
        return
    if hosted.state != "idle" or hosted.process != "ready":
        promises.spend(turn, hosted, message.epoch)
        _refuse(turn, hosted, sender, message.epoch, f"{hosted.state} here")
        if hosted.state == "hibernating" and hosted.sleep_epoch < message.epoch:
            wake.follow(turn, hosted, f"{sender} runs it in epoch {message.epoch}")
        return
    hosted.closing, hosted.following = message.epoch, 0
    turn.cancel("idle", hosted.incarnation)
    turn.after("drain", hosted.incarnation, limits.DRAIN_WINDOW)
    doors.swing(turn, hosted, False)
    consider_vote(turn, hosted)


def _refuse(turn: Turn, hosted: Hosted, to: Peer, epoch: int, because: str) -> None:
    vote = SleepVote(hosted.incarnation, epoch, False, reason=because, standing=standing.of(hosted))
    turn.send(to, vote)


def consider_vote(turn: Turn, hosted: Hosted) -> None:
    """With the door closed and drained, one last look at rqlite's counters decides."""
    if hosted.following:
        _consider_stop(turn, hosted)
    elif hosted.closing and not hosted.vote and hosted.process == "ready" and doors.drained(turn, hosted):
        process.probe(turn, hosted, "vote")


def on_vote_sample(turn: Turn, hosted: Hosted, sample: Probed) -> None:
    if hosted.vote or not doors.drained(turn, hosted):
        return
    if hosted.promise.epoch != hosted.closing:
        veto(turn, hosted, "a newer epoch was promised while the door was closing")  # a vote would be void (P32)
        fire(turn, hosted, "used")
    elif not sample.ok:
        veto(turn, hosted, f"its counters could not be read: {sample.detail}")
    elif sample.counter != hosted.counter:
        hosted.counter = sample.counter
        used(turn, hosted, "a query passed while the door was closing")
    else:
        hosted.vote, hosted.voted_at = hosted.closing, turn.now
        turn.after("drain", hosted.incarnation, limits.VOTE_WINDOW)
        vote = SleepVote(hosted.incarnation, hosted.vote, True, leader=sample.leader)
        turn.send(hosted.promise.holder, vote)


def veto(turn: Turn, hosted: Hosted, because: str) -> None:
    """Reopen the door and spend the epoch, so that its commit can stop nobody here any more (P3, P32, F52)."""
    epoch, holder = hosted.closing, hosted.promise.holder
    hosted.closing = hosted.vote = 0
    turn.cancel("drain", hosted.incarnation)
    promises.spend(turn, hosted, epoch)
    hosted.last_used = turn.now  # the next try waits a whole timeout
    doors.swing(turn, hosted, True)
    doors.watch(turn, hosted)
    turn.decide("sleep vetoed", hosted, because, "P31", epoch=epoch)
    _refuse(turn, hosted, holder or turn.me, epoch, because)


def on_drain_deadline(turn: Turn, incarnation: str) -> None:
    hosted = turn.state.hosted.get(incarnation)
    if hosted is not None and hosted.following:
        stay(turn, hosted, "queries were still in flight when the drain ended")
    elif hosted is not None and hosted.closing:
        if hosted.vote:
            because = "no commit came in time"
        else:
            because = "queries were still in flight when the drain ended"
        veto(turn, hosted, because)
        fire(turn, hosted, "used")


def on_vote(turn: Turn, sender: Peer, message: SleepVote) -> None:
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is None or hosted.sleep is None or hosted.sleep.epoch != message.epoch or hosted.sleep.committed:
        return
    if hosted.record.member(sender) is None:
        return
    if message.absent:
        hosted.sleep.absent.add(sender)
    elif message.granted:
        hosted.sleep.votes[sender] = message.leader
    else:
        abort(turn, hosted, f"{sender}: {message.reason}")
        return
    _consider_commit(turn, hosted)


def _consider_commit(turn: Turn, hosted: Hosted) -> None:
    """P31: a majority has voted, the Raft leader's node among them, and each member that is heard has, or has nothing of the
    database. That the leader leads is proven by a strong read, whose index is the seal's when all members have voted (P34)."""
    sleep = hosted.sleep
    assert sleep is not None
    heard = set(coordination.heard(turn, hosted.record.peers))
    leaders = sorted(peer for peer, leads in sleep.votes.items() if leads)
    enough = len(sleep.votes) >= majority(len(hosted.record.members))
    if not sleep.sealing and enough and leaders and sleep.votes.keys() | sleep.absent >= heard:
        sleep.sealing = True
        turn.send(leaders[0], SealAsk(hosted.incarnation, sleep.epoch, -1))


def on_votes_deadline(turn: Turn, incarnation: str) -> None:
    """What P31 needs did not come in time; or somebody whose vote was waited for is not heard any more."""
    hosted = turn.state.hosted.get(incarnation)
    if hosted is None or hosted.sleep is None or hosted.sleep.committed:
        return
    if hosted.sleep.index >= 0:
        _commit(turn, hosted, -1)  # all have voted; not all have applied what the leader has
        return
    if not hosted.sleep.sealing:
        _consider_commit(turn, hosted)
        if hosted.sleep.sealing:
            turn.after("votes", incarnation, limits.SEAL_WINDOW)
            return
    abort(turn, hosted, "not enough votes in time")


def abort(turn: Turn, hosted: Hosted, because: str) -> None:
    assert hosted.sleep is not None
    epoch, hosted.sleep = hosted.sleep.epoch, None
    hosted.idle.clear()  # who had voted starts to count anew, and says so when it is idle again
    turn.cancel("votes", hosted.incarnation)
    for peer in hosted.record.peers:
        turn.send(peer, SleepAbort(hosted.incarnation, epoch, because))


def on_abort(turn: Turn, sender: Peer, message: SleepAbort) -> None:
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is not None and hosted.closing == message.epoch and holds(hosted, message.epoch, sender):
        veto(turn, hosted, message.reason)
        fire(turn, hosted, "used")
    elif hosted is None or message.epoch < hosted.promise.epoch:
        standing.tell(turn, sender, message.incarnation)


# --- a sleep that was recorded without this member's vote ---------------------------------------------------------------


def follow(turn: Turn, hosted: Hosted) -> None:
    """The others sleep, by the record: close the doors, drain, stop (P33). Nobody's query is cut off by it (P30)."""
    if hosted.following != hosted.record.version.epoch:
        hosted.following = hosted.record.version.epoch
        hosted.closing = hosted.vote = 0  # whatever it was asked to vote for is over
        turn.cancel("idle", hosted.incarnation)
        turn.after("drain", hosted.incarnation, limits.DRAIN_WINDOW)
        doors.swing(turn, hosted, False)
    _consider_stop(turn, hosted)


def _consider_stop(turn: Turn, hosted: Hosted) -> None:
    if not doors.drained(turn, hosted):
        return
    epoch = hosted.following
    if fire(turn, hosted, "slept"):
        hosted.stopping = epoch
        turn.decide("asleep after the others", hosted, f"it sleeps since epoch {epoch}", "P33")
    else:
        stay(turn, hosted, "a newer epoch was promised meanwhile")


def stay(turn: Turn, hosted: Hosted, because: str) -> None:
    """This member is wanted after all. It spends the epoch after that sleep, and the others shall wake (P33, P41)."""
    epoch, hosted.following = hosted.following, 0
    turn.cancel("drain", hosted.incarnation)
    promises.spend(turn, hosted, epoch + 1)
    doors.swing(turn, hosted, True)
    doors.watch(turn, hosted)
    turn.decide("does not follow", hosted, because, "P33", epoch=epoch)
    if hosted.record.phase == "hibernating":
        wake.insist(turn, hosted)


# --- the seal and the commit ----------------------------------------------------------------------------------------


def on_seal_ask(turn: Turn, sender: Peer, message: SealAsk) -> None:
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is not None and hosted.vote == message.epoch and holds(hosted, message.epoch, sender):
        hosted.awaited = message.index
        process.probe(turn, hosted, "seal" if message.index < 0 else "reach")
    else:
        standing.tell(turn, sender, message.incarnation)


def on_seal_read(turn: Turn, hosted: Hosted, read: Probed) -> None:
    """As the Raft leader's node: the strong read has passed, or not."""
    if hosted.vote:
        index = read.applied if read.ok and read.leader else -1
        turn.send(hosted.promise.holder, SealAnswer(hosted.incarnation, hosted.vote, index))


def on_reach_sample(turn: Turn, hosted: Hosted, sample: Probed) -> None:
    """A follower applies what the leader has read a commit timeout later: look until it has (P34)."""
    if not hosted.vote:
        return
    if sample.ok and sample.applied >= hosted.awaited:
        turn.send(hosted.promise.holder, SealAnswer(hosted.incarnation, hosted.vote, sample.applied))
    else:
        turn.after("reach", hosted.incarnation, limits.REPROBE)


def on_reach_timer(turn: Turn, incarnation: str) -> None:
    hosted = turn.state.hosted.get(incarnation)
    if hosted is not None and hosted.vote and hosted.process == "ready":
        process.probe(turn, hosted, "reach")


def on_seal(turn: Turn, sender: Peer, message: SealAnswer) -> None:
    """The leader's index first; then each voter's word that it has applied that much, so that all can stop at it whoever stops
    first. Without all members, or without the leader's word, the sleep goes without a seal."""
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is None or hosted.sleep is None or hosted.sleep.epoch != message.epoch or hosted.sleep.committed:
        return
    if sender not in hosted.sleep.votes:
        return
    sleep = hosted.sleep
    everyone = len(sleep.votes) == len(hosted.record.members)
    if sleep.index < 0 and message.index < 0 and not everyone:
        abort(turn, hosted, "whether the Raft leader is among those that voted is not known")
        return
    if message.index < 0 or not everyone:
        _commit(turn, hosted, -1)
        return
    if sleep.index < 0:
        sleep.index = message.index
        turn.after("votes", hosted.incarnation, limits.SEAL_WINDOW)
        for peer in hosted.record.peers:
            if peer != sender:
                turn.send(peer, SealAsk(hosted.incarnation, sleep.epoch, sleep.index))
    sleep.reached.add(sender)
    if sleep.reached >= sleep.votes.keys():
        _commit(turn, hosted, sleep.index)


def _commit(turn: Turn, hosted: Hosted, index: int) -> None:
    """Unless a newer epoch was promised here since: this node's own vote is void by then, and nobody could record the sleep (P5, P32)."""
    assert hosted.sleep is not None
    if holds(hosted, hosted.sleep.epoch, turn.me):
        stopping.commit(turn, hosted, index)
    else:
        abort(turn, hosted, "a newer epoch is promised")
