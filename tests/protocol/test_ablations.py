"""Every safeguard has a proof: with the safeguard switched off, the test that is named beside it fails.

A switch replaces one function of the engine for the length of one test; production code carries none. A row here that
stops failing means that its test proves nothing any more, or that the safeguard is kept twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from protocol import coordination, limits, promises, standing, suspicion
from protocol.clocks import Context
from protocol.effects import Forget
from protocol.inputs import Tick
from protocol.lifecycle import boot, creation, doors, learning, outcomes, process, routing, serving, sleep, wake
from protocol.lifecycle.orders import Subject, fire
from protocol.messages import CreateRequest, CreateSuperseded, RecordNews, SealAnswer, Standing
from protocol.node import _MESSAGES, _TIMERS, Node
from protocol.state import Seeking, State
from protocol.timers import Timers
from protocol.turn import Turn
from sim import loader
from sim.play import play
from tests.protocol import (
    test_directory,
    test_lifecycle,
    test_names,
    test_promises,
    test_routing,
    test_several,
    test_several_sleep,
)

Patch = pytest.MonkeyPatch
true = property(lambda _self: True)


def write_nothing(prefix: str) -> Callable[[Patch], None]:
    def switch(patch: Patch) -> None:
        write = Turn.write

        def forgetful(turn: Turn, key: str, row: Any) -> None:
            if not key.startswith(prefix):
                write(turn, key, row)

        patch.setattr(Turn, "write", forgetful)

    return switch


def look_before_expiring(patch: Patch) -> None:
    step, expired = Node.step, Timers.expired
    ticking: list[bool] = []
    patch.setattr(Timers, "expired", lambda timers, now: expired(timers, now) if ticking[-1] else None)

    def lazy(node: Node, input: Any) -> Any:
        ticking.append(type(input) is Tick)
        return step(node, input)

    patch.setattr(Node, "step", lazy)


def any_counter(patch: Patch) -> None:
    sample = sleep.on_vote_sample

    def trusting(turn: Turn, hosted: Any, probed: Any) -> None:
        hosted.counter = probed.counter
        sample(turn, hosted, probed)

    patch.setattr(sleep, "on_vote_sample", trusting)


def blind_to_direct_clients(patch: Patch) -> None:
    sample = sleep.on_idle_sample

    def blind(turn: Turn, hosted: Any, probed: Any) -> None:
        hosted.used_since_sample = True
        sample(turn, hosted, probed)

    patch.setattr(sleep, "on_idle_sample", blind)


def any_run(patch: Patch) -> None:
    patch.setattr(outcomes, "_current", lambda turn, outcome: turn.state.hosted.get(outcome.incarnation))


def any_sleep(patch: Patch) -> None:
    intent = wake.on_intent

    def forgiving(turn: Turn, sender: str, message: Any) -> None:
        hosted = turn.state.hosted.get(message.incarnation)
        if hosted is not None:
            message = type(message)(message.incarnation, hosted.sleep_epoch)
        intent(turn, sender, message)

    patch.setitem(_MESSAGES, type_of("WakeIntent"), forgiving)


def type_of(name: str) -> type:
    return next(kind for kind in _MESSAGES if kind.__name__ == name)


def always_new_address(patch: Patch) -> None:
    patch.setattr(coordination, "seek", lambda turn, hosted, _purpose: process.launch(turn, hosted, "restart"))


def resume_unacknowledged(patch: Patch) -> None:
    resume = boot._resume

    def careless(turn: Turn, records: list[Any], *rest: Any) -> None:
        resume(turn, [record.at(record.version._replace(sequence=9), "active") for record in records], *rest)

    patch.setattr(boot, "_resume", careless)


def answer_without_records(patch: Patch) -> None:
    send = Turn.send

    def silent(turn: Turn, to: str, message: Any) -> None:
        if type(message) not in (RecordNews, Standing):
            send(turn, to, message)

    patch.setattr(Turn, "send", silent)


def one_intent_each(turn: Turn, record: Any, request: int) -> None:
    seeking = turn.state.seeking.setdefault(record.incarnation, Seeking(turn.now + limits.WAKE_DEADLINE))
    seeking.waiters.append(request)
    routing._seek_on(turn, record, seeking)


def any_members(patch: Patch) -> None:
    ask = _MESSAGES[type_of("PromiseAsk")]

    def forgiving(turn: Turn, sender: str, message: Any) -> None:
        hosted = turn.state.hosted.get(message.incarnation)
        ask(turn, sender, evolve(message, stamp=hosted.record.stamp) if hosted is not None else message)

    patch.setitem(_MESSAGES, type_of("PromiseAsk"), forgiving)


def seal_at_once(patch: Patch) -> None:
    def hasty(turn: Turn, hosted: Any, _sample: Any) -> None:
        turn.send(hosted.promise.holder, SealAnswer(hosted.incarnation, hosted.vote, hosted.awaited))

    patch.setattr(sleep, "on_reach_sample", hasty)


def wait_for_nobody(patch: Patch) -> None:
    consider = sleep._consider_commit

    def hasty(turn: Turn, hosted: Any) -> None:
        hosted.sleep.absent.update(hosted.record.peers)
        consider(turn, hosted)

    patch.setattr(sleep, "_consider_commit", hasty)


def ask_once(patch: Patch) -> None:
    send = Turn.send

    def lazy(turn: Turn, to: str, message: Any) -> None:
        if not isinstance(message, CreateRequest):
            send(turn, to, message)

    patch.setattr(Turn, "send", lazy)


def no_timer(kind: str) -> Callable[[Patch], None]:
    return lambda patch: patch.setitem(_TIMERS, kind, lambda _turn, _key: None)


def story(name: str) -> Callable[[], None]:
    """A scenario as the proof: it holds, and its world is well at the end."""

    def proof() -> None:
        assert play(loader.load(loader.find(name))).held

    return proof


def set_to(owner: Any, name: str, value: Any) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(owner, name, value)


ABLATIONS: list[tuple[str, Callable[[Patch], None], Callable[[], None]]] = [
    (
        "P1 a second coordinator is promised the same epoch",
        set_to(promises, "promise", lambda *_: True),
        test_promises.test_P1_an_epoch_is_promised_to_the_first_that_asks,
    ),
    (
        "P1 a promise is not durable",
        write_nothing("promise/"),
        test_promises.test_P1_a_promise_survives_its_process,
    ),
    (
        "P3 a veto spends nothing",
        set_to(promises, "spend", lambda *_: None),
        test_lifecycle.test_F41_a_query_during_the_drain_vetoes_and_is_served_at_once,
    ),
    (
        "P5 a spent epoch is written in",
        set_to(promises, "next_version", lambda _turn, hosted, epoch: hosted.record.version._replace(epoch=epoch)),
        test_promises.test_P5_an_epoch_that_was_lost_while_it_was_asked_for_is_not_used,
    ),
    (
        "P7 messages are looked at before deadlines",
        look_before_expiring,
        test_lifecycle.test_P7_deadlines_expire_before_the_input_is_looked_at,
    ),
    (
        "P11 the founder starts before its birth is durable",
        write_nothing("name/"),
        test_lifecycle.test_P11_birth_promise_and_record_are_durable_before_the_founder_starts,
    ),
    (
        "P12 an unacknowledged birth is resumed",
        resume_unacknowledged,
        test_lifecycle.test_P12_an_unacknowledged_birth_is_dropped_at_boot,
    ),
    (
        "P20 the context is forgotten",
        set_to(Context, "__contains__", lambda _self, _dot: False),
        test_directory.test_F26_F31_what_was_dropped_never_comes_back,
    ),
    (
        "P30 the vote does not wait for the workers",
        set_to(doors, "drained", lambda _turn, hosted: not hosted.open),
        test_lifecycle.test_P30_F56_no_vote_before_every_worker_acknowledged_this_generation,
    ),
    (
        "P31 the last look at the counters is left out",
        any_counter,
        test_lifecycle.test_P31_a_request_counted_while_the_door_was_closing_is_a_veto,
    ),
    (
        "P32 any commit is obeyed",
        set_to(Subject, "vote_is_highest_promise", true),
        test_promises.test_P32_a_commit_without_this_processs_vote_stops_nobody,
    ),
    (
        "P40 an intent ends any sleep",
        any_sleep,
        test_promises.test_P40_an_intent_for_another_sleep_is_void,
    ),
    (
        "P41 a start does not wait for the exit",
        set_to(Subject, "exit_observed", true),
        test_lifecycle.test_F41_P32_P41_a_query_after_sigterm_starts_once_the_exit_is_observed,
    ),
    (
        "P42 a changed address needs no promise",
        always_new_address,
        test_lifecycle.test_F47_P42_a_taken_raft_port_is_replaced_under_a_promised_epoch,
    ),
    (
        "P1 a promise under older members counts",
        any_members,
        test_promises.test_P1_who_knows_newer_members_refuses,
    ),
    (
        "P4 what is stale is not answered",
        set_to(standing, "tell", lambda *_: None),
        lambda: test_several_sleep.test_P4_whatever_is_stale_is_answered_with_how_things_stand("commit"),
    ),
    (
        "P6 members count before a majority has stored them",
        set_to(process, "majority", lambda _of: 1),
        test_several_sleep.test_P6_an_address_that_no_majority_has_stored_is_not_used,
    ),
    (
        "P10 a drop that was overtaken by a request costs an answer",
        ask_once,
        test_several.test_F9_P10_a_request_that_overtakes_a_drop_is_made_again,
    ),
    (
        "P10 who gives way does not say which attempt to beat",
        set_to(creation, "CreateSuperseded", lambda *fields: CreateSuperseded(*fields[:3], 0)),
        story("outbid_creation"),
    ),
    (
        "P13 a replica that cannot serve when its birth is finished waits for ever",
        set_to(learning, "_born", lambda turn, hosted: fire(turn, hosted, "acknowledged")),
        story("born_without_quorum"),
    ),
    (
        "P13 every chosen member is waited for",
        set_to(creation, "majority", lambda of: of),
        test_several.test_P13_F16_a_majority_that_sees_all_chosen_voters_is_success,
    ),
    (
        "P31 who is heard is not waited for",
        wait_for_nobody,
        test_several_sleep.test_P31_a_heard_member_that_does_not_vote_keeps_the_others_awake,
    ),
    (
        "P33 who stopped for a sleep without a record sleeps on",
        no_timer("doubt"),
        test_several_sleep.test_P33_a_sleep_that_nobody_recorded_is_over,
    ),
    (
        "P33 who runs without a quorum calls nobody",
        set_to(wake, "insist", lambda *_: None),
        test_several_sleep.test_P33_who_runs_without_a_quorum_calls_the_others,
    ),
    (
        "P33 who wakes without a quorum asks nobody",
        no_timer("quorum"),
        test_several_sleep.test_P33_a_member_that_wakes_alone_asks_and_calls_the_others,
    ),
    (
        "P34 the commit does not wait for the followers",
        seal_at_once,
        lambda: test_several.test_P34_a_calm_sleep_is_sealed(3),
    ),
    (
        "P42 any number of members may move at once",
        set_to(coordination, "_others_serve", lambda *_: True),
        test_several_sleep.test_P42_two_members_of_three_never_move,
    ),
    (
        "P54 a member without a copy is waited for",
        set_to(sleep, "on_absent", lambda *_: None),
        lambda: test_several_sleep.test_F54_P54_a_wiped_member_is_not_waited_for("p3"),
    ),
    (
        "F2 leases do not end",
        lambda patch: patch.setitem(_TIMERS, "lease", lambda _turn, _key: None),
        test_lifecycle.test_F2_an_offer_that_no_confirm_reaches_ends_by_its_lease,
    ),
    (
        "F6 nothing counts against max_databases",
        set_to(State, "load", lambda _self: 0),
        test_lifecycle.test_F6_offers_in_flight_count_against_max_databases,
    ),
    (
        "F40 direct clients are not noticed",
        blind_to_direct_clients,
        test_lifecycle.test_F40_requests_that_no_door_saw_keep_it_awake,
    ),
    (
        "F45 outcomes of older runs count",
        any_run,
        test_lifecycle.test_F45_outcomes_of_an_older_run_change_nothing,
    ),
    (
        "F46 a failed start is not retried",
        set_to(process, "again_later", lambda _turn, _hosted: None),
        test_lifecycle.test_F60_one_that_keeps_dying_waits_longer_each_time,
    ),
    (
        "P4 an intent out of an old directory is not answered",
        answer_without_records,
        test_routing.test_F14_P4_an_intent_out_of_an_old_directory_is_answered_with_the_record,
    ),
    (
        "F51 each who waits outside sends an intent",
        set_to(routing, "_seek", one_intent_each),
        test_routing.test_F51_many_who_wait_at_a_node_outside_make_one_intent_and_one_wake,
    ),
    (
        "F51 a lost intent is not repeated",
        set_to(limits, "WAKE_REPEAT", limits.WAKE_DEADLINE),
        test_routing.test_F51_a_lost_intent_is_repeated,
    ),
    (
        "F93 a forwarded query is sent on",
        set_to(State, "forwarded", property(lambda _state: set[int](), lambda _state, _value: None)),
        test_routing.test_F93_one_hop_only_who_came_from_a_gateway_is_never_sent_on,
    ),
    (
        "F54 who waits at a member without its data is refused",
        set_to(serving, "look_elsewhere", lambda _turn, _hosted: None),
        lambda: test_routing.test_F54_P54_a_member_without_its_data_sends_its_clients_to_the_others("hibernating"),
    ),
    (
        "F93 members that are not heard are named",
        set_to(routing, "hears", lambda _turn, _peer: True),
        test_routing.test_F93_a_member_that_missed_heartbeats_is_named_last_and_then_not_at_all,
    ),
    (
        "F93 a changed certificate is not told",
        set_to(suspicion, "Believe", lambda _worker, _fingerprints: Forget("")),
        test_routing.test_F93_workers_are_told_the_certificates_that_heartbeats_carry_and_again_when_one_changes,
    ),
    (
        "R3 underscores are not doubled",
        set_to(test_names.DatabaseName, "internal", property(lambda name: f"{name.app}_{name.name}")),
        test_names.test_R3_the_classic_collision,
    ),
]


@pytest.mark.parametrize(("safeguard", "switch_off", "proof"), ABLATIONS, ids=[row[0] for row in ABLATIONS])
def test_a_safeguard_switched_off_is_caught(
    safeguard: str, switch_off: Callable[[Patch], None], proof: Callable[[], None], monkeypatch: Patch
) -> None:
    proof()
    with monkeypatch.context() as patch:
        switch_off(patch)
        with pytest.raises((AssertionError, StopIteration, KeyError, ValueError)):
            proof()
