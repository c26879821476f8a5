"""What SQL may contain: node types of SQLite's grammar, pragmas, functions, table-valued functions, modules.

The law kept here: everything is refused that is not listed (F85). A list that names what is dangerous would miss what the next
SQLite brings; a list that names what is harmless makes that an honest refusal.
"""

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    """Long lists of plain words, where each is found at a glance."""
    return frozenset(text.split())


_QUERY_NODES: Final = """
    SelectStmt CompoundSelect WithClause CteDefinition ValuesClause ResultColumn OrderingTerm LimitClause JoinModifier JoinClause
    JoinPrefix TableRef SubqueryTableSource ParenTableSource AggregateFunctionCall OrderedSetFunctionCall FunctionCall
    FilterOver WindowDef NamedWindowDef FrameSpec FrameBound CastExpr ColumnRef SubqueryExpr ExistsExpr InExpr IsExpr
    BetweenExpr LikeExpr CaseExpr CaseWhen BinaryExpr UnaryExpr Literal ParenExpr IdentName RowValue Variable CollateExpr
    QualifiedName
"""
_CHANGE_NODES: Final = """
    InsertStmt UpdateStmt DeleteStmt UpsertClause SetClause CreateTableStmt ColumnDef ColumnConstraint TableConstraint
    ConstraintNameDeclaration ForeignKeyClause ForeignKeyOption CreateIndexStmt CreateViewStmt CreateTriggerStmt
    CreateVirtualTableStmt TriggerEvent RaiseExpr DropStmt AlterTableStmt AnalyzeOrReindexStmt VacuumStmt
"""
NODES: Final = _words(f"{_QUERY_NODES} {_CHANGE_NODES} PragmaStmt ExplainStmt")
"""Types of nodes that may stand anywhere in a statement; lists of nodes are not named, their members are. Not here: ATTACH, DETACH, BEGIN, COMMIT, ROLLBACK, SAVEPOINT, RELEASE."""

READS: Final = frozenset({"SelectStmt", "CompoundSelect", "ValuesClause"})
CHANGES: Final = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt"})
DEFINITIONS: Final = frozenset(
    {
        "CreateTableStmt",
        "CreateIndexStmt",
        "CreateViewStmt",
        "CreateTriggerStmt",
        "CreateVirtualTableStmt",
        "DropStmt",
        "AlterTableStmt",
        "AnalyzeOrReindexStmt",
        "VacuumStmt",
    }
)

PRAGMAS_WITH_ARGUMENT: Final = _words("""table_info table_xinfo table_list index_list index_info index_xinfo foreign_key_list foreign_key_check
    integrity_check quick_check""")
"""Reads, whatever their argument. Also allowed as table-valued functions, ``pragma_<name>``."""
PRAGMAS_BARE: Final = _words("""user_version schema_version application_id encoding page_count page_size freelist_count collation_list
    compile_options foreign_keys read_uncommitted""")
"""Reads only without an argument: with one, some of them write."""
PRAGMA_TABLES: Final = frozenset(
    f"pragma_{name}" for name in (*PRAGMAS_WITH_ARGUMENT, "compile_options", "collation_list")
)

TABLE_FUNCTIONS: Final = PRAGMA_TABLES | {"json_each", "json_tree", "jsonb_each", "jsonb_tree"}
"""Tables that take arguments: each gives no more rows than what it is given has parts."""
SYSTEM_TABLES: Final = _words("sqlite_schema sqlite_master sqlite_sequence sqlite_stat1 sqlite_stat3 sqlite_stat4")
"""Of the names that begin with ``sqlite_``; SQLite itself keeps the schema from being written."""
HIDDEN_TABLES: Final = _words("""sqlite_dbpage sqlite_stmt dbstat sqlite_memstat bytecode tables_used fsdir zipfile csv completion generate_series
    carray fts3tokenize readfile writefile""")
"""Eponymous virtual tables that read or write pages and files, show the process's inside, or never end."""

MODULES: Final = {
    "fts4": _words("content languageid matchinfo notindexed order prefix tokenize"),
    "fts5": _words("content content_rowid contentless_delete columnsize detail prefix tokenize"),
    "rtree": _words(""),
    "rtree_i32": _words(""),
}
"""And the options of each. Not here: fts4's ``compress`` and ``uncompress``, which name functions."""

FUNCTIONS: Final = _words("""
    abs changes char coalesce concat concat_ws format glob hex if ifnull iif instr last_insert_rowid length like likelihood
    likely lower ltrim max min nullif octet_length printf quote random randomblob replace round rtrim sign soundex
    sqlite_version substr substring subtype total_changes trim typeof unhex unicode unistr unistr_quote unlikely upper zeroblob
    avg count group_concat string_agg sum total median percentile percentile_cont percentile_disc
    row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value
    date time datetime julianday unixepoch strftime timediff current_date current_time current_timestamp
    acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10 log2 mod pi pow power
    radians sin sinh sqrt tan tanh trunc
    json jsonb json_array jsonb_array json_array_length json_array_insert jsonb_array_insert json_error_position json_extract
    jsonb_extract json_insert jsonb_insert json_object jsonb_object json_patch jsonb_patch json_pretty json_quote
    json_remove jsonb_remove json_replace jsonb_replace json_set jsonb_set json_type json_valid
    json_group_array jsonb_group_array json_group_object jsonb_group_object -> ->>
    bm25 highlight snippet offsets matchinfo match regexp
    """)
