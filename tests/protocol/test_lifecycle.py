"""The life of one database on one node: creation, sleep, wake, crash, restart, by the very code that more members use."""

from __future__ import annotations

import pytest

from protocol import effects as fx
from protocol import inputs as ip
from protocol.limits import COORDINATOR_PATIENCE, CREATION_DEADLINE, DRAIN_WINDOW, OFFER_LEASE, SECOND
from protocol.messages import BirthAnswer, CreateAnswer, CreateRequest, SleepCommit
from protocol.node import Config
from protocol.records import Attempt
from tests.protocol.solo import CONFIG, Solo

# --- creation -------------------------------------------------------------------------------------------------------


def test_R1_R40_first_access_creates_and_opens_the_door() -> None:
    solo = Solo()
    request = solo.ask()
    assert solo.answers[request].problem is None
    assert (solo.db.state, solo.db.phase, solo.db.open, solo.db.epoch) == ("active", "active", True, 1)
    assert solo.events().index("create request received") < solo.events().index("database created")


def test_F12_nobody_is_answered_before_a_strong_read_passed() -> None:
    solo = Solo(hold={fx.Start})
    request = solo.ask()
    assert request not in solo.answers
    assert not solo.db.open
    solo.ready(solo.release(fx.Start))
    assert solo.answers[request].problem is None


def test_P11_birth_promise_and_record_are_durable_before_the_founder_starts() -> None:
    solo = Solo(hold={fx.ReservePorts})
    solo.ask()
    ticket = solo.release(fx.ReservePorts).ticket
    effects = solo.step(ip.PortsReserved, ticket=ticket, http=5001, raft=7001)
    kinds = {write.key.split("/")[0] for write in effects.writes}
    assert kinds >= {"identity", "name", "record", "promise", "instance", "seen"}
    assert [type(action) for action in effects.actions] == [fx.Start]


def test_F1_too_few_nodes_names_got_and_need_and_frees_the_offer() -> None:
    solo = Solo(Config("p1", replication_factor=3))
    answer = solo.answers[solo.ask()]
    assert answer.problem == "insufficient-nodes"
    assert "insufficient nodes responded: got 1, need 3" in answer.detail
    assert solo.actions(fx.ReleasePorts)
    assert not solo.node.state.leases
    assert not solo.node.view()


BEHIND_ANOTHER = Config("p1", known=("p0", "p1"), replication_factor=1)


def test_F2_an_offer_that_no_confirm_reaches_ends_by_its_lease() -> None:
    solo = Solo(BEHIND_ANOTHER)
    request = CreateRequest(Attempt(1, "p0"), "myapp", "users", 1)
    effects = solo.step(ip.Received, sender="p0", message=request)
    assert [type(action) for action in effects.actions] == [fx.ReservePorts]
    assert solo.node.state.leases
    solo.wait(OFFER_LEASE + SECOND)
    assert not solo.node.state.leases
    assert solo.actions(fx.ReleasePorts)


def test_F8_a_coordinator_that_is_silent_is_followed_by_the_next() -> None:
    solo = Solo(BEHIND_ANOTHER)
    request = solo.ask()  # p0 is expected to coordinate, and says nothing
    solo.wait(COORDINATOR_PATIENCE + SECOND)
    answer = CreateAnswer(Attempt(2, "p1"), "myapp", "users", 1, "denied")
    solo.step(ip.Received, sender="p0", message=answer)
    stored = BirthAnswer(solo.node.state.creations["myapp_users"].birth.incarnation, Attempt(2, "p1"), True)
    solo.step(ip.Received, sender="p0", message=stored)
    assert solo.answers[request].problem is None
    assert "creation asked again" in solo.events()


@pytest.mark.parametrize("cause", ["binary_missing", "disk", "crashed"])
def test_F9_a_failed_start_names_its_cause_and_the_name_is_free_again(cause: str) -> None:
    solo = Solo(hold={fx.Start})
    request = solo.ask()
    start = solo.release(fx.Start)
    solo.exited(start.incarnation, start.run, cause, "no space left on device")
    assert solo.answers[request].problem == "instance-failed"
    assert cause in solo.answers[request].detail
    assert "no space left" in solo.answers[request].detail
    assert not solo.node.view()
    assert solo.actions(fx.Trash)
    assert solo.actions(fx.ReleasePorts)
    solo.hold.clear()
    again = solo.ask()
    assert solo.answers[again].problem is None
    assert solo.db.incarnation != start.incarnation, "F10: a fresh incarnation"


