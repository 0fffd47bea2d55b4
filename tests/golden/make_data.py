"""Small data files and the rows that their reference readers see in them, for tests/unit/test_formats.c.

    python make_data.py            (needs pyarrow and pandas; the results in data/ are kept in the tree)

Parquet files are written by pyarrow with every codec, page version and encoding that sqz reads; CSV and TSV files are
read by pandas, as the `datasets` package does.  NAME.rows.jsonl holds the rows as sqz presents them: nested objects
flattened, missing values left out, elements of lists as texts (JSON for what is no text), numbers and booleans as
{"#": text}, so that their text is compared too.
"""
import datetime
import decimal
import json
import math
import os
import random

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")


def nested(v):
    """As JSON would show it; a map is a list of its pairs."""
    if isinstance(v, list) and v and isinstance(v[0], tuple):
        return [{"key": k, "value": nested(x)} for k, x in v]
    if isinstance(v, list):
        return [nested(x) for x in v]
    return {k: nested(x) for k, x in v.items()} if isinstance(v, dict) else v


def flat(v, name, out):
    if v is None or (isinstance(v, float) and math.isnan(v)):
        return
    if isinstance(v, dict):
        for k, x in v.items():
            flat(x, f"{name}.{k}" if name else k, out)
    elif isinstance(v, list):
        out[name] = [x if isinstance(x, str) else json.dumps(x, ensure_ascii=False, separators=(",", ":")) for x in nested(v)]
    elif isinstance(v, bool):
        out[name] = {"#": "true" if v else "false"}
    elif isinstance(v, (int, float)):
        out[name] = {"#": repr(v)}
    elif isinstance(v, decimal.Decimal):
        out[name] = {"#": format(v, "f")}
    elif isinstance(v, bytes):
        try:
            out[name] = v.decode()
        except UnicodeDecodeError:
            pass
    else:
        out[name] = str(v)


def expected(rows):
    out = []
    for row in rows:
        out.append({})
        flat(row, "", out[-1])
    return out


def put_expected(name, rows):
    with open(os.path.join(HERE, name + ".rows.jsonl"), "w", encoding="utf-8") as f:
        for row in expected(rows):
            f.write(json.dumps(row, ensure_ascii=False) + "\n")


def word(r):
    return "".join(r.choice("abc \n\"\\éß中😀\t\x01xyz") for _ in range(r.randrange(12)))


def maybe(r, f, p=0.2):
    return None if r.random() < p else f()


SCALARS = pa.schema([("body", pa.string()), pa.field("req", pa.int64(), nullable=False), ("f", pa.float64()), ("f32", pa.float32()), ("b", pa.bool_()),
                     ("u", pa.uint64()), ("i8", pa.int8()), ("same", pa.string()), ("d", pa.date32()), ("ts", pa.timestamp("us")),
                     ("dec", pa.decimal128(9, 3)), ("big", pa.decimal128(38, 5)), ("raw", pa.binary())])
NESTED = pa.schema([("choices", pa.struct([("text", pa.list_(pa.string())), ("label", pa.list_(pa.string()))])),
                    ("turns", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("n", pa.int32())]))),
                    ("ll", pa.list_(pa.list_(pa.int32()))), ("m", pa.map_(pa.string(), pa.int32())), ("answer", pa.int64())])


def scalars(r, i):
    return {"body": maybe(r, lambda: word(r)), "req": i - 3, "f": maybe(r, lambda: r.choice([0.1, 1e300, -2.5, 1e16, 1e-5, 1 / 3])),
            "f32": maybe(r, lambda: r.choice([0.5, 0.1, -3.0])), "b": maybe(r, lambda: r.random() < 0.5), "u": maybe(r, lambda: r.randrange(2**64)),
            "i8": maybe(r, lambda: r.randrange(-128, 128)), "same": r.choice(["alpha", "beta", None]),
            "d": maybe(r, lambda: datetime.date(1900 + r.randrange(200), r.randrange(1, 13), r.randrange(1, 28))),
            "ts": maybe(r, lambda: datetime.datetime(1950 + r.randrange(100), 3, 4, 5, 6, r.randrange(60), r.choice([0, 123456, 5]))),
            "dec": maybe(r, lambda: decimal.Decimal(r.randrange(-10**6, 10**6)).scaleb(-3)),
            "big": maybe(r, lambda: decimal.Decimal(r.randrange(-10**22, 10**22)).scaleb(-5)), "raw": maybe(r, lambda: r.randbytes(3))}


