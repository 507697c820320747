"""The layout is part of the design: what may import what, and how long a file may be."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "streamflow"
FILES = sorted(ROOT.rglob("*.py"))
CORE = sorted((ROOT / "core").glob("*.py"))

#: The order in which data meets the files of the core; a file imports only earlier ones.
READING_ORDER = [
    "describe",
    "folder_name",
    "closing",
    "merging",
    "plan",
    "parquet",
    "hive",
    "file_layout",
    "folder_candidates",
    "tables",
    "tree",
    "sides",
    "contents",
    "sensitive_fields",
    "compile_checks",
    "revisions",
    "result_types",
    "read_back",
    "compile",
    "archives",
    "recall",
    "step",
    "halving",
    "decode",
    "rounding",
    "breaker",
    "gate",
    "watermark",
    "idle",
    "keys",
    "memory",
    "inherited",
    "dedup",
    "changed",
    "expansion",
    "chain",
    "enrichment",
    "flow",
    "json_values",
    "window",
    "placed",
    "aggregate",
    "sliding",
    "close",
    "amend",
    "checks",
    "rolling",
    "advance",
    "names",
    "headers",
    "poison",
    "extent_records",
    "rows",
    "raw_rows",
    "quality",
    "masking",
    "part",
    "table_records",
    "seal",
    "sink_spec",
    "delta_stats",
    "compatibility",
    "table_schema",
    "parquet_tail",
    "cut",
    "compaction",
    "origins",
    "packing",
    "summary",
    "journal",
]
CLIENTS = {
    "aiokafka",
    "faust",
    "mode",
    "rocksdict",
    "obstore",
    "deltalake",
    "duckdb",
    "rich",
    "click",
}
STORAGE = sorted((ROOT / "storage").glob("*.py"))
CORE_MAY = {"pyarrow", "pydantic", "orjson", "streamflow", "__future__"}
CLOCKS = {"asyncio", "time", "random", "logging", "secrets", "uuid", "socket", "threading"}
LAYERS = {
    "storage": (
        "engine",
        "edges",
        "testing",
        "lineage",
        "dlq",
        "broker",
        "cli",
        "service",
        "local",
    ),
    "core": (
        "storage",
        "engine",
        "edges",
        "testing",
        "lineage",
        "dlq",
        "broker",
        "cli",
        "service",
        "local",
    ),
    "engine": ("edges", "testing", "lineage", "dlq", "broker", "cli", "local"),
    "edges": ("engine", "testing", "lineage", "dlq", "broker", "cli", "service", "local"),
    "testing": ("lineage", "dlq", "broker", "cli", "service", "local"),
}


def imports(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return names


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_functions_stay_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


@pytest.mark.parametrize("path", [*CORE, *STORAGE], ids=relative)
def test_core_has_no_io_no_clock_and_no_event_loop(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & (CLIENTS | CLOCKS)
    kinds = {type(node) for node in ast.walk(ast.parse(path.read_text()))}
    assert not kinds & {ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith}


@pytest.mark.parametrize("path", CORE, ids=relative)
def test_core_files_import_only_what_comes_before_them(path: Path) -> None:
    assert path.stem == "__init__" or path.stem in READING_ORDER, "add it where data meets it"
    mine = READING_ORDER.index(path.stem) if path.stem in READING_ORDER else 0
    used = [n.split(".")[2] for n in imports(path) if n.startswith("streamflow.core.")]
    assert not [name for name in used if READING_ORDER.index(name) >= mine]


@pytest.mark.parametrize("layer", LAYERS)
def test_no_layer_looks_up(layer: str) -> None:
    for path in sorted((ROOT / layer).rglob("*.py")):
        above = tuple(f"streamflow.{name}" for name in LAYERS[layer])
        assert not [name for name in imports(path) if name.startswith(above)], relative(path)


def test_importing_streamflow_brings_no_client() -> None:
    values = [
        *(f"aggregates/{path.stem}" for path in (ROOT / "aggregates").glob("*.py")),
        "batch",
        "clock",
        "envelopes",
        "destinations",
        "edge",
        "enrich",
        "errors",
        "expand",
        "ports",
        "results",
        "rules",
        "schema",
        "sql",
        "sql_numbers",
        "stream",
        "sources",
        "on_error",
        "thresholds",
        "topology",
        "triggers",
        "windows",
        "writer_settings",
    ]
    for name in values:
        roots = {found.split(".")[0] for found in imports(ROOT / f"{name}.py")}
        assert not roots & CLIENTS - {"faust"}, name


def test_the_night_can_raise_the_examples_of_every_law() -> None:
    tests = ROOT.parent / "tests"
    fixed = [
        str(path.relative_to(tests))
        for path in sorted(tests.rglob("*.py"))
        if "max_examples=" in path.read_text()
        and path.name not in ("examples.py", "test_layout.py")
    ]
    assert not fixed, f"use @law() or @examples(n) of tests/examples.py in {fixed}"


def test_every_law_says_that_it_is_one() -> None:
    laws = ROOT.parent / "tests" / "laws"
    silent = [
        f"{path.name}: {found.name}"
        for path in sorted(laws.glob("test_*.py"))
        for found in ast.walk(ast.parse(path.read_text()))
        if isinstance(found, ast.FunctionDef)
        and {"given"} == {_called(d) for d in found.decorator_list} & {"given", "law"}
    ]
    assert not silent, f"put @law() above @given in {silent}"


def _called(decorator: ast.expr) -> str:
    call = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(call)
