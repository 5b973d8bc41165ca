/* The layout of shared memory and the numbers of points, for bypassprof.h.
 *
 * Generated from the crate bypassprof-wire: BLESS=1 cargo test -p bypassprof-capi header
 * What the words mean: docs/reference/shared-memory.md. */
#ifndef BYPASSPROF_ABI_H
#define BYPASSPROF_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define BYPASSPROF_ASSERT static_assert
#else
#define BYPASSPROF_ASSERT _Static_assert
#endif
#define BYPASSPROF_AT(type, field, at) BYPASSPROF_ASSERT(offsetof(struct type, field) == (at), #type "." #field)
#define BYPASSPROF_SIZE(type, bytes) BYPASSPROF_ASSERT(sizeof(struct type) == (bytes), #type)

#define BYPASSPROF_LAYOUT_VERSION 2
#define BYPASSPROF_LAYOUT_OLDEST_COMPATIBLE 1
#define BYPASSPROF_RING_MAGIC UINT64_C(0x00474e4952707962)
#define BYPASSPROF_CONTROL_MAGIC UINT64_C(0x004c525443707962)
#define BYPASSPROF_RING_HEADER_BYTES 4096
#define BYPASSPROF_CONTROL_BYTES 16384
#define BYPASSPROF_MAX_RINGS 512
#define BYPASSPROF_MAX_OWN_POINTS 96
#define BYPASSPROF_NAME_BYTES 32
#define BYPASSPROF_SLOT_BYTES 16
#define BYPASSPROF_MAX_SLOTS 4
#define BYPASSPROF_ARGS_PER_CONT 3
#define BYPASSPROF_STAMP_BITS 48
#define BYPASSPROF_SWITCH_UNSET UINT64_C(0)
#define BYPASSPROF_SWITCH_OFF UINT64_C(1)
#define BYPASSPROF_SWITCH_ON UINT64_C(2)
#define BYPASSPROF_MODE_DRAIN UINT64_C(0)
#define BYPASSPROF_MODE_FLIGHT UINT64_C(1)
#define BYPASSPROF_ENTRY_FREE 0
#define BYPASSPROF_ENTRY_OPENING 1
#define BYPASSPROF_ENTRY_LIVE 2
#define BYPASSPROF_ENTRY_ENDED 3
#define BYPASSPROF_STAGE_NIC 0
#define BYPASSPROF_STAGE_RINGS 1
#define BYPASSPROF_STAGE_TIMERS 2
#define BYPASSPROF_STAGE_SIDE 3
#define BYPASSPROF_STAGE_APP 4
#define BYPASSPROF_LOOP_WORKING 1
#define BYPASSPROF_LOOP_IDLE 2
#define BYPASSPROF_FIRST_OWN_POINT 256
#define BYPASSPROF_LAST_OWN_POINT 65279
#define BYPASSPROF_POINT_LOST 65533
#define BYPASSPROF_POINT_EPOCH 65534
#define BYPASSPROF_POINT_CONT 65535

/* Points: what happened; what the flow field and the arguments hold. */

/* First empty round after work, stamped at that round's start: empty polling from here on.
 * flow: 0
 * arg 0: 0
 */
#define BYPASSPROF_IDLE_BEGIN 1

/* Start of the first working round after empty ones.
 * flow: high half of the count
 * arg 0: empty rounds since idle_begin, low half
 */
#define BYPASSPROF_IDLE_END 2

/* One sampled round, stamped in full; empty rounds are sampled too.
 * flow: frames received << 16 | frames sent
 * arg 0: ticks of the whole round
 * arg 1: ticks in nic
 * arg 2: ticks in rings
 * arg 3: ticks in timers
 * arg 4: ticks in side polls
 * arg 5: ticks in app
 * arg 6: application events
 * arg 7: one in how many rounds is sampled
 * arg 8: 0
 * arg 9: 0
 */
#define BYPASSPROF_LOOP 3

/* Frames were received; stamped before the receive call.
 * flow: queue << 24 | capacity << 12 | frames
 * arg 0: running number of the first frame on this queue
 */
#define BYPASSPROF_RX_BURST 4

