"""All fields of many results as one Parquet file, with a schema that follows from the model of a result."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from osteo_monai.screening.result import RESULT_VERSION, ScreeningResult
from osteo_monai.utils.files import writing

__all__ = ["ResultsTable", "results_table"]

_ROWS = 500
"""Results in memory before they are written."""


class ResultsTable:
    """Add results to a Parquet file, in groups of rows."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._rows: list[dict[str, Any]] = []

    def add(self, folder: str, result: ScreeningResult) -> None:
        """Add one row: ``folder`` of the study and every field of ``result``."""
        values = result.model_dump(mode="json") | {"folder": folder}
        self._rows.append({field.name: _plain(values[field.name], field.type) for field in self._writer.schema})
        if len(self._rows) >= _ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are in memory."""
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._writer.schema))
        self._rows = []


@contextmanager
def results_table(path: Path) -> Iterator[ResultsTable]:
    """Give a table to add results to, which replaces ``path`` when the block succeeds.

    Models are structs, tuples are lists, dictionaries are maps, dates are days. The schema is the same for every batch
    of one ``RESULT_VERSION``, which is in the metadata of the file, so that tables of several batches can be joined.

    Raises:
        OSError: if the file cannot be written.
    """
    fields = {"folder": pa.string()} | _fields(ScreeningResult)
    schema = pa.schema(list(fields.items()), metadata={"result_version": RESULT_VERSION})
    with writing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        table = ResultsTable(writer)
        yield table
        table.flush()


_SIMPLE: dict[Any, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    date: pa.date32(),
}


def _fields(model: type) -> dict[str, pa.DataType]:
    """Return the type of each field of a model."""
    if issubclass(model, BaseModel):
        return {name: _type(field.annotation) for name, field in model.model_fields.items()}
    return {name: _type(annotation) for name, annotation in get_type_hints(model, include_extras=True).items()}


def _type(annotation: Any) -> pa.DataType:
    """Return the type of a field; raise ``TypeError`` for one that no column can have."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    known = [argument for argument in arguments if argument is not NoneType]
    if origin is Annotated:
        return _type(arguments[0])
    if NoneType in arguments and len(known) == 1:
        return _type(known[0])
    if origin is Literal and all(isinstance(value, str) for value in arguments):
        return pa.string()
    if origin is tuple and len({a for a in arguments if a is not Ellipsis}) == 1:
        return pa.list_(_type(arguments[0]))
    if origin is dict:
        return pa.map_(_type(arguments[0]), _type(arguments[1]))
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    if isinstance(annotation, type) and issubclass(annotation, str) and issubclass(annotation, Enum):
        return pa.string()
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation)):
        return pa.struct(list(_fields(annotation).items()))
    raise TypeError(f"a field of a result must have a type that Parquet has, got {annotation}")


def _plain(value: Any, kind: pa.DataType) -> Any:
    """Return a value of JSON as ``kind`` has it."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {field.name: _plain(value[field.name], field.type) for field in kind}
    if pa.types.is_map(kind):
        return [(key, _plain(item, kind.item_type)) for key, item in value.items()]
    if pa.types.is_list(kind):
        items: Sequence[Any] = value
        return [_plain(item, kind.value_type) for item in items]
    return date.fromisoformat(value) if pa.types.is_date(kind) else value