def test_F9_a_stolen_port_is_replaced_within_the_same_request() -> None:
    solo = Solo(hold={fx.Start})
    request = solo.ask()
    first = solo.release(fx.Start)
    solo.exited(first.incarnation, first.run, "port_taken", "address already in use")
    second = solo.release(fx.Start)
    assert second.incarnation != first.incarnation
    solo.ready(second)
    assert solo.answers[request].problem is None


def test_R40_creation_that_takes_too_long_is_given_up_and_leaves_nothing() -> None:
    solo = Solo(hold={fx.Start})
    request = solo.ask()
    start = solo.release(fx.Start)
    solo.wait(CREATION_DEADLINE + SECOND)
    assert solo.answers[request].problem == "create-timeout"
    assert any(one.run == start.run for one in solo.actions(fx.Terminate))
    assert not solo.node.view()


def test_F6_offers_in_flight_count_against_max_databases() -> None:
    solo = Solo(Config("p1", replication_factor=1, max_databases=2), hold={fx.ReservePorts})
    requests = [solo.ask(name) for name in ("one", "two", "three")]
    assert solo.answers[requests[2]].problem == "max-databases"
    assert "max_databases (2) reached" in solo.answers[requests[2]].detail


def test_R61_exhausted_port_ranges_are_named() -> None:
    solo = Solo(hold={fx.ReservePorts})
    request = solo.ask()
    ticket = solo.release(fx.ReservePorts).ticket
    solo.step(ip.PortsRefused, ticket=ticket, detail="no free port in 5001-5999")
    assert solo.answers[request].problem == "no-ports"
    assert "5001-5999" in solo.answers[request].detail


def test_F82_a_name_that_is_no_name_is_refused_with_the_rule() -> None:
    solo = Solo()
    for name in ("", "../etc", "a/b", "A", "x" * 64, "a\x00", "-a", "a_"):
        answer = solo.answers[solo.ask(name)]
        assert answer.problem == "invalid-name", name
    assert not solo.actions(fx.ReservePorts)


# --- sleep ----------------------------------------------------------------------------------------------------------


def test_R42_P34_idle_database_sleeps_sealed_with_its_http_port_freed() -> None:
    solo = Solo().asleep()
    assert (solo.db.phase, solo.db.seal) == ("hibernating", (2, 5))
    assert solo.actions(fx.ReleasePorts)[-1] == fx.ReleasePorts(1, http=True, raft=False)
    assert solo.actions(fx.Forget)


def test_R4_zero_timeout_never_sleeps() -> None:
    solo = Solo(Config("p1", replication_factor=1, hibernation_timeout=0)).awake()
    solo.wait(3600 * SECOND)
    assert solo.db.state == "active"


def test_F40_a_query_in_flight_keeps_it_awake() -> None:
    solo = Solo().awake()
    solo.used(count=0, in_flight=1)
    solo.wait(10 * SECOND)
    assert solo.db.open
    solo.used(count=0, in_flight=0)
    solo.wait(5 * SECOND)
    assert solo.db.state == "hibernating"


def test_F40_requests_that_no_door_saw_keep_it_awake() -> None:
    solo = Solo().awake()
    for _ in range(20):
        solo.counter[solo.db.incarnation] = solo.counter.get(solo.db.incarnation, 0) + 1
        solo.wait(SECOND)
        assert solo.db.open
    solo.wait(5 * SECOND)
    assert solo.db.state == "hibernating"


def test_P30_F56_no_vote_before_every_worker_acknowledged_this_generation() -> None:
    solo = Solo(workers=(1, 2), hold={fx.Door})
    solo.ask()
    solo.held.clear()
    solo.wait(3 * SECOND)
    closed = solo.release(fx.Door)
    assert not closed.open
    solo.ack(closed, worker=1)
    assert solo.db.open is False
    assert solo.db.state == "idle", "not voted"
    stale = fx.Door(None, "myapp", "users", closed.incarnation, closed.generation - 1, False, closed.http)
    solo.ack(stale, worker=2)
    assert solo.db.state == "idle", "not voted"
    solo.ack(closed, worker=2, in_flight=1)
    assert solo.db.state == "idle", "not voted"
    solo.ack(closed, worker=2, in_flight=0)
    assert solo.db.state == "hibernating"


def test_F41_a_query_during_the_drain_vetoes_and_is_served_at_once() -> None:
    solo = Solo(hold={fx.Door})
    solo.ask()
    solo.held.clear()
    solo.wait(3 * SECOND)
    closed = solo.release(fx.Door)
    request = solo.ask()
    assert solo.answers[request].problem is None
    reopened = solo.release(fx.Door)
    assert (reopened.open, reopened.generation) == (True, closed.generation + 1)
    promise = solo.node.state.hosted[solo.db.incarnation].promise
    assert (promise.epoch, promise.holder) == (2, ""), "P3: the vetoed epoch is spent, nobody may write in it"
    assert "sleep vetoed" in solo.events()


