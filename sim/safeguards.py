"""The engine's safeguards, each with a switch. The law kept here: whoever shows that a safeguard matters (the tests of ablations, ``explore
--without``) switches off the same thing, and production code carries no switch: one replaces a function of the engine for as long as its
context lasts.

A switch takes away what keeps the law in the engine, no more. What then goes wrong is for a test, a scenario or the explorer to find.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Final
from unittest.mock import patch

from attrs import frozen

from protocol import coordination, digest, directory, gossip, ids, keys, limits, promises, rollback, standing, suspicion
from protocol.clocks import Context
from protocol.lifecycle import (
    creation,
    doors,
    fate,
    learning,
    outcomes,
    process,
    routing,
    sealed,
    serving,
    shortage,
    sleep,
    wake,
)
from protocol.lifecycle.orders import Subject
from protocol.messages import CreateRequest, RecordNews, SleepReport, Standing, StoreBirth, WakeIntent
from protocol.state import State
from sim.switches import (
    ALWAYS,
    MESSAGES,
    TIMERS,
    Switch,
    acknowledge_only,
    all_of,
    always,
    any_counter,
    at_one_moment,
    believe_nobody,
    blind_to_direct_clients,
    commit_with_any_promise,
    coordinator_writes,
    deny_without_promise,
    drained,
    end_any_sleep,
    follow_at_once,
    give_way_to_nobody,
    handled_by,
    hung_is_failed,
    later_phase,
    launch_at_once,
    look_before_expiring,
    never,
    never_send,
    no_bytes,
    no_timer,
    not_forwarded,
    nothing,
    of_any_closing,
    of_any_run,
    one_intent_each,
    one_of,
    one_underscore,
    promise_lower,
    promise_to_anybody,
    read_any_copy,
    replaced,
    resume_unacknowledged,
    seal_any_stop,
    seal_at_once,
    store_any_birth,
    told_last,
    under_any_members,
    unknown_is_new,
    version_below,
    version_in,
    veto_forbids_nothing,
    wait_for_nobody,
    write_nothing,
    zero,
)


@frozen
class Twin:
    """What keeps the same law a second time: ``off`` and ``switch`` as of a safeguard."""

    off: str
    switch: Callable[[], Switch]


@frozen
class Safeguard:
    """``law``: the number that it keeps; ``off``: what happens once it is gone, in words; ``switch``: takes it away; ``scenarios``: those that do
    not hold without it, the first of them the plainest. With a ``twin`` they hold until that is off too: the law is kept twice."""

    law: str
    off: str
    switch: Callable[[], Switch]
    scenarios: tuple[str, ...] = ()
    twin: Twin | None = None

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


SAFEGUARDS: Final[tuple[Safeguard, ...]] = (
    Safeguard(
        "P1", "a second coordinator is promised the same epoch", promise_to_anybody, ("two_coordinators_one_epoch",)
    ),
    Safeguard(
        "P1", "a promise is not durable", write_nothing("promise/"), ("node_killed", "two_coordinators_one_epoch")
    ),
    Safeguard(
        "P1",
        "a promise under older members counts",
        under_any_members,
        ("old_members_ask",),
        # Members change only under an epoch that a majority promised: who missed the change asks for one that is spent.
        twin=Twin("a lower epoch is promised as well", promise_lower),
    ),
    Safeguard(
        "P4",
        "an intent out of an old directory is not answered",
        never_send(RecordNews, Standing),
        ("wake_with_wiped_member", "commit_then_death"),
    ),
    Safeguard(
        "P4",
        "what is stale is not answered",
        replaced(standing, "tell", nothing),
        ("commit_then_death", "wake_with_wiped_member"),
    ),
    Safeguard("P2", "all try again at one moment", at_one_moment, ("both_tell_that_it_is_awake",)),
    Safeguard("P5", "each coordinator signs the birth that it carries on", coordinator_writes, ("birth_carried_on",)),
    Safeguard(
        "P6",
        "members count before a majority has stored them",
        replaced(process, "majority", one_of),
        ("moves_while_cut_off",),
    ),
    Safeguard("P7", "messages are looked at before deadlines", look_before_expiring, ("deadline_passes_in_the_pause",)),
    Safeguard(
        "P10",
        "a denial promises nothing",
        lambda: patch.dict(MESSAGES, {CreateRequest: deny_without_promise, StoreBirth: store_any_birth}),
        ("outbid_creation", "late_confirm"),
    ),
    Safeguard(
        "P10", "a drop that was overtaken by a request costs an answer", never_send(CreateRequest), ("drop_not_heard",)
    ),
    Safeguard(
        "P10",
        "who still listens is not asked again",
        replaced(creation, "_fall_short", creation._fail),  # pyright: ignore[reportPrivateUsage]
        ("asked_while_joining",),
    ),
    Safeguard("P11", "the founder starts before its birth is durable", write_nothing("name/"), ("birth_remembered",)),
    Safeguard("P12", "an unacknowledged birth is resumed", resume_unacknowledged, ("node_killed",)),
    Safeguard(
        "P12",
        "a birth's outcome is told before a majority has stored it",
        replaced(fate, "majority", one_of),
        ("dropped_and_finished",),
    ),
    Safeguard(
        "P12",
        "what was decided of a birth is decided anew",
        replaced(fate, "stored_before", nothing),
        ("dropped_and_finished",),
    ),
    Safeguard(
        "P13",
        "every chosen member is waited for",
        replaced(creation, "majority", all_of),
        ("create_coordinator_dies", "stale_directory_first_access"),
    ),
    Safeguard(
        "P15", "two databases of one name both go on", replaced(directory, "_part", nothing), ("two_of_one_name",)
    ),
    Safeguard(
        "P15", "who was heard of first is the database", replaced(directory, "by_birth", zero), ("two_of_one_name",)
    ),
    Safeguard(
        "P23",
        "what was told last of a key counts",
        replaced(keys, "join_keys", told_last),
        ("key_revoked_apart",),
    ),
    Safeguard("P23", "a key is not durable", write_nothing("key/"), ("key_known_everywhere",)),
    Safeguard(
        "F87",
        "a revocation whose news was lost is never told again",
        replaced(digest, "key_leaves", no_bytes),
        ("key_revoked_unheard",),
    ),
    Safeguard(
        "F87",
        "a worker that joins is told of no keys",
        replaced(keys, "tell_worker", nothing),
        ("key_known_everywhere", "key_revoked_unheard"),
    ),
    Safeguard("P20", "the context is forgotten", replaced(Context, "__contains__", never), ("node_killed",)),
    Safeguard(
        "P10",
        "who gives way does not say which attempt to beat",
        replaced(creation, "CreateSuperseded", give_way_to_nobody),
        ("outbid_creation",),
    ),
    Safeguard(
        "P13",
        "a replica that cannot serve when its birth is finished waits for ever",
        replaced(learning, "_born", acknowledge_only),
        ("born_without_quorum", "concurrent_create"),
    ),
    Safeguard(
        "P30", "the vote does not wait for the workers", replaced(doors, "drained", drained), ("close_not_heard",)
    ),
    Safeguard("P31", "the last look at the counters is left out", any_counter, ("direct_at_the_last_moment",)),
    Safeguard("P31", "a veto forbids nothing, and a majority is enough", veto_forbids_nothing, ("paused_coordinator",)),
    Safeguard("P31", "who is heard is not waited for", wait_for_nobody, ("heard_and_silent",)),
    Safeguard(
        "P32",
        "any commit is obeyed",
        replaced(Subject, "vote_is_highest_promise", ALWAYS),
        ("late_commit_to_the_idle",),
    ),
    Safeguard(
        "P33",
        "who follows a sleep does not drain",
        replaced(sleep, "follow", follow_at_once),
        ("followed_while_in_use",),
    ),
    Safeguard("P33", "who stopped for a sleep without a record sleeps on", no_timer("doubt"), ("commit_then_death",)),
    Safeguard(
        "P33", "who runs without a quorum calls nobody", replaced(wake, "insist", nothing), ("outvoted_while_closing",)
    ),
    Safeguard("P33", "who wakes without a quorum asks nobody", no_timer("quorum"), ("wakes_without_quorum",)),
    Safeguard("P34", "any stop counts for the seal", handled_by(SleepReport, seal_any_stop), ("unclean_stop",)),
    Safeguard(
        "P34",
        "the commit does not wait for the followers",
        replaced(sleep, "on_reach_sample", seal_at_once),
        ("sealed_sleep",),
    ),
    Safeguard(
        "P34",
        "a start does not wait for readers of the copy",
        replaced(sealed, "revoked", always),
        ("stale_read_while_waking", "reader_in_a_stopped_worker"),
    ),
    Safeguard("P34", "a copy without a seal is read", read_any_copy, ("stale_read_unsealed",)),
    Safeguard("F53", "an age that is not known is taken to be none", unknown_is_new, ("age_unknown",)),
    Safeguard("P40", "an intent ends any sleep", handled_by(WakeIntent, end_any_sleep), ("old_intent",)),
    Safeguard(
        "P41",
        "a start does not wait for the exit",
        replaced(Subject, "exit_observed", ALWAYS),
        ("query_after_sigterm",),
    ),
    Safeguard("P42", "a changed address needs no promise", launch_at_once, ("port_taken", "taken_port")),
    Safeguard(
        "P42",
        "a member moves before the database is born",
        replaced(process, "_unborn", never),
        ("moves_before_birth",),
    ),
    Safeguard(
        "P42",
        "any number of members may move at once",
        replaced(coordination, "_others_serve", always),
        ("two_ports_taken",),
    ),
    Safeguard(
        "P42", "every member gives up Raft ports", replaced(shortage, "may_give_up", always), ("no_port_to_give_up",)
    ),
    Safeguard("P42", "a port is lent for good", replaced(shortage, "is_short", never), ("borrowed_port_comes_back",)),
    Safeguard("P42", "a Raft port is never given up", replaced(shortage, "make_room", never), ("raft_range_full",)),
    Safeguard(
        "P42",
        "who moved and cannot tell its group never goes back",
        replaced(process, "_turn_back", nothing),
        ("back_where_it_was_known", "moved_and_then_a_member_is_lost"),
    ),
    Safeguard(
        "P54",
        "a member without a copy is waited for",
        replaced(sleep, "on_absent", nothing),
        ("wake_with_wiped_member",),
    ),
    Safeguard(
        "P61", "a node listens to nobody before it creates", replaced(gossip, "enough", always), ("two_fresh_joiners",)
    ),
    Safeguard("F2", "leases do not end", lambda: patch.dict(TIMERS, {"lease": nothing}), ("offers_end",)),
    Safeguard("F6", "nothing counts against max_databases", replaced(State, "load", zero), ("full_node",)),
    Safeguard(
        "F28",
        "a birth that an answer tells of is only noted",
        replaced(creation, "_take_in", directory.merge),
        ("chosen_and_told_by_an_answer",),
    ),
    Safeguard("F40", "direct clients are not noticed", blind_to_direct_clients, ("direct_traffic",)),
    Safeguard("F45", "outcomes of older runs count", replaced(outcomes, "_current", of_any_run), ("late_repeats",)),
    Safeguard("F46", "a failed start is not retried", replaced(process, "again_later", nothing), ("wake_fails",)),
    Safeguard("F46", "a start that hung waits as one that failed does", hung_is_failed, ("two_take_turns",)),
    Safeguard(
        "F51", "each who waits outside sends an intent", replaced(routing, "_seek", one_intent_each), ("from_outside",)
    ),
    Safeguard(
        "F51", "a lost intent is not repeated", replaced(limits, "WAKE_REPEAT", limits.WAKE_DEADLINE), ("lost_intent",)
    ),
    Safeguard(
        "F93",
        "a forwarded query is sent on",
        replaced(State, "forwarded", property(not_forwarded, nothing)),
        ("sent_to_a_wiped_member",),
    ),
    Safeguard("F93", "members that are not heard are named", replaced(routing, "hears", always), ("only_member_dead",)),
    Safeguard(
        "F93", "a changed certificate is not told", replaced(suspicion, "Believe", believe_nobody), ("late_joiner",)
    ),
    Safeguard(
        "R3",
        "underscores are not doubled",
        replaced(ids.DatabaseName, "internal", property(one_underscore)),
        ("slow_network_between_two_replicas",),
    ),
)

BENEATH: Final[tuple[Safeguard, ...]] = (
    Safeguard("P5", "a spent epoch is written in", replaced(promises, "next_version", version_in)),
    Safeguard("P5", "an epoch below the record's is written in", version_below),
    Safeguard("P3", "nobody spends an epoch", replaced(promises, "spend", nothing)),
    Safeguard("P11", "a birth is stored beside a living database", replaced(creation, "living_other", nothing)),
    Safeguard(
        "P32", "a coordinator that has promised above commits", replaced(sleep, "_commit", commit_with_any_promise)
    ),
    Safeguard("P34", "an acknowledgement of an earlier closing counts", of_any_closing),
    Safeguard("P15", "a later record ends a quarantine", replaced(directory, "join", later_phase)),
    Safeguard("F54", "who waits at a member without its data is refused", replaced(serving, "look_elsewhere", nothing)),
    Safeguard("P62", "a record of its own betrays no rollback", replaced(rollback, "on_record", never)),
)
"""Second lines of defence: behind other safeguards no scenario gets to them (P3, P5, P11, P15, P32, P62), or not in this model, where a disk is lost whole and never
one replica alone (F54). A test of the engine alone notices each (``tests/protocol/test_ablations.py``)."""
