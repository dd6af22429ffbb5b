"""Captions in a CSV file with a header, or in JSONL: the unmistakable is read, the rest refused by file and line."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusionframes_core.media.media_files import VIDEO_SUFFIXES

from .items import DataError
from .text_files import UnreadableText, lines_of, lone_surrogate, parse_json, read_text

VIDEO_COLUMNS = ("video", "path", "file", "file_name", "name", "filename", "video_path")
CAPTION_COLUMNS = ("caption", "text", "prompt")
DELIMITERS = (",", ";", "\t", "|")
QUOTES_HINT = 'a quote that opens must close before the row ends, and a quote inside quoted text is written twice ("")'


@dataclass(frozen=True)
class CaptionRow:
    """What one line says; a caption of "" says nothing."""

    line: int
    video: str
    caption: str


@dataclass(frozen=True)
class Table:
    """A CSV file whose header was read: lower-case names of its columns."""

    path: Path
    delimiter: str
    columns: list[str]

    def fit(self, fields: list[str], raw: str, line: int) -> list[str]:
        """The row's fields, as many as columns at most: a comma that belongs to the caption joins its text again."""
        while len(fields) > len(self.columns) and not fields[-1].strip():
            fields = fields[:-1]
        if len(fields) <= len(self.columns):
            return fields
        joined = self._join(raw.rstrip("\r\n")) if len(self.columns) == 2 else None
        if joined is None:
            raise DataError(
                f"{self.path}, line {line}: {len(fields)} fields for the columns {', '.join(self.columns)}: "
                f"put text that has a {self.delimiter!r} in double quotes"
            )
        return joined

    def _join(self, raw: str) -> list[str] | None:
        """Two fields of a row that has more delimiters: all but the video is the caption; None with quotes in it."""
        try:
            fields = next(csv.reader([raw], delimiter=self.delimiter, strict=True))
        except csv.Error:
            return None
        if self.columns[0] in VIDEO_COLUMNS:
            caption = self.delimiter.join(fields[1:])
            return [fields[0], caption] if raw.endswith(self.delimiter + caption) else None
        caption = self.delimiter.join(fields[:-1])
        return [caption, fields[-1]] if raw.startswith(caption + self.delimiter) else None


def read_captions(path: Path) -> dict[str, list[str]]:
    """Video name, as it is written, → its captions. Raises DataError that names the line."""
    texts: dict[str, list[str]] = defaultdict(list)
    for row in caption_rows(path):
        texts[row.video].extend([row.caption] if row.caption else [])
    return dict(texts)


def caption_rows(path: Path) -> list[CaptionRow]:
    """The rows of a .csv or .jsonl file (any case), at least one. Raises DataError that names the line."""
    if not path.is_file():
        raise DataError(f"no caption file at {path}")
    kind = path.suffix.lower()
    if kind not in READERS:
        raise DataError(f"captions must be a .csv or a .jsonl file; got {path}")
    try:
        text = read_text(path)
    except UnreadableText as error:
        raise DataError(f"{path} must be a readable {kind} file in UTF-8; it is {error}") from error
    rows = [_row(path, line, fields) for line, fields in READERS[kind](path, text)]
    if not rows:
        raise DataError(f"{path} must name videos and captions in the fields 'video' and 'caption'; it names none")
    return rows


def _row(path: Path, line: int, fields: dict[str, Any]) -> CaptionRow:
    video, text = (_one(path, line, fields, names) for names in (VIDEO_COLUMNS, CAPTION_COLUMNS))
    if not isinstance(video, str) or not isinstance(text, str | None):
        raise DataError(f"{path}, line {line}: needs text in the fields 'video' and 'caption'; got {fields}")
    half = lone_surrogate(video + (text or ""))
    if half:
        raise DataError(f"{path}, line {line}: {half} is half of a character, which no text can hold alone")
    return CaptionRow(line, video, text or "")


def _one(path: Path, line: int, fields: dict[str, Any], names: tuple[str, ...]) -> Any:
    """What the fields of these names say, None for nothing. Raises DataError where they say different things."""
    texts = {name: value.strip() if isinstance(value, str) else value for name, value in fields.items()}
    said = {name: value for name, value in texts.items() if column_name(name) in names and value}
    first, *others = said or [""]
    for other in others:
        if said[other] != said[first]:
            raise DataError(
                f"{path}, line {line}: {first!r} is {said[first]!r} and {other!r} is {said[other]!r}, which mean the "
                "same field: leave out one of the two"
            )
    return said.get(first)


def column_name(name: str) -> str:
    """A column's name as VIDEO_COLUMNS and CAPTION_COLUMNS have it: ` File Name` → `file_name`."""
    return re.sub(r"[\s-]+", "_", name.strip().casefold())


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines_of(text), 1):
        if line.strip():
            try:
                row = parse_json(line)
            except ValueError as error:
                raise DataError(f"{path} must be a readable .jsonl file; line {number} is no JSON: {error}") from error
            yield number, row if isinstance(row, dict) else {"": row}


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = io.StringIO(text, newline="").readlines()
    records = [record for record in _records(path, lines, _delimiter(path, lines)) if any(map(str.strip, record[1]))]
    if not records:
        return
    _, header, _ = records[0]
    while not header[-1].strip():
        header = header[:-1]
    table = Table(path, _delimiter(path, lines), [column_name(name) for name in header])
    repeated = {name for name in table.columns if name and table.columns.count(name) > 1}
    if repeated:
        raise DataError(f"{path}, line {records[0][0]}: two columns are called {min(repeated)!r}")
    wanted = all(set(table.columns) & set(names) for names in (VIDEO_COLUMNS, CAPTION_COLUMNS))
    for line, fields, raw in records[1:]:
        if not wanted:
            raise DataError(
                f"{path}, line {line}: needs text in the fields 'video' and 'caption', which the header must name; "
                f"it has {', '.join(header)}"
            )
        yield line, dict(zip(table.columns, table.fit(fields, raw, line), strict=False))


READERS = {".csv": _csv_rows, ".jsonl": _json_rows}


def _delimiter(path: Path, lines: list[str]) -> str:
    """The one that makes the header name a video and a caption; a comma where none does."""
    first = [line for line in lines if line.strip()][:1]
    for delimiter in DELIMITERS:
        columns = {column_name(name) for _, fields, _ in _records(path, first, delimiter) for name in fields}
        if columns & set(VIDEO_COLUMNS) and columns & set(CAPTION_COLUMNS):
            return delimiter
    return DELIMITERS[0]


def _records(path: Path, lines: list[str], delimiter: str) -> Iterator[tuple[int, list[str], str]]:
    """First line, fields and own text of every record. Raises DataError for quotes that do not fit."""
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        start = reader.line_num
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}, line {start + 1}: {error}; {QUOTES_HINT}") from error
        if fields is None:
            return
        swallowed = next((field for field in fields if _swallows(field, delimiter)), None)
        if swallowed is not None:
            raise DataError(f"{path}, line {start + 1}: a quoted text holds what looks like another row; {QUOTES_HINT}")
        yield start + 1, fields, "".join(lines[start : reader.line_num])


def _swallows(field: str, delimiter: str) -> bool:
    """Whether a field of several lines has one that begins as a row does: a video's name and the delimiter."""
    suffixes = "|".join(map(re.escape, VIDEO_SUFFIXES))
    row = re.compile(rf"\s*\"?[^{re.escape(delimiter)}]+({suffixes})\"?\s*{re.escape(delimiter)}", re.IGNORECASE)
    return any(row.match(line) for line in re.split(r"\r\n|\r|\n", field)[1:])