def test_F41_a_drain_that_does_not_end_reopens_the_door() -> None:
    solo = Solo(hold={fx.Door})
    solo.ask()
    solo.held.clear()
    solo.wait(3 * SECOND)
    solo.ack(solo.release(fx.Door), in_flight=1)
    solo.wait(DRAIN_WINDOW + 1)
    assert solo.db.open
    assert solo.db.state == "active"


def test_P31_a_request_counted_while_the_door_was_closing_is_a_veto() -> None:
    solo = Solo(hold={fx.Door})
    solo.ask()
    solo.held.clear()
    solo.wait(3 * SECOND)
    solo.counter[solo.db.incarnation] = 1
    solo.ack(solo.release(fx.Door))
    assert solo.db.open
    assert solo.db.state == "active"


def test_P32_F52_a_commit_of_a_vetoed_epoch_stops_nobody() -> None:
    solo = Solo(Config("p1", known=("p1", "p2"), replication_factor=1, hibernation_timeout=2 * SECOND), hold={fx.Door})
    solo.ask()
    solo.held.clear()
    solo.wait(3 * SECOND)
    solo.release(fx.Door)
    solo.ask()
    solo.step(ip.Received, sender="p2", message=SleepCommit(solo.db.incarnation, 2, 5))
    assert solo.db.open
    assert not solo.actions(fx.Terminate)
    assert "commit ignored" in solo.events()


def test_F41_P32_a_query_before_sigterm_cancels_the_stop() -> None:
    solo = Solo(hold={fx.Snapshot}).awake()
    solo.wait(3 * SECOND)
    assert solo.db.process == "snapshotting"
    request = solo.ask()
    assert solo.answers[request].problem is None, "the same run serves on"
    assert solo.db.run == 1
    assert solo.db.state == "active"
    assert not solo.actions(fx.Terminate)
    snapshot = solo.release(fx.Snapshot)
    solo.step(ip.Snapshotted, incarnation=snapshot.incarnation, run=1, ok=True, applied=5)
    assert not solo.actions(fx.Terminate), "the late outcome of a cancelled stop does nothing"


def test_F41_P32_P41_a_query_after_sigterm_starts_once_the_exit_is_observed() -> None:
    solo = Solo(hold={fx.Terminate}).awake()
    solo.wait(3 * SECOND)
    request = solo.ask()
    assert request not in solo.answers
    assert len(solo.actions(fx.Start)) == 1, "F45: never two processes on one directory"
    stop = solo.release(fx.Terminate)
    solo.exited(stop.incarnation, stop.run)
    assert solo.answers[request].problem is None
    assert len(solo.actions(fx.Start)) == 2
    assert solo.db.phase == "active"


def test_P34_a_killed_stop_is_not_sealed() -> None:
    solo = Solo(hold={fx.Terminate}).awake()
    solo.wait(3 * SECOND)
    stop = solo.release(fx.Terminate)
    solo.exited(stop.incarnation, stop.run, "killed")
    assert (solo.db.phase, solo.db.seal) == ("hibernating", None)


# --- wake -----------------------------------------------------------------------------------------------------------


def test_R43_a_query_wakes_it_on_its_old_ports() -> None:
    solo = Solo().asleep()
    http, raft = solo.db.http, solo.db.raft
    request = solo.ask()
    assert solo.answers[request].problem is None
    assert (solo.db.state, solo.db.phase, solo.db.http, solo.db.raft) == ("active", "active", http, raft)
    start = solo.actions(fx.Start)[-1]
    assert (start.mode, start.peers) == ("restart", None)


def test_P40_P41_the_wake_spends_the_epoch_after_the_sleep_and_writes_under_the_next() -> None:
    solo = Solo().asleep()
    solo.hold.add(fx.Start)
    solo.ask()
    assert (solo.db.epoch, solo.db.promised) == (2, 3)
    solo.ready(solo.release(fx.Start))
    assert (solo.db.epoch, solo.db.promised) == (4, 4)


def test_F51_a_thousand_queries_cause_one_wake() -> None:
    solo = Solo().asleep()
    solo.hold.add(fx.Start)
    requests = [solo.ask() for _ in range(1000)]
    solo.ready(solo.release(fx.Start))
    assert all(solo.answers[request].problem is None for request in requests)
    assert len(solo.actions(fx.Start)) == 2
    assert solo.events().count("wakeup request received") == 1


