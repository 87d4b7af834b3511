"""CSV tables: separators, byte order mark, comments, quotes, and atomic writing."""

import ast
from pathlib import Path

import pytest

from osteo_monai.data.csv_tables import optional_number, read_table, write_table
from osteo_monai.errors import UnusableInputError


def written(folder: Path, text: str) -> Path:
    path = folder / "t.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_one_reader_for_all_separators(tmp_path: Path, separator: str) -> None:
    text = f"\ufeff# made by hand\n{separator}\nName{separator}Age\n a {separator}1\n\nb\n"
    table = read_table(written(tmp_path, text), ("name",))
    assert table.header == ("name", "age")
    assert table.rows == ((4, {"name": "a", "age": "1"}), (6, {"name": "b", "age": ""}))
    assert (table.separator, table.comments, table.problems) == (separator, 1, ())


def test_a_table_of_one_column_names_the_separators(tmp_path: Path) -> None:
    message = "columns must be separated by commas, semicolons or tabs, got one column only"
    with pytest.raises(UnusableInputError, match=message):
        read_table(written(tmp_path, "name|age\na|1\n"), ("name",))
    assert read_table(written(tmp_path, "name\na;b\n"), ("name",)).rows == ((2, {"name": "a;b"}),)


def test_numbers_have_decimal_commas_unless_commas_separate_columns() -> None:
    assert [optional_number("age", text, ";") for text in ("1,5", "-,5", "1.5", "NA", "", "<NA>")] == [
        1.5,
        -0.5,
        1.5,
        None,
        None,
        None,
    ]
    for text, separator in (("1,5", ","), ("1.095,5", ";"), ("1e999", "\t"), ("x", ";")):
        with pytest.raises(ValueError, match=f"age must be a number, got '{text}'"):
            optional_number("age", text, separator)


def test_no_line_is_dropped_silently(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, 'name,age\na,1,2\n;;\n"b\nc",3\nd,"4\n'))
    assert table.problems == (
        "line 4: a quoted field continues to line 5",
        "line 6: a quote is not closed",
        "line 2: 3 fields for 2 columns",
    )
    assert table.rows == ((3, {"name": ";;", "age": ""}),)


def test_line_breaks_in_quotes_may_be_accepted(tmp_path: Path) -> None:
    path = written(tmp_path, 'name,age\n"b\nc",3\nd,4\ne,"5\nf,6\n')
    table = read_table(path, quoted_line_breaks=True)
    assert table.rows == ((2, {"name": "b c", "age": "3"}), (4, {"name": "d", "age": "4"}))
    assert table.problems == ("line 5: a quote is not closed",)


def test_columns_must_be_distinct(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="column age is repeated"):
        read_table(written(tmp_path, "name,age,Age\n"))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "made" / "t.csv"
    write_table(path, ("#name", "value"), [("#1", None), ('"a", b', float("nan")), ("ü", True)])
    assert path.read_bytes() == '"#name",value\n"#1",\n"""a"", b",\nü,1\n'.encode()
    assert [row["#name"] for _, row in read_table(path).rows] == ["#1", '"a", b', "ü"]


def test_a_failed_write_keeps_the_old_table(tmp_path: Path) -> None:
    path = written(tmp_path, "name\na\n")
    for row, sentence in ((("a\nb",), "one line"), (("a", "b"), "must have 1 cells, got 2")):
        with pytest.raises(ValueError, match=sentence):
            write_table(path, ("name",), [("c",), row])
    assert path.read_text() == "name\na\n"
    assert list(tmp_path.iterdir()) == [path]


ROOT = Path(__file__).parents[2]
CSV_MODULES = {
    "osteo_monai/data/csv_tables.py",
    "osteo_monai/screening/summary.py",
    "benchmarks/hostile/own_files.py",
    "benchmarks/hostile/tables.py",
}
"""``summary`` appends a row after each study, so that an interrupted run keeps them; the hostile inputs read it as any
other program does."""


def _imports_csv(path: Path) -> bool:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return "csv" in names | {node.module for node in nodes if isinstance(node, ast.ImportFrom)}


def test_only_one_module_reads_and_writes_csv() -> None:
    """B9: four readers and two writers of one table disagreed."""
    files = (path for folder in ("osteo_monai", "benchmarks", "tools") for path in (ROOT / folder).rglob("*.py"))
    assert {path.relative_to(ROOT).as_posix() for path in files if _imports_csv(path)} == CSV_MODULES
