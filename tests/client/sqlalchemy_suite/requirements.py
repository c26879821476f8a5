"""What SQLAlchemy's dialect suite may ask of us. The law kept here: nothing is left out in silence. ``WITHOUT`` names each thing that SQLite
can do and a database of Torpor's cannot, with the reason; what is closed below those is beyond SQLite itself.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.testing import exclusions
from sqlalchemy.testing.requirements import SuiteRequirements

WITHOUT: Final = {
    "savepoints": "the gateway takes whole transactions; nothing stays open between two requests",
    "temporary_tables": "a connection is nothing on the gateway's side, so nothing can be its own; they would vanish with a sleep",
    "temporary_views": "as temporary tables",
    "temp_table_reflection": "as temporary tables",
    "temp_table_reflect_indexes": "as temporary tables",
    "temp_table_names": "as temporary tables",
    "has_temp_table": "as temporary tables",
    "create_temp_table_as": "as temporary tables",
    "schemas": "ATTACH leaves the database's own file: a database has the schema main alone",
    "autocommit": "an engine either commits each statement, or sends whole transactions: its address decides, not a connection",
    "isolation_level": "as autocommit",
    "independent_connections": "with autocommit nothing of a connection is hidden from the others",
    "regexp_match": "rqlited has no function REGEXP",
    "infinity_floats": "JSON has no infinite numbers",
}

REFUSED: Final = {
    "test_server_defaults[DateTime": "CURRENT_TIMESTAMP as a default would be evaluated by each replica, and again after a crash (specs/sql.md)",
}
"""Single tests, by how their names begin, for which the suite knows no requirement."""

NOT_SQLITE: Final = [
    "implicitly_named_constraints",
    "parens_in_union_contained_select_w_limit_offset",
    "parens_in_union_contained_select_wo_limit_offset",
]
"""What the suite takes for granted, and SQLite does not have."""

SQLITE: Final = [
    "create_table_as",
    "table_ddl_if_exists",
    "index_ddl_if_exists",
    "boolean_col_expressions",
    "nullsordering",
    "intersect",
    "except_",
    "aggregate_order_by",
    "update_from",
    "mod_operator_as_percent_sign",
    "percent_schema_names",
    "order_by_label_with_expression",
    "window_functions",
    "window_range",
    "window_range_numeric",
    "ctes",
    "ctes_with_update_delete",
    "ctes_with_values",
    "tuple_in",
    "dbapi_lastrowid",
    "server_defaults",
    "expression_server_defaults",
    "views",
    "computed_columns",
    "computed_columns_stored",
    "computed_columns_virtual",
    "computed_columns_reflect_persisted",
    "reflects_pk_names",
    "foreign_key_constraint_name_reflection",
    "foreign_key_constraint_option_reflection_ondelete",
    "fk_constraint_option_reflection_ondelete_restrict",
    "fk_constraint_option_reflection_ondelete_noaction",
    "foreign_key_constraint_option_reflection_onupdate",
    "fk_constraint_option_reflection_onupdate_restrict",
    "reflect_table_options",
    "indexes_with_expressions",
    "inline_check_constraint_reflection",
    "check_constraint_reflection",
    "unicode_ddl",
    "datetime_historic",
    "date_historic",
    "timestamp_microseconds",
    "json_type",
    "supports_bitwise_or",
    "supports_bitwise_and",
    "supports_bitwise_not",
    "supports_bitwise_shift",
]
"""What not every database has, and SQLite does."""


class Requirements(SuiteRequirements):
    def get_order_by_collation(self, config: Any) -> str:
        return "NOCASE"


for _name in (*WITHOUT, *NOT_SQLITE):
    setattr(Requirements, _name, property(lambda _self: exclusions.closed()))
for _name in SQLITE:
    setattr(Requirements, _name, property(lambda _self: exclusions.open()))
