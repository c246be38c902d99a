# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports in a file, as they are published: a line each, as JSON or CSV."""

import csv
import errno
import io
import json
import os
from datetime import UTC, datetime
from pathlib import Path

_CI, _BLOCK_CI = "ber_ci95", "bler_ci95"
_TIMES, _ENERGY = "inference_s_per_slot", "energy_per_slot_j"
COLUMNS = {
    "time": lambda p: p["time"],
    **{
        key: lambda p, key=key: p[key]
        for key in (
            "receiver", "channel", "sinr_db", "snr_db", "sir_db", "modulation", "slots",
            "missed_slots", "clusters", "bits", "bit_errors", "ber",
        )
    },
    "ber_low": lambda p: p[_CI] and p[_CI][0],
    "ber_high": lambda p: p[_CI] and p[_CI][1],
    **{
        key: lambda p, key=key: p[key]
        for key in ("mcs", "blocks", "block_errors", "bler", "goodput_bit_per_s")
    },
    "bler_low": lambda p: p[_BLOCK_CI] and p[_BLOCK_CI][0],
    "bler_high": lambda p: p[_BLOCK_CI] and p[_BLOCK_CI][1],
    "inference_p50_s": lambda p: p[_TIMES]["p50"],
    "inference_p99_s": lambda p: p[_TIMES]["p99"],
    "cpu_s_per_slot": lambda p: p["cpu_s_per_slot"],
    "flop_per_slot": lambda p: p["flop_per_slot"],
    **{
        f"{key}_j": lambda p, key=key: p[_ENERGY][key]
        for key in ("measured", "attributed", "net", "bound", "modelled")
    },
    "energy_source": lambda p: p[_ENERGY]["source"],
    "energy_invalid": lambda p: p[_ENERGY].get("invalid"),
}  # fmt: skip


class ReportLog:
    """Appends reports of one point to a file, which is complete after every line.

    path: *.jsonl holds whole reports with the "time" (UTC, ISO 8601) they were made at; *.csv one
    row of COLUMNS each, with joules per slot.

    Raises ValueError with one line for another suffix, a folder that is not there, and a CSV file
    of other columns.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if self.path.suffix not in (".jsonl", ".csv"):
            raise ValueError(f"log {path}: expected a name that ends in .jsonl or .csv")
        header = ",".join(COLUMNS) + "\n"
        try:
            with self.path.open("a+") as file:
                if self.path.suffix == ".csv":
                    file.seek(0)
                    first = file.readline(2 * len(header))
                    if not first:
                        file.write(header)
                    elif first != header:
                        raise ValueError(f"log {path}: it has other columns; give another name")
        except OSError as error:
            raise ValueError(f"log {path}: {error.strerror}") from error

    def append(self, report: dict) -> None:
        """Write one report, or nothing. Raises OSError."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = io.StringIO()
        if self.path.suffix == ".csv":
            point = report["points"][0] | {"time": now}
            csv.writer(line, lineterminator="\n").writerow(of(point) for of in COLUMNS.values())
        else:
            line.write(json.dumps({"time": now} | report, allow_nan=False) + "\n")
        data = line.getvalue().encode()
        with self.path.open("ab", buffering=0) as file:
            before = file.tell()
            if file.write(data) < len(data):  # a disk that is full took a part
                file.truncate(before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
