"""The SQLAlchemy dialect where SQLAlchemy's own suite does not look: what a rollback says, and whole transactions (R20)."""

from __future__ import annotations

import tomllib
import uuid
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import trio
from sqlalchemy import Engine, ForeignKey, create_engine, exc, inspect, select, text
from sqlalchemy.dialects import registry
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from runtime.client.sqlalchemy import NothingRolledBack, TorporDialect
from tests.client.test_client import users
from tests.runtime.gateway_world import World

ROOT = Path(__file__).parents[2]


class Named(DeclarativeBase):
    pass


class Person(Named):
    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    pets: Mapped[list[Pet]] = relationship(order_by="Pet.name")


class Pet(Named):
    __tablename__ = "pets"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str]
    owner: Mapped[int | None] = mapped_column(ForeignKey("people.id"))


def engine(world: World, options: str = "", **more: Any) -> Engine:
    registry.register("torpor", "runtime.client.sqlalchemy", "TorporDialect")
    host = world.address.removeprefix("http://")
    made = create_engine(f"torpor://{world.keys['one']}@{host}/one/users{options}", **more)
    Named.metadata.create_all(made)
    return made


def _autocommit(world: World) -> None:
    it = engine(world)
    with Session(it) as session:
        session.add(Person(name="Ada", pets=[Pet(name="b"), Pet(name="a")]))
        session.add_all(Person(name=str(n)) for n in range(30))
        session.commit()
        ada = session.scalars(select(Person).where(Person.name == "Ada")).one()
        assert [pet.name for pet in ada.pets] == ["a", "b"]
        ada.name = "Ada Lovelace"
        session.flush()
        with pytest.warns(NothingRolledBack):
            session.rollback()
        assert session.scalar(select(Person.name).where(Person.id == ada.id)) == "Ada Lovelace"
        session.add(Person(name="Ada Lovelace"))
        with pytest.raises(exc.IntegrityError):
            session.flush()
        with warnings.catch_warnings(action="error"):
            session.rollback()  # nothing was written: nothing to say
    with it.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM people")).scalar() == 31
        assert connection.get_isolation_level() == "AUTOCOMMIT"
        with pytest.raises(NotImplementedError, match="savepoints"):
            connection.begin_nested()
    with pytest.raises(exc.ArgumentError):
        it.execution_options(isolation_level="READ COMMITTED").connect()
    it.dispose()
    silent = engine(world, skip_autocommit_rollback=True)
    with warnings.catch_warnings(action="error"), silent.connect() as connection:
        connection.execute(text("DELETE FROM pets"))
    silent.dispose()


def _whole_transactions(world: World) -> None:
    it = engine(world, "?autocommit=false")
    with Session(it) as session:
        session.add_all([Pet(name="a"), Pet(name="b")])
        session.flush()
        session.rollback()
        assert session.scalars(select(Pet)).all() == []
        pet = Pet(name="c")
        session.add_all([pet, Person(id=1, name="Ada")])
        session.commit()
        pet.name = "d"
        session.commit()
        session.add(Pet(name="e"))
        session.add(Person(id=2, name="Ada"))
        with pytest.raises(exc.IntegrityError):
            session.commit()
        session.rollback()
        assert session.scalars(select(Pet.name)).all() == ["d"]
        session.add(Pet(name="f"))
        with pytest.raises(exc.NotSupportedError, match="commit first"):
            session.scalars(select(Pet)).all()
        session.rollback()
    it.dispose()


def _reflection(world: World) -> None:
    it = engine(world, "?autocommit=false")
    with it.begin() as connection:
        connection.execute(
            text("DELETE FROM pets")
        )  # committed under an idempotency key, which is kept in the database
    with it.begin() as connection:
        names = connection.execute(text("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")).scalars()
        assert next(iter(names)) == "_torpor_idempotency"
        assert inspect(connection).get_table_names() == ["people", "pets"]
        assert inspect(connection).get_schema_names() == ["main"]
        assert inspect(connection).get_table_names(schema="main") == ["people", "pets"]
    it.dispose()


@pytest.mark.real
@pytest.mark.parametrize("story", [_autocommit, _whole_transactions, _reflection])
async def test_R20_sqlalchemy(story: Callable[[World], None], tmp_path: Path, rqlited_path: Path) -> None:
    async with users(tmp_path) as world:
        await trio.to_thread.run_sync(story, world)


def test_the_package_announces_the_dialect() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    module, _, name = project["entry-points"]["sqlalchemy.dialects"]["torpor"].partition(":")
    assert getattr(import_module(module), name) is TorporDialect


@pytest.mark.parametrize("address", ["torpor://host/a/b", "torpor://key@host/a", "torpor://key@host/a/b?x=y"])
def test_an_address_that_is_not_understood_is_an_argument_error(address: str) -> None:
    registry.register("torpor", "runtime.client.sqlalchemy", "TorporDialect")
    with pytest.raises(exc.ArgumentError):
        create_engine(address).connect()
