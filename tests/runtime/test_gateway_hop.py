"""Gateway to gateway, with real workers, real TLS and a real rqlited: one hop, only between gateways that believe each other, and
nothing is sent twice (F93, F86, F14, F51)."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from attrs import evolve, frozen
from uvicorn.config import Config
from uvicorn.server import ServerState

from runtime import identity
from runtime.gateway import tls
from runtime.gateway.certificates import Certificate, provide
from runtime.gateway.frames import Ask, Hop, Problem, Used, WorkerLeft
from runtime.gateway.member_port import MemberConnection, MemberPort
from tests.runtime import node_world
from tests.runtime.gateway_world import SLOW, Rqlited, World, free_port, gateway, kind_of, post, rqliteds
from tests.runtime.test_gateway_life import counted, in_flight, slow_write_tables

pytestmark = pytest.mark.real

SECRET = bytes(range(32))
USERS = ("one", "users")


@pytest.fixture
async def rqlited(tmp_path: Path) -> AsyncIterator[Rqlited]:
    with rqliteds(tmp_path, "one") as running:
        await running["one"].ready()
        yield running["one"]


@pytest.fixture
def certificates(tmp_path: Path) -> list[Certificate]:
    """Of the gateway of a node that is no member, of a member's, of a third one."""
    return [certificate(tmp_path, name) for name in ("outside", "member", "third")]


def certificate(directory: Path, name: str, secret: bytes = SECRET) -> Certificate:
    identity = directory / f"identity-{name}"
    identity.mkdir(mode=0o700)
    return provide(identity, secret, name)


@frozen
class Pair:
    """A gateway whose node is no member, and a member's."""

    outside: World
    member: World

    def asks(self) -> tuple[int, int]:
        return len(self.outside.keeper.of(Ask)), len(self.member.keeper.of(Ask))


@asynccontextmanager
async def pair(
    certificates: list[Certificate], url: str, *, believed: bool = True, **config: float
) -> AsyncIterator[Pair]:
    outside, member, _third = certificates
    async with gateway(certificate=outside, **config) as one, gateway({USERS: url}, certificate=member) as other:
        one.keeper.hops[USERS] = [(other.hop,)]
        if believed:
            other.host.believe(None, (outside.fingerprint,))
        yield Pair(one, other)


def nobody(certificates: list[Certificate]) -> Hop:
    """The gateway of a machine that is gone."""
    return Hop("gone", f"127.0.0.1:{free_port()}", certificates[2].fingerprint)


async def test_F93_reads_and_writes_go_one_hop_and_are_counted_at_the_member(
    rqlited: Rqlited, certificates: list[Certificate]
) -> None:
    async with pair(certificates, rqlited.url) as two, two.outside.client() as client:
        await post(client, "exec", sql="CREATE TABLE t (v)")
        written = await post(client, "exec", sql="INSERT INTO t VALUES (?)", args=[7])
        assert written.json() == {"rows_affected": 1, "last_insert_id": 1}
        read = await post(client, "query", sql="SELECT v FROM t WHERE v = :v", args={"v": 7})
        assert read.json() == {"items": [{"v": 7}], "count": 1}
        assert two.asks() == (1, 1), "neither node is in every query's path"
        assert two.member.keeper.of(Ask)[0].forwarded
        assert not two.outside.keeper.of(Ask)[0].forwarded
        assert two.member.keeper.of(Used), "its door has counted them"
        assert not two.outside.keeper.of(Used)


async def test_R61_a_member_s_failure_is_told_as_it_is_under_one_request_id(
    rqlited: Rqlited, certificates: list[Certificate]
) -> None:
    async with pair(certificates, rqlited.url) as two, two.outside.client() as client:
        failed = await post(client, "query", sql="SELECT v FROM nowhere")
        assert (kind_of(failed), failed.status_code) == ("sql-error", 400)
        assert "nowhere" in failed.json()["detail"]
        assert two.asks() == (1, 1)
        await post(client, "query", sql="SELECT v FROM nowhere")
        assert two.asks() == (1, 1), "the statement's fault is not the route's"


async def test_F93_a_gateway_with_another_certificate_than_its_node_signed_is_sent_nothing(
    rqlited: Rqlited, certificates: list[Certificate]
) -> None:
    async with pair(certificates, rqlited.url) as two, two.outside.client() as client:
        two.outside.keeper.hops[USERS] = [(evolve(two.member.hop, fingerprint=certificates[2].fingerprint),)]
        refused = await post(client, "exec", sql="CREATE TABLE t (v)")
        assert kind_of(refused) == "unavailable"
        assert "its certificate is not the one that its node has signed" in refused.json()["detail"]
        assert "may_have_committed" not in refused.json()
        assert two.asks() == (2, 0), "asked once more, and never sent"


