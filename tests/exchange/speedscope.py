"""Checks a file against the schema in speedscope's own package, then adds up what it holds."""

import json, sys, tarfile
from collections import Counter
import jsonschema

package = tarfile.open(sys.argv[2])
schema = json.load(package.extractfile("package/dist/release/file-format-schema.json"))
file = json.load(open(sys.argv[1]))
jsonschema.validate(file, {**schema, "$ref": "#/definitions/FileFormat.File"} if "$ref" not in schema else schema)
names = [f["name"] for f in file["shared"]["frames"]]
totals = Counter()
for profile in file["profiles"]:
    assert profile["endValue"] == sum(profile["weights"]) and profile["unit"] == "nanoseconds"
    for stack, weight in zip(profile["samples"], profile["weights"]):
        totals[names[stack[-1]]] += weight
total = sum(totals.values())
print(json.dumps({"samples": total // 1003009, "total": total, "functions": totals}))
