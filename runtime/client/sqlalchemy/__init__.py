"""The SQLAlchemy dialect: ``create_engine("torpor://KEY@HOST:PORT/APP/DATABASE")``."""

from runtime.client.sqlalchemy.dialect import NothingRolledBack, TorporDialect

__all__ = ["NothingRolledBack", "TorporDialect"]