async def test_F93_a_gateway_that_is_not_believed_is_not_read(
    rqlited: Rqlited, certificates: list[Certificate]
) -> None:
    """Its certificate is of the cluster; only no heartbeat that the member heard names it."""
    async with pair(certificates, rqlited.url, believed=False) as two, two.outside.client() as client:
        two.member.host.believe(None, (certificates[2].fingerprint,))
        refused = await post(client, "exec", sql="CREATE TABLE t (v)")
        assert kind_of(refused) == "unavailable"
        assert "does not take our queries" in refused.json()["detail"]
        assert "may_have_committed" not in refused.json()
        assert two.asks()[1] == 0
        two.member.host.believe(None, (certificates[0].fingerprint,))
        await until_served(client)


async def test_F93_who_is_no_longer_believed_loses_its_connections(
    rqlited: Rqlited, certificates: list[Certificate]
) -> None:
    async with pair(certificates, rqlited.url) as two, two.outside.client() as client:
        assert (await post(client, "query", sql="SELECT 1 AS x")).status_code == 200
        two.member.host.believe(None, ())
        await two.member.keeper.until(lambda: two.member.keeper.of(Used))
        with trio.fail_after(20):
            while (refused := await post(client, "query", sql="SELECT 1 AS x")).status_code == 200:
                pass  # until the frame has been read
        assert kind_of(refused) == "unavailable"


async def until_served(client: httpx.AsyncClient) -> None:
    with trio.fail_after(20):
        while (await post(client, "query", sql="SELECT 1 AS x")).status_code != 200:
            pass  # a gateway that was refused is tried last, not never


async def test_F93_another_cluster_s_gateway_gets_no_further_than_the_handshake(
    rqlited: Rqlited, certificates: list[Certificate], tmp_path: Path
) -> None:
    foreign = [certificate(tmp_path, "foreign", bytes(32)), *certificates[1:]]
    async with pair(foreign, rqlited.url) as two, two.outside.client() as client:
        refused = await post(client, "exec", sql="CREATE TABLE t (v)")
        assert kind_of(refused) == "unavailable"
        assert "certificate verify failed" in refused.json()["detail"]
        assert two.asks()[1] == 0


async def test_F93_neither_plain_HTTP_nor_TLS_without_a_certificate_is_answered(
    rqlited: Rqlited, certificates: list[Certificate]
) -> None:
    async with pair(certificates, rqlited.url) as two:
        host, _, port = two.member.between.rpartition(":")
        request = (
            b"POST /v1/member/query HTTP/1.1\r\nHost: x\r\nx-torpor-application: one\r\nContent-Length: 2\r\n\r\n{}"
        )
        assert b"HTTP" not in await trio.to_thread.run_sync(exchange, host, int(port), request, None)
        stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        stranger.check_hostname = False
        stranger.verify_mode = ssl.CERT_NONE
        assert await trio.to_thread.run_sync(exchange, host, int(port), request, stranger) == b""
        assert two.asks()[1] == 0


