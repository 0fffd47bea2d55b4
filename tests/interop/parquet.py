"""Rows of random Parquet files in sqz and in pyarrow.

    python parquet.py SQZ [TRIALS]

Every trial writes a table with random values, codec, page version, encodings and group sizes, reads it back with
pyarrow and with `sqz data show`, and compares every field of every row.
"""
import json
import os
import random
import subprocess
import sys
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
import make_data as golden  # noqa: E402


def plain(row):
    """The golden form without its marks of numbers.  Bytes that hold a zero are no text: the field is left out."""
    row = {k: json.loads(v["#"]) if isinstance(v, dict) else v for k, v in row.items()}
    return {k: v for k, v in row.items() if not (isinstance(v, str) and "\0" in v)}


def trial(sqz, path, seed):
    r = random.Random(seed)
    schema, make = r.choice([(golden.SCALARS, golden.scalars), (golden.NESTED, golden.lists)])
    table = pa.Table.from_pylist([make(r, i) for i in range(r.choice([1, 7, 100, 1500]))], schema=schema)
    options = dict(compression=r.choice(["snappy", "zstd", "gzip", "none"]), data_page_version=r.choice(["1.0", "2.0"]), use_dictionary=r.choice([True, False]),
                   row_group_size=r.choice([10, 333, 10000]), data_page_size=r.choice([100, 2000, 1 << 20]), write_page_checksum=r.random() < 0.5,
                   use_compliant_nested_type=r.random() < 0.7, use_deprecated_int96_timestamps=r.random() < 0.3)
    pq.write_table(table, path, **options)
    want = [plain(row) for row in golden.expected(pq.read_table(path).to_pylist())]
    out = subprocess.run([sqz, "data", "show", path, "--rows", "0"], capture_output=True, text=True, check=True).stdout
    got = [json.loads(line) for line in out.splitlines()]
    if got != want:
        row = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        sys.exit(f"trial {seed}: row {row} of {len(want)} differs ({len(got)} read); {options}\n{got[row:row + 1]}\n{want[row:row + 1]}")
    return len(want)


def main(sqz, trials):
    rows = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(trials):
            rows += trial(sqz, os.path.join(folder, "x.parquet"), seed)
    print(f"parquet: {trials} files, {rows} rows, all equal")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 40)
