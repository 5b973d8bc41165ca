"""Reads a trace with the message types of PyPI's `perfetto`, and follows numbers to names as a viewer does."""

import json, sys
from collections import Counter, defaultdict
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

trace = Trace.FromString(open(sys.argv[1], "rb").read())
tracks, functions, frames, stacks, mappings, paths = {}, {}, {}, {}, {}, {}
events, slices, totals, depth = Counter(), Counter(), Counter(), defaultdict(int)
samples, unbalanced, last = 0, 0, defaultdict(int)
assert trace.packet[0].sequence_flags == 1
for packet in trace.packet:
    assert packet.trusted_packet_sequence_id == 1
    if packet.HasField("track_descriptor"):
        track = packet.track_descriptor
        assert not track.parent_uuid or track.parent_uuid in tracks, track
        tracks[track.uuid] = track.name or track.thread.thread_name or track.process.process_name
    data = packet.interned_data
    functions.update((f.iid, f.str.decode()) for f in data.function_names)
    paths.update((p.iid, p.str.decode()) for p in data.mapping_paths)
    mappings.update((m.iid, paths[m.path_string_ids[0]]) for m in data.mappings)
    for frame in data.frames:
        assert mappings[frame.mapping_id]
        frames[frame.iid] = functions[frame.function_name_id]
    for stack in data.callstacks:
        stacks[stack.iid] = [frames[f] for f in stack.frame_ids]
    if packet.HasField("perf_sample"):
        sample = packet.perf_sample
        samples += 1
        totals[stacks[sample.callstack_iid][-1]] += sample.timebase_count
    if packet.HasField("track_event"):
        event = packet.track_event
        events[tracks[event.track_uuid]] += 1
        if event.type == TrackEvent.TYPE_SLICE_BEGIN:
            depth[event.track_uuid] += 1
            slices[event.name] += 1
        elif event.type == TrackEvent.TYPE_SLICE_END:
            depth[event.track_uuid] -= 1
            unbalanced += depth[event.track_uuid] < 0
        if event.type in (TrackEvent.TYPE_SLICE_BEGIN, TrackEvent.TYPE_SLICE_END):
            unbalanced += packet.timestamp < last[event.track_uuid]
            last[event.track_uuid] = packet.timestamp
unbalanced += sum(d != 0 for d in depth.values())
print(json.dumps({"samples": samples, "total": sum(totals.values()), "functions": totals, "tracks": events,
                  "slices": slices, "unbalanced": unbalanced}))