/* Frames were handed to the device.
 * flow: queue << 24 | accepted << 12 | asked
 * arg 0: running number of the first frame on this queue
 * arg 1: age of the oldest frame in ticks
 * arg 2: trigger: 0 at once, 1 batch full, 2 timer, 3 end of round
 * arg 3: 0
 */
#define BYPASSPROF_TX_BURST 5

/* A TCP segment entered the stack.
 * flow: flow
 * arg 0: running number of the frame
 * arg 1: TCP flags << 24 | payload bytes
 * arg 2: bytes newly acknowledged
 * arg 3: peer's window in bytes
 */
#define BYPASSPROF_TCP_IN 6

/* A TCP segment left the stack.
 * flow: flow
 * arg 0: running number of the frame
 * arg 1: kind << 24 | payload bytes; kind: 0 data, 1 pure ack, 2 retransmission, 3 probe, 4 control
 * arg 2: bytes in flight
 * arg 3: congestion window in bytes
 * arg 4: peer's window in bytes
 * arg 5: limit: 0 none, 1 app, 2 cwnd, 3 peer, 4 buffer, 5 pace
 * arg 6: 0
 */
#define BYPASSPROF_TCP_OUT 7

/* Data or an event was made ready for the application.
 * flow: flow
 * arg 0: bytes
 * arg 1: depth of the queue it joined
 * arg 2: ticks since its rx_burst
 * arg 3: what: 0 data, 1 acknowledged bytes, 2 connection
 */
#define BYPASSPROF_DELIVER 8

/* The application began to handle a request.
 * flow: flow
 * arg 0: running number of the request on its thread
 */
#define BYPASSPROF_APP_START 9

/* The application finished a request.
 * flow: flow
 * arg 0: bytes of the reply
 */
#define BYPASSPROF_APP_END 10

/* The application asked the stack to send.
 * flow: flow
 * arg 0: bytes asked
 * arg 1: bytes accepted
 * arg 2: bytes free in the send buffer before the call
 * arg 3: 1 if the stack slept and was not woken, else 0
 */
#define BYPASSPROF_SEND_CALL 11

/* Something was dropped.
 * flow: flow, or 0
 * arg 0: layer << 24 | reason; layer: 1 nic, 2 eth, 3 ip, 4 tcp, 5 socket
 */
#define BYPASSPROF_DROP 12

/* A queue was full.
 * flow: flow, or 0
 * arg 0: capacity
 * arg 1: action: 0 drop, 1 spin, 2 sleep, 3 refuse, 4 abort
 * arg 2: tries, where it was tried again at once
 * arg 3: 0
 */
#define BYPASSPROF_FULL 13

/* The thread is about to block.
 * flow: 0
 * arg 0: longest sleep in us, 0 without limit
 */
#define BYPASSPROF_SLEEP 14

/* The thread runs again.
 * flow: flow, or 0
 * arg 0: cause: 0 unknown, 1 packet, 2 timeout, 3 peer thread, 4 signal
 */
#define BYPASSPROF_WAKE 15

/* An item crossed from one thread's queue to this thread.
 * flow: flow, or 0
 * arg 0: queue
 * arg 1: depth left
 * arg 2: age in ticks
 * arg 3: 0
 */
#define BYPASSPROF_HANDOFF 16

/* A timer ran.
 * flow: flow, or 0
 * arg 0: kind: 1 retransmit, 2 delayed ack, 3 persist, 4 keepalive, 5 time-wait, 6 tick
 * arg 1: lateness in ns
 * arg 2: 0
 * arg 3: 0
 */
#define BYPASSPROF_TIMER 17

/* A lock was taken after waiting.
 * flow: flow, or 0
 * arg 0: ticks waited
 */
#define BYPASSPROF_LOCK_WAIT 18

/* A packet left the fast path.
 * flow: flow
 * arg 0: reason: 1 syn, 2 flags, 3 options, 4 state
 */
#define BYPASSPROF_SLOW_PATH 19

/* Unacknowledged or unsent data, and nothing was sent for a long time.
 * flow: flow
 * arg 0: ticks since the last segment left
 * arg 1: bytes unacknowledged
 * arg 2: bytes unsent
 * arg 3: 0
 */
