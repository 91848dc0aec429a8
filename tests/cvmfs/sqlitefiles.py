"""SQLite databases as bytes."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


def build(directory: Path, schema: str, rows: Mapping[str, Sequence[tuple[object, ...]]]) -> bytes:
    """Return a database with tables made by ``schema`` and their rows; it is written in a directory."""
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        place = Path(temporary) / "db"
        with contextlib.closing(sqlite3.connect(place, isolation_level=None)) as database:
            database.executescript(
                f"PRAGMA page_size=1024; PRAGMA journal_mode=off; PRAGMA synchronous=off; BEGIN; {schema}"
            )
            for table, values in rows.items():
                if values:
                    places = ", ".join("?" * len(values[0]))
                    database.executemany(f"INSERT INTO {table} VALUES ({places})", values)
            database.execute("COMMIT")
        return place.read_bytes()


@contextlib.contextmanager
def opened(directory: Path, data: bytes) -> Iterator[sqlite3.Connection]:
    """Open a database that is given as bytes, for reading."""
    with tempfile.NamedTemporaryFile(dir=directory) as temporary:
        temporary.write(data)
        temporary.flush()
        with contextlib.closing(sqlite3.connect(temporary.name)) as database:
            database.text_factory = lambda text: text.decode(errors="surrogateescape")
            yield database
