"""Every safeguard has a proof: with the safeguard switched off, the test that is named beside it fails, or the story that names its law
is broken when it is explored (``tests/sim/test_explore.py``).

The switches are in ``sim/safeguards.py``; production code carries none. A row here that stops failing means that its test proves
nothing any more, or that the safeguard is kept twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from sim import loader
from sim.explore.stories import STORIES
from sim.play import play
from sim.safeguards import BENEATH, SAFEGUARDS, Safeguard, without
from tests.protocol import (
    test_directory,
    test_fate,
    test_keys,
    test_lifecycle,
    test_names,
    test_promises,
    test_quarantine,
    test_rollback,
    test_routing,
    test_sealed,
    test_several,
    test_several_sleep,
    test_shortage,
)


def story(name: str) -> Callable[[], None]:
    """A scenario as the proof: it holds, and its world is well at the end."""

    def proof() -> None:
        assert play(loader.load(loader.find(name))).held

    return proof


PROOFS: Final[dict[str, Callable[[], None]]] = {
    "P1 a second coordinator is promised the same epoch": (
        test_promises.test_P1_an_epoch_is_promised_to_the_first_that_asks
    ),
    "P1 a promise is not durable": (test_promises.test_P1_a_promise_survives_its_process),
    "P2 all try again at one moment": (
        test_several_sleep.test_P2_two_members_that_ask_at_one_moment_do_not_do_so_for_ever
    ),
    "P3 nobody spends an epoch": (test_lifecycle.test_F41_a_query_during_the_drain_vetoes_and_is_served_at_once),
    "P5 a spent epoch is written in": (test_promises.test_P5_an_epoch_that_was_lost_while_it_was_asked_for_is_not_used),
    "F46 a start that hung waits as one that failed does": story("two_take_turns"),
    "P5 an epoch below the record's is written in": test_promises.test_P5_an_epoch_below_that_of_the_record_is_not_used,
    "P32 a coordinator that has promised above commits": (
        test_promises.test_P32_P5_a_coordinator_that_has_promised_above_commits_nothing
    ),
    "P10 who still listens is not asked again": story("asked_while_joining"),
    "P11 a birth is stored beside a living database": (
        test_promises.test_P11_P10_a_node_that_knows_a_living_database_stores_no_other_birth_of_its_name
    ),
    "P33 who follows a sleep does not drain": (
        test_promises.test_P33_P30_a_member_that_learns_of_a_sleep_drains_before_it_stops
    ),
    "P62 a record of its own betrays no rollback": (
        test_rollback.test_P62_P5_a_record_of_its_own_betrays_a_rollback_that_no_heartbeat_told_of
    ),
    "P42 a member moves before the database is born": story("moves_before_birth"),
    "P5 each coordinator signs the birth that it carries on": story("birth_carried_on"),
    "P7 messages are looked at before deadlines": (
        test_lifecycle.test_P7_deadlines_expire_before_the_input_is_looked_at
    ),
    "P11 the founder starts before its birth is durable": (
        test_lifecycle.test_P11_birth_promise_and_record_are_durable_before_the_founder_starts
    ),
    "P12 an unacknowledged birth is resumed": (test_lifecycle.test_P12_an_unacknowledged_birth_is_dropped_at_boot),
    "P12 a birth's outcome is told before a majority has stored it": (
        test_fate.test_P12_a_drop_that_no_majority_has_stored_is_not_one
    ),
    "P12 what was decided of a birth is decided anew": (
        test_fate.test_P12_a_drop_that_nobody_has_heard_of_is_carried_on
    ),
    "P15 two databases of one name both go on": (
        test_quarantine.test_F11_P15_of_two_databases_one_is_chosen_and_the_other_is_stopped_and_kept
    ),
    "P15 who was heard of first is the database": story("two_of_one_name"),
    "P15 a later record ends a quarantine": test_quarantine.test_P15_only_a_later_generation_ends_a_quarantine,
    "P23 what was told last of a key counts": test_keys.test_P23_a_revocation_never_comes_undone,
    "P23 a key is not durable": test_keys.test_P23_keys_outlive_their_process,
    "F87 a revocation whose news was lost is never told again": (
        test_keys.test_F87_a_revocation_whose_news_was_lost_is_known_after_the_next_heartbeat
    ),
    "F87 a worker that joins is told of no keys": test_keys.test_F87_a_worker_that_joins_is_told_of_every_key,
    "P20 the context is forgotten": (test_directory.test_F26_F31_what_was_dropped_never_comes_back),
    "P10 who gives way does not say which attempt to beat": story("outbid_creation"),
    "P13 a replica that cannot serve when its birth is finished waits for ever": story("born_without_quorum"),
    "P30 the vote does not wait for the workers": (
        test_lifecycle.test_P30_F56_no_vote_before_every_worker_acknowledged_this_generation
    ),
    "P31 the last look at the counters is left out": (
        test_lifecycle.test_P31_a_request_counted_while_the_door_was_closing_is_a_veto
    ),
    "P32 any commit is obeyed": (test_promises.test_P32_a_commit_without_this_processs_vote_stops_nobody),
    "P40 an intent ends any sleep": (test_promises.test_P40_an_intent_for_another_sleep_is_void),
    "P41 a start does not wait for the exit": (
        test_lifecycle.test_F41_P32_P41_a_query_after_sigterm_starts_once_the_exit_is_observed
    ),
    "P42 a changed address needs no promise": (
        test_lifecycle.test_F47_P42_a_taken_raft_port_is_replaced_under_a_promised_epoch
    ),
    "P42 every member gives up Raft ports": (
        lambda: test_shortage.test_P42_only_the_last_members_of_a_minority_may_give_up_a_port(3, (3,))
    ),
    "P42 a port is lent for good": test_shortage.test_P42_a_node_that_is_short_of_ports_offers_without_room,
    "P42 a Raft port is never given up": (
        test_shortage.test_P42_F84_the_longest_sleeper_gives_its_port_up_for_a_new_database
    ),
    "P1 a promise under older members counts": test_promises.test_P1_who_knows_newer_members_refuses,
    "P4 what is stale is not answered": (
        lambda: test_several_sleep.test_P4_whatever_is_stale_is_answered_with_how_things_stand("commit")
    ),
    "P6 members count before a majority has stored them": (
        test_several_sleep.test_P6_an_address_that_no_majority_has_stored_is_not_used
    ),
    "P10 a drop that was overtaken by a request costs an answer": (
        test_several.test_F9_P10_a_request_that_overtakes_a_drop_is_made_again
    ),
    "P13 every chosen member is waited for": (
        test_several.test_P13_F16_a_majority_that_sees_all_chosen_voters_is_success
    ),
    "P31 who is heard is not waited for": (
        test_several_sleep.test_P31_a_heard_member_that_does_not_vote_keeps_the_others_awake
    ),
    "P33 who stopped for a sleep without a record sleeps on": (
        test_several_sleep.test_P33_a_sleep_that_nobody_recorded_is_over
    ),
    "P33 who runs without a quorum calls nobody": (
        test_several_sleep.test_P33_who_runs_without_a_quorum_calls_the_others
    ),
    "P33 who wakes without a quorum asks nobody": (
        test_several_sleep.test_P33_a_member_that_wakes_alone_asks_and_calls_the_others
    ),
    "P34 the commit does not wait for the followers": lambda: test_several.test_P34_a_calm_sleep_is_sealed(3),
    "P34 a start does not wait for readers of the copy": (
        test_sealed.test_P34_a_start_waits_until_the_last_reader_is_gone
    ),
    "P34 a copy without a seal is read": test_sealed.test_F53_a_stop_that_was_not_clean_leaves_nothing_to_read,
    "P34 an acknowledgement of an earlier closing counts": (
        test_sealed.test_P34_an_acknowledgement_of_an_earlier_closing_does_not_count
    ),
    "F53 an age that is not known is taken to be none": (
        test_sealed.test_F53_an_age_that_is_unknown_is_refused_a_new_process_reads_nothing
    ),
    "P42 any number of members may move at once": test_several_sleep.test_P42_two_members_of_three_never_move,
    "P42 who moved and cannot tell its group never goes back": (
        test_several_sleep.test_P42_F46_who_moved_goes_back_where_the_others_cannot_be_told
    ),
    "P54 a member without a copy is waited for": (
        lambda: test_several_sleep.test_F54_P54_a_wiped_member_is_not_waited_for("p3")
    ),
    "F2 leases do not end": (test_lifecycle.test_F2_an_offer_that_no_confirm_reaches_ends_by_its_lease),
    "F6 nothing counts against max_databases": (test_lifecycle.test_F6_offers_in_flight_count_against_max_databases),
    "F28 a birth that an answer tells of is only noted": (
        test_several.test_F28_F7_a_chosen_member_that_an_answer_tells_of_its_birth_takes_part
    ),
    "F40 direct clients are not noticed": (test_lifecycle.test_F40_requests_that_no_door_saw_keep_it_awake),
    "F45 outcomes of older runs count": (test_lifecycle.test_F45_outcomes_of_an_older_run_change_nothing),
    "F46 a failed start is not retried": (test_lifecycle.test_F60_one_that_keeps_dying_waits_longer_each_time),
    "P4 an intent out of an old directory is not answered": (
        test_routing.test_F14_P4_an_intent_out_of_an_old_directory_is_answered_with_the_record
    ),
    "F51 each who waits outside sends an intent": (
        test_routing.test_F51_many_who_wait_at_a_node_outside_make_one_intent_and_one_wake
    ),
    "F51 a lost intent is not repeated": test_routing.test_F51_a_lost_intent_is_repeated,
    "F93 a forwarded query is sent on": (test_routing.test_F93_one_hop_only_who_came_from_a_gateway_is_never_sent_on),
    "F54 who waits at a member without its data is refused": (
        lambda: test_routing.test_F54_P54_a_member_without_its_data_sends_its_clients_to_the_others("hibernating")
    ),
    "F93 members that are not heard are named": (
        test_routing.test_F93_a_member_that_missed_heartbeats_is_named_last_and_then_not_at_all
    ),
    "F93 a changed certificate is not told": (
        test_routing.test_F93_workers_are_told_the_certificates_that_heartbeats_carry_and_again_when_one_changes
    ),
    "R3 underscores are not doubled": (test_names.test_R3_the_classic_collision),
}
"""What a safeguard is called → the test that fails without it."""


@pytest.mark.parametrize("safeguard", [one for one in (*SAFEGUARDS, *BENEATH) if str(one) in PROOFS], ids=str)
def test_a_safeguard_switched_off_is_caught(safeguard: Safeguard) -> None:
    proof = PROOFS[str(safeguard)]
    proof()
    with without(safeguard), pytest.raises((AssertionError, StopIteration, KeyError, ValueError)):
        proof()
    proof()


def test_each_safeguard_has_a_proof() -> None:
    names = [str(one) for one in (*SAFEGUARDS, *BENEATH)]
    assert len(names) == len(set(names))
    assert PROOFS.keys() <= set(names)
    explored = {law for story in STORIES for law in story.laws}
    assert [str(one) for one in BENEATH if str(one) not in PROOFS] == []
    assert [str(one) for one in SAFEGUARDS if str(one) not in PROOFS and one.law not in explored] == []
