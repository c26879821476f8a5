"""How a TLS identity reaches a member: who is answered, who is asked, what is believed."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from runtime.database_keys import PROTOCOL, KeyMissing, KeyRefused, KeyService, asking, obtain
from runtime.database_tls import mint
from runtime.directories import Directories, write_whole

NAME, INCARNATION = "app_users", "s1-1-abcd"
MINE = mint(INCARNATION)


@pytest.fixture
def service(tmp_path: Path) -> KeyService:
    directories = Directories(tmp_path)
    write_whole(directories.create(NAME, INCARNATION, "n").tls, MINE, private=True)
    directories.create(NAME, "s1-2-0000", "n")
    write_whole(directories.create(NAME, "s1-3-0000", "n").tls, b"torn", private=True)
    known = (INCARNATION, "s1-2-0000", "s1-3-0000", "s1-4-0000", "../..")
    return KeyService(
        directories, lambda peer, incarnation: NAME if peer == "member" and incarnation in known else None
    )


async def test_R36_only_a_member_is_given_the_identity(service: KeyService) -> None:
    assert await service.answer("member", INCARNATION.encode()) == b"+" + MINE
    for peer, question in (("stranger", INCARNATION), ("member", "s9-9-ffff"), ("member", "")):
        assert await service.answer(peer, question.encode()) == b"-not a member of that database here"


async def test_F82_whatever_is_asked_the_answer_is_a_refusal_and_no_path(service: KeyService) -> None:
    for question in (b"s1-2-0000", b"s1-4-0000"):
        assert await service.answer("member", question) == b"-not here yet"
    for question in (b"s1-3-0000", b"../..", b"\xff" * 1000, b"\0"):
        assert (await service.answer("member", question))[:1] == b"-"


def answers(
    table: dict[str, list[bytes | BaseException]], asked: list[str]
) -> Callable[[str, str, bytes, float], Awaitable[bytes]]:
    """A transport: each peer gives its answers in turn, the last one for ever."""

    async def request(peer: str, kind: str, question: bytes, _within: float) -> bytes:
        assert (kind, question) == (PROTOCOL, INCARNATION.encode())
        asked.append(peer)
        await trio.lowlevel.checkpoint()
        left = table[peer]
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return request


async def test_F7_members_are_asked_in_order_and_again_until_one_has_it(autojump_clock: trio.testing.MockClock) -> None:
    asked: list[str] = []
    table: dict[str, list[bytes | BaseException]] = {
        "founder": [b"-not here yet", b"-not a member of that database here", b"+" + MINE],
        "other": [OSError("unreachable")],
    }
    assert await obtain(asking(answers(table, asked)), ("founder", "other"), INCARNATION, 5) == MINE
    assert asked == ["founder", "other", "founder", "other", "founder"]
    assert trio.current_time() < 0.1


async def test_R61_what_is_wrong_is_not_believed_and_each_members_word_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    wrong: dict[str, list[bytes | BaseException]] = {
        "a": [b"+" + mint("s9-9-ffff")],
        "b": [b"+" + MINE + MINE],
        "c": [b""],
        "d": [OSError()],
    }
    with pytest.raises(KeyMissing) as caught:
        await obtain(asking(answers(wrong, [])), tuple(wrong), INCARNATION, 5)
    for words in ("a: it is another incarnation's", "b: there is more in it", "c: an empty answer", "d: OSError"):
        assert words in str(caught.value)
    assert "PRIVATE" not in str(caught.value)
    assert trio.current_time() == pytest.approx(5)


async def test_F7_a_member_that_never_answers_does_not_keep_the_others_from_being_asked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def fetch(peer: str, _incarnation: str) -> bytes:
        if peer == "deaf":
            await trio.sleep_forever()
        return MINE

    assert await obtain(fetch, ("deaf", "well"), INCARNATION, 5) == MINE
    with pytest.raises(KeyMissing, match="deaf: no answer within 1 s"):
        await obtain(fetch, ("deaf",), INCARNATION, 3)


async def test_R61_without_anybody_to_ask_it_says_so(autojump_clock: trio.testing.MockClock) -> None:
    async def fetch(_peer: str, _incarnation: str) -> bytes:
        raise KeyRefused("never asked")

    with pytest.raises(KeyMissing, match="no other member is known"):
        await obtain(fetch, (), INCARNATION, 5)
