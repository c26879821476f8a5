"""Birth of a name, among all known nodes. The laws kept here are P10–P14: answers are known, denied or unsure; a denial is a
durable promise; a majority stores the birth before its founder starts; success is acknowledged when the Raft configuration
equals the chosen voters and a strong read passed. This file is the coordinator's side; ``offers`` is everybody's."""

from __future__ import annotations

from protocol import coordination, directory, limits, placement
from protocol.effects import Problem
from protocol.ids import DatabaseName, Dot, Peer, derived, incarnation_id
from protocol.lifecycle.orders import complain
from protocol.membership import majority
from protocol.messages import (
    BirthAnswer,
    CreateAnswer,
    CreateConfirm,
    CreateFailed,
    CreateRequest,
    CreateSuperseded,
    Dropped,
    RecordNews,
    Report,
    StoreBirth,
)
from protocol.records import Attempt, Birth, Record, acknowledged, join, newborn
from protocol.state import Creation
from protocol.turn import Turn


def on_request(turn: Turn, sender: Peer, message: CreateRequest) -> None:
    """As the coordinator that the request names: begin, or add one more requester to what is under way (F3)."""
    if message.attempt.coordinator == turn.me:
        _under_way(turn, message).requesters.add(sender)


def _under_way(turn: Turn, message: CreateRequest | CreateAnswer) -> Creation:
    """This coordinator's creation of the name, in the message's attempt or a higher one."""
    internal = DatabaseName.internal_of(message.app, message.name)
    creation = turn.state.creations.get(internal)
    if creation is None or creation.attempt < message.attempt:
        creation = Creation(
            message.app, message.name, internal, message.attempt, message.replication_factor, begun=turn.now
        )
        _begin(turn, creation)
    return creation


def _begin(turn: Turn, creation: Creation) -> None:
    turn.state.creations[creation.internal] = creation
    turn.after("offers", creation.internal, limits.OFFER_WINDOW)
    turn.state.timers.set("creation", creation.internal, creation.begun + limits.CREATION_DEADLINE)


def on_answer(turn: Turn, sender: Peer, message: CreateAnswer) -> None:
    internal = DatabaseName.internal_of(message.app, message.name)
    held = turn.state.names.get(internal)
    unasked = message.attempt.coordinator == turn.me and (held is None or held.attempt < message.attempt)
    if unasked and not turn.state.living(internal) and not turn.state.listening:
        _under_way(turn, message)  # it has overtaken the request, which this node will answer too
    creation = turn.state.creations.get(internal)
    if creation is None or creation.attempt != message.attempt or creation.phase != "gathering":
        return  # a late offer of an earlier attempt counts for nothing (F5)
    creation.answers[sender] = message
    if message.record is not None:
        if directory.dropped(turn.state, message.record.incarnation):
            # It knows an incarnation that is no more: it is told so, and asked again (P10, F9).
            del creation.answers[sender]
            turn.send(sender, Dropped(message.record.incarnation))
            turn.send(sender, CreateRequest(creation.attempt, creation.app, creation.name, creation.replication_factor))
            return
        _known(turn, creation, _take_in(turn, message.record))
        return
    if message.stance == "superseded":
        _give_way(turn, creation, sender, message.higher)
        return
    denials, offers = _tally(creation)
    if creation.answers.keys() >= set(coordination.heard(turn, turn.state.known)):
        _close(turn, creation)
    elif offers >= creation.replication_factor and denials >= majority(len(turn.state.known)):
        turn.after("offers", internal, limits.OFFER_GRACE)


def _take_in(turn: Turn, record: Record) -> Record:
    """What an answer tells counts as the news of it would: this node may be a chosen member that no confirm has reached (F28, F7)."""
    turn.learn(record)
    known = turn.state.records.get(record.incarnation)
    return record if known is None else join(known, record)


def _known(turn: Turn, creation: Creation, record: Record) -> None:
    """The name lives: nothing is created, and who asked is told of it (P10)."""
    _end(turn, creation)
    for requester in sorted(creation.requesters):
        turn.send(requester, RecordNews(record))


def living_other(turn: Turn, birth: Birth) -> Record | None:
    """A living incarnation of the birth's name, which is not the birth's own."""
    return next((one for one in turn.state.living(birth.internal) if one.incarnation != birth.incarnation), None)


def _give_way(turn: Turn, creation: Creation, to: Peer, higher: int) -> None:
    """A higher attempt has the name. Its coordinator may be gone: who asked this one learns which number to beat."""
    because = f"{to} promised the name to attempt {higher}"
    turn.decide("creation superseded", None, because, "P10", database=creation.internal)
    _end(turn, creation)
    for requester in sorted(creation.requesters):
        turn.send(requester, CreateSuperseded(creation.attempt, creation.app, creation.name, higher))


def _tally(creation: Creation) -> tuple[int, int]:
    answers = creation.answers.values()
    return sum(one.stance == "denied" for one in answers), len(placement.choose(answers, creation.replication_factor))


