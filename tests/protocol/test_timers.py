"""Named timers: each expires once, in order, when it was last set for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.timers import Timers

STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20), st.booleans()), max_size=30)


@given(STEPS)
def test_timers_expire_as_a_plain_dictionary_would(steps: list[tuple[str, int, bool]]) -> None:
    timers, model = Timers(), dict[str, int]()
    for key, at, clear in steps:
        if clear:
            timers.clear("kind", key)
            model.pop(key, None)
        else:
            timers.set("kind", key, at)
            model[key] = at
    assert timers.deadline == min(model.values(), default=None)
    expired: list[str] = []
    while (name := timers.expired(10)) is not None:
        expired.append(name[1])
    assert sorted(expired) == sorted(key for key, at in model.items() if at <= 10)
    assert [model[key] for key in expired] == sorted(model[key] for key in expired)
    assert not any(timers.is_set("kind", key) for key in expired)