async def test_F93_bytes_that_came_with_a_stranger_s_handshake_are_not_read() -> None:
    """They may be there before the connection's end is."""
    served: list[str] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        served.append(scope["path"])

    class Uncounted:
        def began(self, connection: Any) -> None:
            pass

        def ended(self, connection: Any) -> None:
            pass

    class Transport(asyncio.Transport):
        def write(self, data: Any) -> None:
            pass

        def abort(self) -> None:
            pass

        def is_closing(self) -> bool:
            return False

    async def both() -> None:
        port = MemberPort(app, patience=20)
        for believed in ([], [b""]):  # a transport without TLS shows no certificate
            port.believe(believed)
            connection = MemberConnection(port, Config(app, log_config=None), ServerState(), Uncounted())
            connection.connection_made(Transport())
            connection.data_received(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(0)
            assert served == ["/hello"] * len(believed)

    await trio.to_thread.run_sync(asyncio.run, both())


async def test_F93_a_real_node_takes_queries_of_no_gateway_that_nobody_has_signed_for(tmp_path: Path) -> None:
    """Not even with a certificate that the cluster's secret vouches for: no heartbeat has named it."""
    port = free_port()
    async with node_world.world(tmp_path, gateway={"internal_listen": f"127.0.0.1:{port}"}) as node:
        await node.execute("orders", "CREATE TABLE t (n)")
        secret = identity.load(node.data).secret
        unsigned = certificate(tmp_path, "unsigned", secret)
        hello = b"GET /v1/member/hello HTTP/1.1\r\nHost: x\r\n\r\n"
        context = tls.client(str(unsigned.file), unsigned.authority)
        for each in (context, None):
            assert await trio.to_thread.run_sync(exchange, "127.0.0.1", port, hello, each) == b""
        assert await node.rows("orders", "SELECT count(*) AS n FROM t") == [{"n": 0}]


def exchange(host: str, port: int, request: bytes, context: ssl.SSLContext | None) -> bytes:
    """What a server says to a request; nothing, when it ends the connection instead."""
    got = b""
    with socket.create_connection((host, port), timeout=20) as connection:
        try:
            stream = context.wrap_socket(connection) if context else connection
            with stream:
                stream.sendall(request)
                while data := stream.recv(4096):
                    got += data
        except (ssl.SSLError, ConnectionError):
            pass
    return got


async def test_F93_clients_cannot_pretend_to_be_a_gateway(rqlited: Rqlited, certificates: list[Certificate]) -> None:
    """On the port for clients nothing but a key counts, and the paths of gateways are not there."""
    async with pair(certificates, rqlited.url) as two, two.member.client("two") as client:
        headers = {"x-torpor-application": "one"}
        for path in ("/v1/member/query", "/v1/member/hello"):
            assert kind_of(await client.post(path, json={"database": "users", "sql": "SELECT 1"}, headers=headers)) == (
                "not-found"
            )
        own = await client.post("/v1/database/query", json={"database": "users", "sql": "SELECT 1"}, headers=headers)
        assert kind_of(own) == "max-databases", "the key's application has none of that name"


async def test_F93_F14_one_hop_only_and_a_stale_directory_is_asked_once_more(
    rqlited: Rqlited, certificates: list[Certificate]
) -> None:
    """The first gateway is sent to a node that serves nothing: that one sends it nowhere, although it knows where to."""
    async with pair(certificates, rqlited.url) as two, gateway(certificate=certificates[2]) as third:
        third.host.believe(None, (certificates[0].fingerprint,))
        third.keeper.hops[USERS] = [(two.member.hop,)]
        stale, right = (third.hop,), (two.member.hop,)
        async with two.outside.client() as client:
            two.outside.keeper.hops[USERS] = [stale, right]
            written = await post(client, "exec", sql="CREATE TABLE t (v)")
            assert written.status_code == 200
            assert two.asks() == (2, 1)
            assert len(third.keeper.of(Ask)) == 1
            assert third.keeper.of(Ask)[0].forwarded
        async with two.outside.client("two") as client:
            two.outside.keeper.hops["two", "users"] = [stale]
            third.keeper.hops["two", "users"] = [right]
            refused = await post(client, "query", sql="SELECT 1")
            assert kind_of(refused) == "not-a-member"
            assert len(third.keeper.of(Ask)) == 3, "twice, and then the client is told"
            two.outside.keeper.hops["two", "users"] = [right]
            assert kind_of(await post(client, "query", sql="SELECT 1")) == "max-databases", "what the right one says"
            assert len(third.keeper.of(Ask)) == 3, "a route that was wrong is not tried again"


async def test_F86_a_member_that_is_gone_before_anything_was_sent_is_passed_over(
    rqlited: Rqlited, certificates: list[Certificate]
) -> None:
    async with pair(certificates, rqlited.url) as two, two.outside.client() as client:
        two.outside.keeper.hops[USERS] = [(nobody(certificates), two.member.hop)]
        assert (await post(client, "exec", sql="CREATE TABLE t (v)")).status_code == 200
        assert (await post(client, "exec", sql="INSERT INTO t VALUES (1)")).json()["rows_affected"] == 1
        assert (await post(client, "query", sql="SELECT count(*) AS n FROM t")).json()["items"] == [{"n": 1}]
        assert two.asks() == (1, 1)


async def test_F54_a_member_that_lost_its_replica_lets_nothing_in_and_the_next_one_is_sent_to(
    rqlited: Rqlited, certificates: list[Certificate]
) -> None:
    async with pair(certificates, rqlited.url) as two, gateway(certificate=certificates[2]) as third:
        third.host.believe(None, (certificates[0].fingerprint,))
        third.keeper.refuse = Problem("not-a-member", "its disk was lost")
        async with two.outside.client() as client:
            two.outside.keeper.hops[USERS] = [(third.hop, two.member.hop)]
            assert (await post(client, "exec", sql="CREATE TABLE t (v)")).status_code == 200
            assert two.asks() == (1, 1), "the node outside is not asked again"
            assert len(third.keeper.of(Ask)) == 1


async def test_F93_a_member_that_cannot_serve_is_tried_last_from_then_on(
    rqlited: Rqlited, certificates: list[Certificate]
) -> None:
    """Its node cannot start the replica; the others serve. What was sent is not sent again: the next query goes elsewhere."""
    async with pair(certificates, rqlited.url) as two, gateway(certificate=certificates[2]) as third:
        third.host.believe(None, (certificates[0].fingerprint,))
        third.keeper.refuse = Problem("instance-failed", "disk")
        two.outside.keeper.hops[USERS] = [(third.hop, two.member.hop)]
        async with two.outside.client() as client:
            refused = await post(client, "query", sql="SELECT 1 AS x")
            assert (kind_of(refused), refused.json()["detail"]) == ("instance-failed", "disk")
            for _ in range(3):
                assert (await post(client, "query", sql="SELECT 1 AS x")).status_code == 200
            assert len(third.keeper.of(Ask)) == 1


async def test_R61_when_no_member_can_be_reached_each_is_named_with_its_cause(
    rqlited: Rqlited, certificates: list[Certificate]
) -> None:
    async with pair(certificates, rqlited.url) as two, two.outside.client() as client:
        gone = nobody(certificates)
        two.outside.keeper.hops[USERS] = [(gone,)]
        refused = await post(client, "exec", sql="CREATE TABLE t (v)")
        assert (kind_of(refused), refused.status_code) == ("unavailable", 503)
        assert f"gone at {gone.gateway}: no connection" in refused.json()["detail"]
        assert "may_have_committed" not in refused.json()
        two.outside.keeper.hops[USERS] = [(two.member.hop,)]
        assert (await post(client, "exec", sql="CREATE TABLE t (v)")).status_code == 200, "the route was not kept"


async def test_F86_a_write_whose_member_dies_may_have_committed_and_is_sent_nowhere_else(
    rqlited: Rqlited, certificates: list[Certificate]
) -> None:
    async with (
        pair(certificates, rqlited.url) as two,
        gateway({USERS: rqlited.url}, certificate=certificates[2]) as third,
        two.outside.client() as client,
    ):
        third.host.believe(None, (certificates[0].fingerprint,))
        two.outside.keeper.hops[USERS] = [(two.member.hop, third.hop)]
        await slow_write_tables(rqlited)
        executions = await counted(rqlited)
        answers: list[httpx.Response] = []

        async def write() -> None:
            answers.append(await post(client, "exec", sql="INSERT INTO big SELECT a.n FROM small a, small b"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await in_flight(two.member)
            await counted(rqlited, executions)
            await kill_workers(two.member, third, two.outside)
        assert kind_of(answers[0]) == "may-have-committed"
        assert answers[0].json()["may_have_committed"] is True
        assert not third.keeper.of(Ask)
        assert two.asks()[0] == 1
        two.outside.keeper.hops[USERS] = [(third.hop,)]
        assert (await post(client, "query", sql="SELECT 1 AS x")).status_code == 200
        assert two.asks()[0] == 2, "the route was dropped with the connection"


async def test_F86_with_an_idempotency_key_such_a_write_is_sent_again_and_has_one_effect(
    rqlited: Rqlited, certificates: list[Certificate]
) -> None:
    async with (
        pair(certificates, rqlited.url) as two,
        gateway({USERS: rqlited.url}, certificate=certificates[2]) as third,
        two.outside.client() as client,
    ):
        third.host.believe(None, (certificates[0].fingerprint,))
        two.outside.keeper.hops[USERS] = [(two.member.hop, third.hop)]
        await slow_write_tables(rqlited)
        executions = await counted(rqlited)
        answers: list[httpx.Response] = []
        slow = {"database": "users", "sql": "INSERT INTO big SELECT a.n FROM small a, small b"}

        async def write() -> None:
            headers = {"Idempotency-Key": "once"}
            answers.append(await client.post("/v1/database/exec", json=slow, headers=headers))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await in_flight(two.member)
            await counted(rqlited, executions)
            await kill_workers(two.member, third, two.outside)
        told = answers[0].json()
        assert told["repeated"] is True, "the first one had been taken in"
        found = await post(client, "query", sql="SELECT count(*) AS n FROM big")
        assert found.json()["items"] == [{"n": told["rows_affected"]}]
        assert len(third.keeper.of(Ask)) == 1


async def test_F50_a_read_whose_member_dies_is_answered_by_the_next_one(
    rqlited: Rqlited, certificates: list[Certificate]
) -> None:
    async with (
        pair(certificates, rqlited.url) as two,
        gateway({USERS: rqlited.url}, certificate=certificates[2]) as third,
        two.outside.client() as client,
    ):
        third.host.believe(None, (certificates[0].fingerprint,))
        two.outside.keeper.hops[USERS] = [(two.member.hop, third.hop)]
        answers: list[httpx.Response] = []

        async def read() -> None:
            answers.append(await post(client, "query", sql=SLOW.format(rows=10_000_000)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await in_flight(two.member)
            await kill_workers(two.member, third, two.outside)
        assert answers[0].json()["items"] == [{"n": 10_000_000}]
        assert two.asks() == (2, 1), "the route was dropped with the connection, and the dead member is tried last"
        assert len(third.keeper.of(Ask)) == 1


async def test_F86_a_read_whose_only_member_dies_is_told_what_its_node_knows(
    rqlited: Rqlited, certificates: list[Certificate]
) -> None:
    async with pair(certificates, rqlited.url) as two, two.outside.client() as client:
        answers: list[httpx.Response] = []

        async def read() -> None:
            answers.append(await post(client, "query", sql=SLOW.format(rows=30_000_000)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await in_flight(two.member)
            two.outside.keeper.refuse = Problem("members-unheard", "no member has been heard within 8 s")
            await kill_workers(two.member, two.outside)
        assert kind_of(answers[0]) == "members-unheard"
        assert two.asks() == (2, 1)


async def kill_workers(world: World, *others: World) -> None:
    """SIGKILL to the workers of one gateway; those of the others live."""
    theirs = {listening(other.between) for other in others}
    for worker in world.workers():
        ports = {connection.laddr.port for connection in worker.net_connections("tcp") if connection.status == "LISTEN"}
        if not ports & theirs:
            worker.kill()
    await world.keeper.until(lambda: world.keeper.of(WorkerLeft))


def listening(address: str) -> int:
    return int(address.rpartition(":")[2])


async def test_R37_the_member_is_told_how_much_time_is_left(rqlited: Rqlited, certificates: list[Certificate]) -> None:
    """Its own query_timeout is 30 s; the read is ended in its rqlited all the same."""
    async with pair(certificates, rqlited.url, query_timeout_s=1.0) as two, two.outside.client() as client:
        late = await post(client, "query", sql=SLOW.format(rows=1_000_000_000))
        assert (kind_of(late), late.status_code) == ("query-timeout", 504)
        await two.member.keeper.until(lambda: two.member.keeper.of(Used)[-1].in_flight == 0)


async def test_F51_queries_that_wait_at_a_member_ask_its_node_once(
    rqlited: Rqlited, certificates: list[Certificate]
) -> None:
    async with pair(certificates, rqlited.url) as two:
        two.member.keeper.silent = True
        answers: list[httpx.Response] = []
        limits = httpx.Limits(max_connections=200)
        async with two.outside.client(limits=limits) as client, trio.open_nursery() as nursery:

            async def one() -> None:
                answers.append(await post(client, "query", sql="SELECT 1 AS x"))

            for _ in range(150):
                nursery.start_soon(one)
            ask = await two.member.keeper.until(lambda: two.member.keeper.of(Ask))
            two.member.keeper.silent = False
            two.member.keeper.reply(ask[0])
        assert [a.status_code for a in answers] == [200] * 150
        assert two.asks() == (1, 1)


async def test_F85_queries_on_their_way_to_members_are_bounded_too(
    rqlited: Rqlited, certificates: list[Certificate]
) -> None:
    async with pair(certificates, rqlited.url, in_flight=1) as two, two.outside.client() as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: post(client, "query", sql=SLOW.format(rows=3_000_000)))
            await in_flight(two.member)
            assert kind_of(await post(client, "query", sql="SELECT 1")) == "busy"
        assert (await post(client, "query", sql="SELECT 1 AS x")).status_code == 200