def test_F46_a_wake_that_cannot_start_is_retried_then_named_and_stays_asleep() -> None:
    solo = Solo().asleep()
    solo.hold.add(fx.Start)
    request = solo.ask()
    tries = 0
    for _second in range(20):
        if solo.held:
            start = solo.release(fx.Start)
            solo.exited(start.incarnation, start.run, "crashed", "out of memory")
            tries += 1
        solo.wait(SECOND)
    assert tries > 2
    assert solo.answers[request].problem == "instance-failed"
    assert "out of memory" in solo.answers[request].detail
    assert (solo.db.state, solo.db.process) == ("hibernating", "none")
    solo.hold.clear()
    assert solo.answers[solo.ask()].problem is None, "the next query tries anew"


def test_F46_a_missing_binary_is_said_at_once() -> None:
    solo = Solo().asleep()
    solo.hold.add(fx.Start)
    request = solo.ask()
    start = solo.release(fx.Start)
    solo.exited(start.incarnation, start.run, "binary_missing", "rqlited not found")
    assert "rqlited not found" in solo.answers[request].detail
    assert solo.db.state == "hibernating"


def test_F47_P42_a_taken_raft_port_is_replaced_under_a_promised_epoch() -> None:
    solo = Solo().asleep()
    solo.hold |= {fx.ReservePorts, fx.Start}
    request = solo.ask()
    asked = solo.release(fx.ReservePorts)
    assert solo.step(ip.PortsReserved, ticket=asked.ticket, http=5001, raft=7001).actions == (), (
        "an earlier answer, once more (F84)"
    )
    effects = solo.step(ip.PortsReserved, ticket=asked.ticket, http=5050, raft=7777, asked=asked.asked)
    start = solo.release(fx.Start)
    assert start.peers == ((start.node_id, "127.0.0.1:7777"),)
    assert any(write.key.startswith("promise/") for write in effects.writes)
    assert solo.db.members[0].raft == 7777
    solo.ready(start)
    assert solo.answers[request].problem is None


def test_F49_waking_respects_max_databases() -> None:
    solo = Solo(Config("p1", replication_factor=1, max_databases=1, hibernation_timeout=2 * SECOND)).asleep()
    assert solo.answers[solo.ask("other")].problem is None
    answer = solo.answers[solo.ask("users")]
    assert answer.problem == "max-databases"


def test_F44_P40_a_repeated_shutdown_does_nothing_to_a_woken_database() -> None:
    solo = Solo(Config("p1", known=("p1", "p2"), replication_factor=1, hibernation_timeout=2 * SECOND)).asleep()
    solo.ask()
    solo.step(ip.Received, sender="p2", message=SleepCommit(solo.db.incarnation, 2, 5))
    assert solo.db.open
    assert solo.db.state == "active"


# --- crashes --------------------------------------------------------------------------------------------------------


def test_F60_a_crash_is_restarted_at_once_and_waiters_are_served() -> None:
    solo = Solo().awake()
    solo.hold.add(fx.Start)
    solo.exited(solo.db.incarnation, solo.db.run, "crashed", "signal 9")
    assert not solo.db.open
    request = solo.ask()
    solo.ready(solo.release(fx.Start))
    assert solo.answers[request].problem is None
    assert solo.db.run == 2