def lists(r, i):
    n = r.randrange
    return {"choices": maybe(r, lambda: {"text": maybe(r, lambda: [maybe(r, lambda: word(r), .1) for _ in range(n(5))]), "label": maybe(r, lambda: [r.choice("ABCD") for _ in range(n(4))])}),
            "turns": maybe(r, lambda: [maybe(r, lambda: {"role": r.choice(["user", "assistant"]), "content": maybe(r, lambda: word(r)), "n": n(5)}, .1) for _ in range(n(4))]),
            "ll": maybe(r, lambda: [maybe(r, lambda: [maybe(r, lambda: n(100), .1) for _ in range(n(4))], .1) for _ in range(n(4))]),
            "m": maybe(r, lambda: [(word(r) + str(k), n(9)) for k in range(n(3))]), "answer": i}


def parquet(name, schema, make, rows, **options):
    r = random.Random(name)
    table = pa.Table.from_pylist([make(r, i) for i in range(rows)], schema=schema)
    pq.write_table(table, os.path.join(HERE, name + ".parquet"), store_schema=False, write_statistics=False, **options)
    put_expected(name, pq.read_table(os.path.join(HERE, name + ".parquet")).to_pylist())


def delimited(name, text, sep):
    path = os.path.join(HERE, name)
    with open(path, "w", newline="", encoding="utf-8") as f:
        f.write(text)
    put_expected(name.split(".")[0], pa.Table.from_pandas(pd.read_csv(path, sep=sep), preserve_index=False).to_pylist())


def main():
    os.makedirs(HERE, exist_ok=True)
    parquet("snappy_dictionary", SCALARS, scalars, 20, compression="snappy", row_group_size=20)
    parquet("zstd_v2_delta", SCALARS, scalars, 20, compression="zstd", data_page_version="2.0", use_dictionary=False, write_page_checksum=True,
            column_encoding={"body": "DELTA_BYTE_ARRAY", "same": "DELTA_LENGTH_BYTE_ARRAY", "req": "DELTA_BINARY_PACKED", "f": "BYTE_STREAM_SPLIT", "b": "RLE", "i8": "DELTA_BINARY_PACKED"})
    parquet("gzip_plain_int96", SCALARS, scalars, 20, compression="gzip", use_dictionary=False, use_deprecated_int96_timestamps=True)
    parquet("nested_snappy_groups", NESTED, lists, 30, compression="snappy", row_group_size=11, data_page_size=64)
    parquet("nested_zstd_v2", NESTED, lists, 30, compression="zstd", data_page_version="2.0")
    parquet("nested_old_names", NESTED, lists, 20, compression="none", use_compliant_nested_type=False, use_dictionary=False)
    pq.write_table(SCALARS.empty_table(), os.path.join(HERE, "no_rows.parquet"), store_schema=False, write_statistics=False)
    delimited("quotes.csv", "\ufefftext,n,x,flag,hole,code,text\r\n\"a, \"\"b\"\"\r\nsecond line\",1,1.5,True,3,007,x\r\nplain,-2,1e5,False,,012,\"\"\r\n\r\nNA,3,.5,True,4,1,null\r\nend\" quote,4,inf,False,5,2,None", ",")
    delimited("tabs.tsv", "question\tanswer\tn\nwhat, then?\t\"so\tso\"\t9223372036854775807\nand?\tyes\t-9223372036854775808\nshort\n", "\t")


if __name__ == "__main__":
    main()