def on_offers_deadline(turn: Turn, internal: str) -> None:
    creation = turn.state.creations.get(internal)
    if creation is not None and creation.phase == "gathering":
        _close(turn, creation)


def _close(turn: Turn, creation: Creation) -> None:
    """The window is closed: carry on a birth that was stored before, or make one of the offers (P11)."""
    turn.cancel("offers", creation.internal)
    denials, offers = _tally(creation)
    needed, known = majority(len(turn.state.known)), len(turn.state.known)
    if denials < needed:
        detail = f"only {denials} of {known} known nodes could deny the name, a majority of {needed} is needed"
        _fall_short(turn, creation, "insufficient-nodes", detail)
        return
    stored = [
        (one.stored, one.birth)
        for one in creation.answers.values()
        if one.birth and one.stored and one.birth.dot not in turn.state.context
    ]
    if stored:
        _, creation.birth = max(stored, key=lambda one: one[0])
        turn.decide("birth carried on", None, "an earlier attempt stored it", "P11", database=creation.internal)
    elif offers < creation.replication_factor:
        refusals = {one.refusal: peer for peer, one in sorted(creation.answers.items()) if one.refusal}
        for peer in sorted(peer for peer, one in creation.answers.items() if placement.short_of_ports(one)):
            refusals["no free Raft port but those of sleeping databases"] = peer
        detail = f"insufficient nodes responded: got {offers}, need {creation.replication_factor}"
        if refusals:
            detail += " (" + "; ".join(f"{peer}: {refusal}" for refusal, peer in refusals.items()) + ")"
        full = known >= creation.replication_factor and refusals
        kind: Problem = "insufficient-nodes"
        if full:
            kind = "no-ports" if all("port" in refusal for refusal in refusals) else "max-databases"
        _fall_short(turn, creation, kind, detail)
        return
    else:
        creation.birth = _mint(turn, creation)
    creation.phase = "storing"
    for peer in turn.state.known:
        turn.send(peer, StoreBirth(creation.birth, creation.attempt))


def _fall_short(turn: Turn, creation: Creation, problem: Problem, detail: str) -> None:
    """Not enough answers. Nodes that were not sure still listen, and may be done soon: they are asked again. With none of them, no
    further answer can be expected."""
    unsure = tuple(peer for peer, one in sorted(creation.answers.items()) if one.stance == "unsure")
    if not unsure:
        _fail(turn, creation, problem, detail)
        return
    turn.decide(
        "creation waits", None, f"{', '.join(unsure)} still listen: {detail}", "P10", database=creation.internal
    )
    creation.phase, creation.short = "waiting", (problem, detail)
    turn.after("retry", creation.internal, limits.CREATION_RETRY)


def on_retry(turn: Turn, internal: str) -> None:
    """Ask all again, unless the name is another attempt's by now, or lives."""
    creation = turn.state.creations.get(internal)
    if creation is None or creation.phase != "waiting":
        return
    held = turn.state.names.get(internal)
    if living := turn.state.living(internal):
        _known(turn, creation, directory.chosen(turn.state, internal) or living[0])
    elif held is not None and held.attempt > creation.attempt:
        _give_way(turn, creation, held.attempt.coordinator, held.attempt.n)
    else:
        _again(turn, creation)


def _again(turn: Turn, creation: Creation) -> None:
    """A higher attempt for the same requesters, within the same deadline."""
    _end(turn, creation)
    held = turn.state.names.get(creation.internal)
    attempt = Attempt(max(creation.attempt.n, held.attempt.n if held else 0) + 1, turn.me)
    again = Creation(
        creation.app, creation.name, creation.internal, attempt, creation.replication_factor, creation.begun
    )
    again.tries, again.requesters, again.short = creation.tries, creation.requesters, creation.short
    _begin(turn, again)
    turn.broadcast(CreateRequest(attempt, creation.app, creation.name, creation.replication_factor))


def _mint(turn: Turn, creation: Creation) -> Birth:
    """A new incarnation: this store's next birth, with a nonce of its own, since a cloned store repeats numbers (F32)."""
    state = turn.state
    state.births += 1
    turn.write_identity()
    nonce = derived(state.entropy, "birth", state.births, creation.internal, turn.now, size=4)
    members = placement.choose(creation.answers.values(), creation.replication_factor)
    return Birth(
        incarnation_id(Dot(state.store, state.births), nonce),
        creation.app,
        creation.name,
        creation.replication_factor,
        members[0].peer,
        members,
        creation.attempt,
    )


def _of_incarnation(turn: Turn, incarnation: str) -> Creation | None:
    for creation in turn.state.creations.values():
        if creation.birth is not None and creation.birth.incarnation == incarnation:
            return creation
    return None