def test_F60_one_that_keeps_dying_waits_longer_each_time() -> None:
    solo = Solo().awake()
    gaps: list[int] = []
    for _ in range(6):
        solo.hold.add(fx.Start)
        solo.exited(solo.db.incarnation, solo.db.run, "crashed", "signal 9")
        died = solo.now
        for _tick in range(400):
            if not solo.held:
                solo.wait(SECOND // 20)
        gaps.append(solo.now - died)
        solo.ready(solo.release(fx.Start))
    assert gaps[-1] > gaps[1]
    assert gaps == sorted(gaps)


def test_F46_F60_a_restart_that_hangs_is_ended_and_tried_again() -> None:
    solo = Solo().awake()
    solo.hold |= {fx.Start, fx.Terminate}
    solo.exited(solo.db.incarnation, solo.db.run, "crashed", "signal 9")
    hung = solo.release(fx.Start)
    request = solo.ask()
    solo.wait(20 * SECOND)
    assert solo.answers[request].problem == "wake-timeout"
    stop = solo.release(fx.Terminate)
    assert stop.run == hung.run
    solo.hold.clear()
    solo.exited(stop.incarnation, stop.run, "killed")
    solo.wait(5 * SECOND)
    assert solo.actions(fx.Start)[-1].run > hung.run, "tried again"


def test_R38_clients_that_wait_for_a_birth_are_told_when_it_comes_to_nothing() -> None:
    solo = Solo(hold={fx.Start})
    first = solo.ask()
    start = solo.release(fx.Start)
    second = solo.ask()
    solo.exited(start.incarnation, start.run, "disk", "no space left on device")
    assert {solo.answers[request].problem for request in (first, second)} == {"instance-failed"}


def test_F45_outcomes_of_an_older_run_change_nothing() -> None:
    solo = Solo().awake()
    incarnation = solo.db.incarnation
    solo.exited(incarnation, 1, "crashed")
    before = solo.db
    solo.exited(incarnation, 1, "crashed")
    assert solo.db.run == before.run
    assert solo.db.open


# --- restarts of the node -------------------------------------------------------------------------------------------


def test_F24_F61_a_new_process_restarts_what_was_awake() -> None:
    solo = Solo().awake()
    incarnation, epoch = solo.db.incarnation, solo.db.promised
    solo.boot()
    assert (solo.db.incarnation, solo.db.state, solo.db.open) == (incarnation, "active", True)
    assert solo.db.promised > epoch, "P3: a start spends an epoch"


def test_F24_a_new_process_leaves_what_slept_asleep_and_keeps_its_raft_port() -> None:
    solo = Solo().asleep()
    starts = len(solo.actions(fx.Start))
    solo.boot()
    assert solo.db.state == "hibernating"
    assert len(solo.actions(fx.Start)) == starts
    assert solo.actions(fx.HoldPort)[-1].raft == solo.db.raft
    assert solo.answers[solo.ask()].problem is None


def test_F84_a_new_process_holds_every_raft_port_before_it_looks_for_one() -> None:
    solo = Solo().awake()
    assert solo.answers[solo.ask("orders")].problem is None
    effects = solo.boot()
    kinds = [type(one) for one in effects.actions if isinstance(one, (fx.HoldPort, fx.ReservePorts))]
    assert kinds == [fx.HoldPort, fx.HoldPort, fx.ReservePorts, fx.ReservePorts]


def test_P12_an_unacknowledged_birth_is_dropped_at_boot() -> None:
    solo = Solo(hold={fx.Start})
    solo.ask()
    start = solo.release(fx.Start)
    solo.hold.clear()
    solo.boot()
    assert not solo.node.view()
    assert solo.actions(fx.Trash)[-1].incarnation == start.incarnation
    assert not any(key.startswith(("record/", "promise/", "instance/")) for key in solo.rows)
    assert solo.answers[solo.ask()].problem is None
    assert solo.db.incarnation != start.incarnation, "P14: a birth's number never repeats"


def test_P32_a_vote_dies_with_its_process() -> None:
    solo = Solo(hold={fx.Snapshot}).awake()
    solo.wait(3 * SECOND)
    assert solo.db.process == "snapshotting"
    solo.held.clear()
    solo.hold.clear()
    solo.boot()
    assert (solo.db.state, solo.db.open) == ("active", True), "the record still says active"


def test_P7_deadlines_expire_before_the_input_is_looked_at() -> None:
    solo = Solo(hold={fx.Door})
    solo.ask()
    solo.held.clear()
    solo.wait(3 * SECOND)
    closed = solo.release(fx.Door)
    solo.now += DRAIN_WINDOW + SECOND  # no tick: the paused node's next input is the acknowledgement itself
    solo.ack(closed)
    assert solo.db.open, "the drain's deadline had passed: the late acknowledgement is of a closed chapter"


def test_F29_a_node_alone_hears_its_own_events() -> None:
    solo = Solo().asleep()
    kinds = {key.split("/")[0] for key in solo.rows}
    assert kinds >= {"identity", "name", "record", "promise", "instance", "seen"}, "what others would have stored of it"
    assert solo.db.phase == "hibernating", "its own news reached it"


def test_R35_databases_are_listed_by_application() -> None:
    solo = Solo()
    solo.ask("users", "myapp")
    solo.ask("a", "other")
    solo.ask("books", "myapp")
    assert solo.node.databases("myapp") == ("books", "users")


def test_R60_the_events_of_the_guide_are_there() -> None:
    solo = Solo().asleep()
    solo.ask()
    wanted = {
        "cluster manager started",
        "create request received",
        "instance started",
        "database idle",
        "hibernated",
        "wakeup request received",
        "woken",
        "reconciliation results",
    }
    assert wanted <= set(solo.events())
    assert CONFIG.replication_factor == 1