#define BYPASSPROF_STALL 20

/* Something besides the network was polled in a sampled round.
 * flow: 0
 * arg 0: ticks
 */
#define BYPASSPROF_SIDE_POLL 21

/* The program asked for a snapshot of its rings.
 * flow: 0
 * arg 0: a number of the program's choice
 */
#define BYPASSPROF_TRIGGER 22

/* A received frame that was looked at; stamped as its rx_burst.
 * flow: flow by its headers, else the device's hash
 * arg 0: running number of the frame on its queue
 * arg 1: TCP flags << 24 | bytes
 * arg 2: TCP sequence number
 * arg 3: age in ns by the frame's own stamp, 0xffffffff if not known
 */
#define BYPASSPROF_FRAME_IN 23

/* A frame that was looked at and that the device took; stamped as its tx_burst.
 * flow: flow by its headers, else the device's hash
 * arg 0: running number of the frame on its queue
 * arg 1: TCP flags << 24 | bytes
 * arg 2: TCP sequence number
 * arg 3: age in ns by the frame's own stamp, 0xffffffff if not known
 */
#define BYPASSPROF_FRAME_OUT 24

/* Every word is read and written whole, in the machine's byte order. */
struct bypassprof_identity {
    uint64_t magic;
    uint64_t version;
    uint64_t header_bytes;
    uint64_t file_bytes;
    uint64_t pid;
    uint64_t pid_namespace;
    uint64_t start_time;
    uint64_t uid;
    uint64_t boot_id[2];
    uint64_t base_tsc;
    uint64_t base_time;
    uint64_t reserved[4];
};
BYPASSPROF_AT(bypassprof_identity, magic, 0);
BYPASSPROF_AT(bypassprof_identity, version, 8);
BYPASSPROF_AT(bypassprof_identity, header_bytes, 16);
BYPASSPROF_AT(bypassprof_identity, file_bytes, 24);
BYPASSPROF_AT(bypassprof_identity, pid, 32);
BYPASSPROF_AT(bypassprof_identity, pid_namespace, 40);
BYPASSPROF_AT(bypassprof_identity, start_time, 48);
BYPASSPROF_AT(bypassprof_identity, uid, 56);
BYPASSPROF_AT(bypassprof_identity, boot_id, 64);
BYPASSPROF_AT(bypassprof_identity, base_tsc, 80);
BYPASSPROF_AT(bypassprof_identity, base_time, 88);
BYPASSPROF_AT(bypassprof_identity, reserved, 96);
BYPASSPROF_SIZE(bypassprof_identity, 128);

struct bypassprof_owner {
    uint64_t generation;
    uint64_t tid;
    uint64_t first_slot;
    uint64_t mode;
    uint64_t name[4];
    uint64_t ended;
    uint64_t ended_at;
    uint64_t reserved[6];
};
BYPASSPROF_AT(bypassprof_owner, generation, 0);
BYPASSPROF_AT(bypassprof_owner, tid, 8);
BYPASSPROF_AT(bypassprof_owner, first_slot, 16);
BYPASSPROF_AT(bypassprof_owner, mode, 24);
BYPASSPROF_AT(bypassprof_owner, name, 32);
BYPASSPROF_AT(bypassprof_owner, ended, 64);
BYPASSPROF_AT(bypassprof_owner, ended_at, 72);
BYPASSPROF_AT(bypassprof_owner, reserved, 80);
BYPASSPROF_SIZE(bypassprof_owner, 128);

