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

from protocol import coordination, gossip, ids, limits, promises, rollback, standing, suspicion
from protocol.clocks import Context
from protocol.lifecycle import creation, doors, learning, outcomes, process, routing, sleep, wake
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
    launch_at_once,
    look_before_expiring,
    never,
    never_send,
    no_timer,
    not_forwarded,
    nothing,
    of_any_run,
    one_intent_each,
    one_of,
    one_underscore,
    replaced,
    resume_unacknowledged,
    seal_any_stop,
    seal_at_once,
    store_any_birth,
    under_any_members,
    version_below,
    version_in,
    veto_forbids_nothing,
    wait_for_nobody,
    write_nothing,
    zero,
)


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


SAFEGUARDS: Final[tuple[Safeguard, ...]] = (
    Safeguard("P1", "a second coordinator is promised the same epoch", replaced(promises, "promise", always)),
    Safeguard("P1", "a promise is not durable", write_nothing("promise/")),
    Safeguard("P1", "a promise under older members counts", under_any_members),
    Safeguard("P3", "a veto spends nothing", replaced(promises, "spend", nothing)),
    Safeguard("P4", "an intent out of an old directory is not answered", never_send(RecordNews, Standing)),
    Safeguard("P4", "what is stale is not answered", replaced(standing, "tell", nothing)),
    Safeguard(
        "P5",
        "a spent epoch is written in",
        replaced(promises, "next_version", version_in),
    ),
    Safeguard("P5", "an epoch below the record's is written in", version_below),
    Safeguard("P5", "each coordinator signs the birth that it carries on", coordinator_writes),
    Safeguard("P6", "members count before a majority has stored them", replaced(process, "majority", one_of)),
    Safeguard("P7", "messages are looked at before deadlines", look_before_expiring),
    Safeguard(
        "P10",
        "a denial promises nothing",
        lambda: patch.dict(MESSAGES, {CreateRequest: deny_without_promise, StoreBirth: store_any_birth}),
    ),
    Safeguard("P10", "a drop that was overtaken by a request costs an answer", never_send(CreateRequest)),
    Safeguard(
        "P10",
        "who still listens is not asked again",
        replaced(creation, "_fall_short", creation._fail),  # pyright: ignore[reportPrivateUsage]
    ),
    Safeguard("P11", "a birth is stored beside a living database", replaced(creation, "living_other", nothing)),
    Safeguard("P11", "the founder starts before its birth is durable", write_nothing("name/")),
    Safeguard("P12", "an unacknowledged birth is resumed", resume_unacknowledged),
    Safeguard("P13", "every chosen member is waited for", replaced(creation, "majority", all_of)),
    Safeguard("P20", "the context is forgotten", replaced(Context, "__contains__", never)),
    Safeguard(
        "P10",
        "who gives way does not say which attempt to beat",
        replaced(creation, "CreateSuperseded", give_way_to_nobody),
    ),
    Safeguard(
        "P13",
        "a replica that cannot serve when its birth is finished waits for ever",
        replaced(learning, "_born", acknowledge_only),
    ),
    Safeguard("P30", "the vote does not wait for the workers", replaced(doors, "drained", drained)),
    Safeguard("P31", "the last look at the counters is left out", any_counter),
    Safeguard("P31", "a veto forbids nothing, and a majority is enough", veto_forbids_nothing),
    Safeguard("P31", "who is heard is not waited for", wait_for_nobody),
    Safeguard("P32", "any commit is obeyed", replaced(Subject, "vote_is_highest_promise", ALWAYS)),
    Safeguard(
        "P32",
        "a coordinator that has promised above commits",
        replaced(sleep, "_commit", commit_with_any_promise),
    ),
    Safeguard("P33", "who follows a sleep does not drain", replaced(sleep, "follow", follow_at_once)),
    Safeguard("P33", "who stopped for a sleep without a record sleeps on", no_timer("doubt")),
    Safeguard("P33", "who runs without a quorum calls nobody", replaced(wake, "insist", nothing)),
    Safeguard("P33", "who wakes without a quorum asks nobody", no_timer("quorum")),
    Safeguard("P34", "any stop counts for the seal", handled_by(SleepReport, seal_any_stop)),
    Safeguard("P34", "the commit does not wait for the followers", replaced(sleep, "on_reach_sample", seal_at_once)),
    Safeguard("P40", "an intent ends any sleep", handled_by(WakeIntent, end_any_sleep)),
    Safeguard("P41", "a start does not wait for the exit", replaced(Subject, "exit_observed", ALWAYS)),
    Safeguard(
        "P42",
        "a changed address needs no promise",
        replaced(coordination, "seek", launch_at_once),
    ),
    Safeguard("P42", "any number of members may move at once", replaced(coordination, "_others_serve", always)),
    Safeguard("P42", "a member moves before the database is born", replaced(process, "_unborn", never)),
    Safeguard("P54", "a member without a copy is waited for", replaced(sleep, "on_absent", nothing)),
    Safeguard("P61", "a node listens to nobody before it creates", replaced(gossip, "enough", always)),
    Safeguard("P62", "a record of its own betrays no rollback", replaced(rollback, "on_record", never)),
    Safeguard("F2", "leases do not end", lambda: patch.dict(TIMERS, {"lease": nothing})),
    Safeguard("F6", "nothing counts against max_databases", replaced(State, "load", zero)),
    Safeguard("F40", "direct clients are not noticed", blind_to_direct_clients),
    Safeguard(
        "F45",
        "outcomes of older runs count",
        replaced(outcomes, "_current", of_any_run),
    ),
    Safeguard("F46", "a failed start is not retried", replaced(process, "again_later", nothing)),
    Safeguard("F46", "a start that hung waits as one that failed does", hung_is_failed),
    Safeguard("F51", "each who waits outside sends an intent", replaced(routing, "_seek", one_intent_each)),
    Safeguard("F51", "a lost intent is not repeated", replaced(limits, "WAKE_REPEAT", limits.WAKE_DEADLINE)),
    Safeguard("F93", "a forwarded query is sent on", replaced(State, "forwarded", property(not_forwarded, nothing))),
    Safeguard("F93", "members that are not heard are named", replaced(routing, "hears", always)),
    Safeguard("F93", "a changed certificate is not told", replaced(suspicion, "Believe", believe_nobody)),
    Safeguard(
        "R3",
        "underscores are not doubled",
        replaced(ids.DatabaseName, "internal", property(one_underscore)),
    ),
)
