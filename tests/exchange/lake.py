"""Asks DuckDB about a folder of exported recordings."""

import json, sys
import duckdb

lake = sys.argv[1]
read = lambda table: f"read_parquet('{lake}/{table}/**/*.parquet', hive_partitioning = true)"
ask = lambda question: duckdb.sql(question).fetchall()
p99 = ask(f"select host, stage, count(*), quantile_disc(ns, 0.99) from {read('spans')} group by host, stage")
count = lambda table: dict(ask(f"select recording, count(*) from {read(table)} group by recording"))
print(json.dumps({
    "p99": {f"{host} {stage}": [n, ns] for host, stage, n, ns in p99},
    "samples": count("samples"), "events": count("events"),
    "threads": ask(f"select count(distinct thread) from {read('samples')}")[0][0],
    "counters": ask(f"select count(*) from {read('counters')} where value > 0")[0][0]}))