struct bypassprof_writer_words {
    uint64_t head;
    uint64_t limit;
    uint64_t lost;
    uint64_t epoch;
    uint64_t dropped_slots;
    uint64_t extra_slots;
    uint64_t quiet_slots;
    uint64_t requests;
    uint64_t empty_rounds;
    uint64_t worked_rounds;
    uint64_t rx_bursts;
    uint64_t rx_packets;
    uint64_t rx_bytes;
    uint64_t tx_bursts;
    uint64_t tx_packets;
    uint64_t tx_bytes;
};
BYPASSPROF_AT(bypassprof_writer_words, head, 0);
BYPASSPROF_AT(bypassprof_writer_words, limit, 8);
BYPASSPROF_AT(bypassprof_writer_words, lost, 16);
BYPASSPROF_AT(bypassprof_writer_words, epoch, 24);
BYPASSPROF_AT(bypassprof_writer_words, dropped_slots, 32);
BYPASSPROF_AT(bypassprof_writer_words, extra_slots, 40);
BYPASSPROF_AT(bypassprof_writer_words, quiet_slots, 48);
BYPASSPROF_AT(bypassprof_writer_words, requests, 56);
BYPASSPROF_AT(bypassprof_writer_words, empty_rounds, 64);
BYPASSPROF_AT(bypassprof_writer_words, worked_rounds, 72);
BYPASSPROF_AT(bypassprof_writer_words, rx_bursts, 80);
BYPASSPROF_AT(bypassprof_writer_words, rx_packets, 88);
BYPASSPROF_AT(bypassprof_writer_words, rx_bytes, 96);
BYPASSPROF_AT(bypassprof_writer_words, tx_bursts, 104);
BYPASSPROF_AT(bypassprof_writer_words, tx_packets, 112);
BYPASSPROF_AT(bypassprof_writer_words, tx_bytes, 120);
BYPASSPROF_SIZE(bypassprof_writer_words, 128);

struct bypassprof_reader_words {
    uint64_t tail;
    uint64_t released;
    uint64_t mode;
    uint64_t lease;
    uint64_t reserved[4];
};
BYPASSPROF_AT(bypassprof_reader_words, tail, 0);
BYPASSPROF_AT(bypassprof_reader_words, released, 8);
BYPASSPROF_AT(bypassprof_reader_words, mode, 16);
BYPASSPROF_AT(bypassprof_reader_words, lease, 24);
BYPASSPROF_AT(bypassprof_reader_words, reserved, 32);
BYPASSPROF_SIZE(bypassprof_reader_words, 64);

struct bypassprof_ring_header {
    struct bypassprof_identity identity;
    struct bypassprof_owner owner;
    uint64_t capacity;
    uint64_t reserved_a[15];
    struct bypassprof_writer_words writer;
    struct bypassprof_reader_words reader;
    uint64_t reserved_b[56];
    uint64_t own_points[BYPASSPROF_MAX_OWN_POINTS][BYPASSPROF_NAME_BYTES / 8];
};
BYPASSPROF_AT(bypassprof_ring_header, identity, 0);
BYPASSPROF_AT(bypassprof_ring_header, owner, 128);
BYPASSPROF_AT(bypassprof_ring_header, capacity, 256);
BYPASSPROF_AT(bypassprof_ring_header, reserved_a, 264);
BYPASSPROF_AT(bypassprof_ring_header, writer, 384);
BYPASSPROF_AT(bypassprof_ring_header, reader, 512);
BYPASSPROF_AT(bypassprof_ring_header, reserved_b, 576);
BYPASSPROF_AT(bypassprof_ring_header, own_points, 1024);
BYPASSPROF_SIZE(bypassprof_ring_header, 4096);

struct bypassprof_switch_words {
    uint64_t state;
    uint64_t mode;
    uint64_t session;
    uint64_t ring_slots;
    uint64_t ring_bytes;
    uint64_t examined;
    uint64_t frames;
    uint64_t reserved[9];
};
BYPASSPROF_AT(bypassprof_switch_words, state, 0);
BYPASSPROF_AT(bypassprof_switch_words, mode, 8);
BYPASSPROF_AT(bypassprof_switch_words, session, 16);
BYPASSPROF_AT(bypassprof_switch_words, ring_slots, 24);
BYPASSPROF_AT(bypassprof_switch_words, ring_bytes, 32);
BYPASSPROF_AT(bypassprof_switch_words, examined, 40);
BYPASSPROF_AT(bypassprof_switch_words, frames, 48);
BYPASSPROF_AT(bypassprof_switch_words, reserved, 56);
BYPASSPROF_SIZE(bypassprof_switch_words, 128);

