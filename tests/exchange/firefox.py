"""Follows the tables of a processed profile (docs-developer/processed-profile-format.md of firefox-devtools/profiler)
from samples to names: columns are as long as their table, indexes lie inside, a stack's caller comes before it."""

import gzip, json, sys
from collections import Counter

profile = json.load(gzip.open(sys.argv[1]))
meta = profile["meta"]
assert meta["version"] and meta["preprocessedProfileVersion"] and meta["symbolicated"] and meta["product"]
totals, samples, names = Counter(), 0, []


def table(of, *columns):
    for column in columns:
        if isinstance(of.get(column), list):
            assert len(of[column]) == of["length"], column
    return of


for thread in profile["threads"]:
    names.append(thread["name"])
    shared = profile.get("shared", thread)
    strings = shared.get("stringArray") or thread["stringArray"]
    get = lambda name: thread.get(name) or shared[name]
    frames = table(get("frameTable"), "func", "category")
    functions = table(get("funcTable"), "name")
    stacks = table(get("stackTable"), "frame", "prefix")
    for at, prefix in enumerate(stacks["prefix"]):
        assert prefix is None or prefix < at
    assert all(0 <= c < len(meta["categories"]) for c in frames["category"])
    rows = table(thread["samples"], "stack", "time", "timeDeltas", "weight")
    samples += rows["length"]
    times = rows.get("time") or rows["timeDeltas"]
    assert all(t >= 0 for t in rows.get("timeDeltas", [])) or times == sorted(times)
    for stack, weight in zip(rows["stack"], rows["weight"] or [1] * rows["length"]):
        totals[strings[functions["name"][frames["func"][stacks["frame"][stack]]]]] += weight
print(json.dumps({"samples": samples, "total": sum(totals.values()), "functions": totals, "threads": sorted(names),
                  "categories": [c["name"] for c in meta["categories"]]}))
