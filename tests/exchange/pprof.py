"""Reads a pprof profile with PyPI's protobuf: the message types are described here, the decoding is Google's."""

import gzip, json, sys
from collections import Counter
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

I64, U64, BOOL, STR, MSG = 3, 4, 8, 9, 11
MESSAGES = {
    "ValueType": [("type", 1, I64, 0), ("unit", 2, I64, 0)],
    "Label": [("key", 1, I64, 0), ("str", 2, I64, 0), ("num", 3, I64, 0), ("num_unit", 4, I64, 0)],
    "Sample": [("location_id", 1, U64, 1), ("value", 2, I64, 1), ("label", 3, "Label", 1)],
    "Mapping": [("id", 1, U64, 0), ("filename", 5, I64, 0), ("has_functions", 7, BOOL, 0)],
    "Line": [("function_id", 1, U64, 0), ("line", 2, I64, 0)],
    "Location": [("id", 1, U64, 0), ("mapping_id", 2, U64, 0), ("line", 4, "Line", 1)],
    "Function": [("id", 1, U64, 0), ("name", 2, I64, 0), ("system_name", 3, I64, 0), ("filename", 4, I64, 0)],
    "Profile": [("sample_type", 1, "ValueType", 1), ("sample", 2, "Sample", 1), ("mapping", 3, "Mapping", 1),
                ("location", 4, "Location", 1), ("function", 5, "Function", 1), ("string_table", 6, STR, 1),
                ("time_nanos", 9, I64, 0), ("duration_nanos", 10, I64, 0), ("comment", 13, I64, 1),
                ("default_sample_type", 14, I64, 0)],
}
file = descriptor_pb2.FileDescriptorProto(name="profile.proto", package="perftools.profiles", syntax="proto3")
for name, fields in MESSAGES.items():
    message = file.message_type.add(name=name)
    for field, number, kind, repeated in fields:
        added = message.field.add(name=field, number=number, label=3 if repeated else 1)
        if isinstance(kind, str):
            added.type, added.type_name = MSG, f".perftools.profiles.{kind}"
        else:
            added.type = kind
pool = descriptor_pool.DescriptorPool()
pool.Add(file)
Profile = message_factory.GetMessageClass(pool.FindMessageTypeByName("perftools.profiles.Profile"))

profile = Profile.FromString(gzip.open(sys.argv[1]).read())
text = profile.string_table
assert text[0] == "" and profile.time_nanos >= 0 and text[profile.default_sample_type] == text[profile.sample_type[1].type]
functions = {f.id: text[f.name] for f in profile.function}
mappings = {m.id: text[m.filename] for m in profile.mapping}
locations = {l.id: functions[l.line[0].function_id] for l in profile.location if mappings[l.mapping_id]}
totals, states, threads = Counter(), Counter(), set()
for sample in profile.sample:
    labels = {text[l.key]: text[l.str] for l in sample.label if l.str}
    totals[locations[sample.location_id[0]]] += sample.value[1]
    states[labels["state"]] += sample.value[0]
    threads.add(labels["thread"])
    [locations[l] for l in sample.location_id]
print(json.dumps({
    "types": [[text[t.type], text[t.unit]] for t in profile.sample_type],
    "samples": sum(s.value[0] for s in profile.sample), "total": sum(totals.values()), "functions": totals,
    "states": states, "threads": sorted(threads)}))