struct bypassprof_census {
    uint64_t rings;
    uint64_t ring_bytes;
    uint64_t unreached;
    uint64_t points_lock;
    uint64_t name[2];
    uint64_t flight;
    uint64_t left;
    uint64_t triggers;
    uint64_t reserved[7];
};
BYPASSPROF_AT(bypassprof_census, rings, 0);
BYPASSPROF_AT(bypassprof_census, ring_bytes, 8);
BYPASSPROF_AT(bypassprof_census, unreached, 16);
BYPASSPROF_AT(bypassprof_census, points_lock, 24);
BYPASSPROF_AT(bypassprof_census, name, 32);
BYPASSPROF_AT(bypassprof_census, flight, 48);
BYPASSPROF_AT(bypassprof_census, left, 56);
BYPASSPROF_AT(bypassprof_census, triggers, 64);
BYPASSPROF_AT(bypassprof_census, reserved, 72);
BYPASSPROF_SIZE(bypassprof_census, 128);

struct bypassprof_control_file {
    struct bypassprof_identity identity;
    struct bypassprof_switch_words switch_words;
    struct bypassprof_census census;
    uint64_t reserved[80];
    uint64_t own_points[BYPASSPROF_MAX_OWN_POINTS][BYPASSPROF_NAME_BYTES / 8];
    uint64_t rings[512];
    uint64_t ring_fds[512];
    uint64_t reserved_end[512];
};
BYPASSPROF_AT(bypassprof_control_file, identity, 0);
BYPASSPROF_AT(bypassprof_control_file, switch_words, 128);
BYPASSPROF_AT(bypassprof_control_file, census, 256);
BYPASSPROF_AT(bypassprof_control_file, reserved, 384);
BYPASSPROF_AT(bypassprof_control_file, own_points, 1024);
BYPASSPROF_AT(bypassprof_control_file, rings, 4096);
BYPASSPROF_AT(bypassprof_control_file, ring_fds, 8192);
BYPASSPROF_AT(bypassprof_control_file, reserved_end, 12288);
BYPASSPROF_SIZE(bypassprof_control_file, 16384);

/* The rounds of one polling loop; only bypassprof.h and the library look inside. */
struct bypassprof_poll_loop {
    uint8_t stamped;
    uint8_t on;
    uint8_t worked;
    uint8_t received;
    uint8_t sampling;
    uint8_t state;
    uint32_t countdown;
    uint32_t random;
    uint64_t start;
    uint64_t seen;
    uint64_t seen_quiet;
    uint64_t idle_from;
    uint64_t sample_mark;
    uint32_t sample_stages[5];
    uint32_t sample_rx;
    uint32_t sample_tx;
    uint32_t sample_events;
    uint64_t reserved[5];
};
BYPASSPROF_AT(bypassprof_poll_loop, stamped, 0);
BYPASSPROF_AT(bypassprof_poll_loop, on, 1);
BYPASSPROF_AT(bypassprof_poll_loop, worked, 2);
BYPASSPROF_AT(bypassprof_poll_loop, received, 3);
BYPASSPROF_AT(bypassprof_poll_loop, sampling, 4);
BYPASSPROF_AT(bypassprof_poll_loop, state, 5);
BYPASSPROF_AT(bypassprof_poll_loop, countdown, 8);
BYPASSPROF_AT(bypassprof_poll_loop, random, 12);
BYPASSPROF_AT(bypassprof_poll_loop, start, 16);
BYPASSPROF_AT(bypassprof_poll_loop, seen, 24);
BYPASSPROF_AT(bypassprof_poll_loop, seen_quiet, 32);
BYPASSPROF_AT(bypassprof_poll_loop, idle_from, 40);
BYPASSPROF_AT(bypassprof_poll_loop, sample_mark, 48);
BYPASSPROF_AT(bypassprof_poll_loop, sample_stages, 56);
BYPASSPROF_AT(bypassprof_poll_loop, sample_rx, 76);
BYPASSPROF_AT(bypassprof_poll_loop, sample_tx, 80);
BYPASSPROF_AT(bypassprof_poll_loop, sample_events, 84);
BYPASSPROF_SIZE(bypassprof_poll_loop, 128);

#undef BYPASSPROF_AT
#undef BYPASSPROF_SIZE

#endif
