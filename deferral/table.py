"""Any file of answers as named columns: CSV, TSV, JSON lines, Parquet, npz, each plain or gzipped.

A column is an array of N rows: [N] of numbers or of text, or, in an npz, [N, K] of scores. Names
are kept as written, with spaces at their ends removed. Text that is a number in every row is a
number; an empty cell, NaN and null are missing: nan in a column of numbers, "" in one of text.
"""

import gzip
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from experiment import read_npz

FORMATS = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet", ".npz")
SEPARATORS = ",;\t|"
Columns = dict[str, np.ndarray]


def read(path: str | Path) -> tuple[Columns, str]:
    """The columns of a file, and one phrase on how it was read ("CSV separated by semicolons").

    FileNotFoundError where there is no file; ValueError, one line that names the file, for what
    cannot be read, has a column name twice or no rows.
    """
    path = Path(path)
    suffixes = [s.lower() for s in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    suffix = next(iter(suffixes[-2:-1] if packed else suffixes[-1:]), "")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if suffix == ".npy":
        raise ValueError(
            f"{path}: holds one array without a name; save labels and each model's scores together "
            "with numpy.savez(FILE, labels=..., local_logits=..., remote_logits=...)"
        )
    if suffix not in FORMATS or (packed and suffix in (".npz", ".parquet")):
        raise ValueError(
            f"{path}: unknown kind of file; these are read: {', '.join(FORMATS)}, and text with .gz"
        )
    if suffix == ".npz":
        columns, form = {name.strip(): a for name, a in read_npz(path).items()}, "npz"
    else:
        try:
            if suffix == ".parquet":
                columns, form = _read_parquet(path), "Parquet"
            elif suffix in (".jsonl", ".ndjson"):
                columns, form = _read_json_lines(path, packed), "JSON lines"
            else:
                columns, form = _read_text(path, packed)
        except (UnicodeDecodeError, OSError, EOFError, zlib.error) as e:
            raise ValueError(f"{path}: cannot be read ({str(e).splitlines()[0]})") from None
        except ValueError as e:
            raise ValueError(f"{path}: {str(e).strip().splitlines()[0]}") from None
    if not columns or not any(len(c) for c in columns.values() if c.ndim):
        raise ValueError(f"{path}: has no rows; it needs a header and a row a sample")
    return columns, form


def _read_text(path: Path, packed: bool) -> tuple[Columns, str]:
    """Text with a separator, which is the one that the header has most of."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    with (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig", newline="") as file:
        header = file.readline()
    if not header.strip():
        raise ValueError("has no rows; it needs a header and a row a sample")
    separator = max(SEPARATORS, key=header.count)
    nulls = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]
    convert = arrow_csv.ConvertOptions(null_values=nulls, strings_can_be_null=True)
    parse = arrow_csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    try:
        table = arrow_csv.read_csv(path, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as e:
        if "conversion error" not in str(e):
            raise
        # A column's type was inferred from the first megabyte: infer it from all rows at once.
        whole = arrow_csv.ReadOptions(block_size=2**31 - 1)
        table = arrow_csv.read_csv(path, whole, parse, convert)
    columns = _from_arrow(table)
    name = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}[separator]
    decimal = separator != "," and _convert_decimal_commas(columns)
    return columns, f"text separated by {name}{', with decimal commas' if decimal else ''}"


def _convert_decimal_commas(columns: Columns) -> bool:
    """Text columns whose every value is a number with a comma become numbers; whether one did."""
    number = re.compile(r"(?:[-+]?(?:\d*,\d+|\d+)(?:[eE][-+]?\d+)?)?")
    converted = False
    for name, column in columns.items():
        if column.dtype.kind == "O" and all(number.fullmatch(text) for text in column):
            values = [float(text.replace(",", ".")) if text else np.nan for text in column]
            columns[name], converted = np.array(values), True
    return converted


def _read_json_lines(path: Path, packed: bool) -> Columns:
    from pyarrow import json as arrow_json

    with (gzip.open if packed else open)(path, "rb") as file:
        options = arrow_json.ReadOptions(block_size=2**31 - 1)
        return _from_arrow(arrow_json.read_json(file, read_options=options))


def _read_parquet(path: Path) -> Columns:
    from pyarrow import parquet

    return _from_arrow(parquet.read_table(path))


def _from_arrow(table: Any) -> Columns:
    """A pyarrow Table's columns; lists of equally many numbers become [N, K], others text."""
    import pyarrow as pa

    names = [str(name).strip() for name in table.column_names]
    _refuse_twice(names)
    columns: Columns = {}
    for name, chunks in zip(names, table.columns, strict=True):
        kind, column = chunks.type, chunks.combine_chunks()
        if pa.types.is_dictionary(kind):
            column, kind = column.dictionary_decode(), kind.value_type
        if isinstance(column, pa.ChunkedArray):  # of no rows
            column = pa.array([], type=kind)
        if _is_matrix(column):
            flat = _numpy(column.flatten())
            columns[name] = flat.astype(np.float64).reshape(len(column), -1)
        elif pa.types.is_boolean(kind):
            values = _numpy(column.cast(pa.int8()))
            columns[name] = values if column.null_count else values.astype(bool)
        elif pa.types.is_decimal(kind):
            columns[name] = _numpy(column.cast(pa.float64()))
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
            columns[name] = _numpy(column)
        elif pa.types.is_null(kind):
            columns[name] = np.full(len(column), np.nan)
        else:
            text = [("" if v is None else str(v)).strip() for v in column.to_pylist()]
            columns[name] = np.array(text, dtype=object)
    return columns


def _is_matrix(column: Any) -> bool:
    """Whether a pyarrow array holds lists of numbers, equally many in every row."""
    import pyarrow as pa

    kind = column.type
    lists = (pa.types.is_list, pa.types.is_fixed_size_list, pa.types.is_large_list)
    if not any(is_list(kind) for is_list in lists):
        return False
    of_numbers = pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)
    return of_numbers and len(set(column.value_lengths().to_pylist())) <= 1


def _numpy(column: Any) -> np.ndarray:
    """The values of a pyarrow array; nulls become nan.

    By DLPack where there are none: pyarrow's to_numpy imports pandas, a fifth of a second.
    """
    return column.to_numpy(zero_copy_only=False) if column.null_count else np.from_dlpack(column)


def _refuse_twice(names: list[str]) -> None:
    lowered = [name.strip().lower() for name in names]
    for name in lowered:
        if lowered.count(name) > 1:
            raise ValueError(f"has the column {name} twice")