def on_birth_answer(turn: Turn, sender: Peer, message: BirthAnswer) -> None:
    creation = _of_incarnation(turn, message.incarnation)
    if creation is None or creation.phase != "storing" or creation.attempt != message.attempt:
        return
    if not message.stored:
        _give_way(turn, creation, sender, message.higher)
        return
    creation.stored.add(sender)
    assert creation.birth is not None
    if other := living_other(turn, creation.birth):
        _known(turn, creation, other)
        return
    if len(creation.stored) >= majority(len(turn.state.known)):
        creation.phase = "founding"
        birth = creation.birth
        assert birth is not None
        because = f"{birth.founder} founds it, a majority of the known nodes has stored its birth"
        turn.decide("birth confirmed", None, because, "P11", database=creation.internal)
        turn.broadcast(CreateConfirm(newborn(birth), creation.attempt))
        turn.after("confirm", creation.internal, limits.CONFIRM_REPEAT)


def on_confirm_timer(turn: Turn, internal: str) -> None:
    """A confirm that was lost is repeated to those that have not reported (F7)."""
    creation = turn.state.creations.get(internal)
    if creation is None or creation.birth is None or creation.phase != "founding":
        return
    record = turn.state.records.get(creation.birth.incarnation)
    if record is not None and record.phase != "creating":
        _end(turn, creation)  # another coordinator of this birth, or a member, has finished it
    elif record is not None:
        for member in record.members:
            if member.peer not in creation.reports and member.peer != turn.me:
                turn.send(member.peer, CreateConfirm(record, creation.attempt))
        turn.after("confirm", internal, limits.CONFIRM_REPEAT)


def on_report(turn: Turn, sender: Peer, message: Report) -> None:
    """A chosen member is ready, or has failed."""
    creation = _of_incarnation(turn, message.incarnation)
    if creation is None or creation.phase != "founding":
        return
    birth = creation.birth
    assert birth is not None
    if sender not in [member.peer for member in birth.members]:
        return
    creation.reports[sender] = message
    if message.state == "failed":
        creation.failure = message  # the member sees to the birth's end; what follows then depends on the cause
        return
    chosen = tuple(sorted(member.node_id(birth.incarnation) for member in birth.members))
    ready = {peer for peer, report in creation.reports.items() if report.voters == chosen}
    record = turn.state.records.get(birth.incarnation)
    if record is None or record.version.epoch > 1 or record.phase != "creating":
        _end(turn, creation)  # a member looks after it by now, or another coordinator has finished it
    elif len(ready) >= majority(len(birth.members)):
        _end(turn, creation)
        turn.broadcast(RecordNews(acknowledged(record)))
        turn.decide(
            "database created",
            None,
            "the Raft configuration equals the chosen voters and a majority of them passed a strong read",
            "P13",
            database=creation.internal,
            creation_ms=(turn.now - creation.begun) // limits.MILLISECOND,
        )


def on_birth_dropped(turn: Turn, incarnation: str) -> None:
    """The birth came to nothing: it is made anew, elsewhere or on other ports, or not at all (F9, P12)."""
    creation = _of_incarnation(turn, incarnation)
    if creation is None:
        return
    failure = creation.failure or Report(incarnation, 1, "failed", cause="abandoned", detail="its members gave it up")
    if failure.cause not in ("port_taken", "abandoned") or creation.tries >= limits.CREATION_ATTEMPTS:
        _fail(turn, creation, "instance-failed", f"{failure.cause}: {failure.detail}")
        return
    turn.decide("creation tried again", None, f"{failure.cause}: {failure.detail}", "F9", database=creation.internal)
    creation.tries += 1
    _again(turn, creation)


def on_creation_deadline(turn: Turn, internal: str) -> None:
    creation = turn.state.creations.get(internal)
    if creation is None:
        return
    if creation.short is not None and creation.birth is None:
        _fail(turn, creation, *creation.short)
        return
    detail = f"{creation.phase} was not finished within 9 s"
    if creation.failure is not None:
        detail += f": {creation.failure.cause}: {creation.failure.detail}"
    _fail(turn, creation, "create-timeout", detail)
    hosted = turn.state.hosted.get(creation.birth.incarnation) if creation.birth else None
    if hosted is not None and not hosted.complete:
        complain(hosted, "create-timeout", detail)
        coordination.seek(turn, hosted, "create")


def _end(turn: Turn, creation: Creation) -> None:
    turn.state.creations.pop(creation.internal, None)
    turn.cancel("offers", creation.internal)
    turn.cancel("creation", creation.internal)
    turn.cancel("confirm", creation.internal)
    turn.cancel("retry", creation.internal)


def _fail(turn: Turn, creation: Creation, problem: Problem, detail: str) -> None:
    """Tell everyone who asked, and everyone whose offer is in vain: reservations end at once (F1, F2)."""
    _end(turn, creation)
    turn.decide("creation failed", None, detail, "", database=creation.internal, problem=problem)
    for peer in sorted(creation.requesters | creation.answers.keys()):
        turn.send(peer, CreateFailed(creation.attempt, creation.app, creation.name, problem, detail))
