/* Probes for C11 and C++17 (GCC and Clang): events at points of a data path, bursts stamped once, rounds of a polling loop.
 *
 * In: calls on the data path; out: 16-byte slots in this thread's ring in shared memory. A probe cannot fail, print, lock,
 * or allocate after its thread's first event, and costs a load and a predicted branch while no recorder listens.
 *
 *     struct bypassprof_poll_loop rounds = bypassprof_poll_loop_new();
 *     for (;;) {
 *         bypassprof_begin(&rounds);
 *         uint32_t frames = receive(queue, buffers, 32);
 *         struct bypassprof_burst burst = bypassprof_rx_burst(&rounds, 0, frames, 32, first);
 *         bypassprof_stage(&rounds, BYPASSPROF_STAGE_NIC);
 *         for (uint32_t i = 0; i < frames; i++)
 *             bypassprof_burst_emit(burst, BYPASSPROF_DELIVER, flow_of(buffers[i]), length_of(buffers[i]));
 *         bypassprof_stage(&rounds, BYPASSPROF_STAGE_APP);
 *         bypassprof_end(&rounds);
 *     }
 *
 * Define BYPASSPROF_OFF and all of it compiles to nothing and needs no library. Define BYPASSPROF_SHARED when linking
 * with libbypassprof_capi.so instead of libbypassprof_capi.a: a point then costs a call. How to build with it:
 * docs/guide/probes-c.md; which versions fit together: docs/reference/c-abi.md. */
#ifndef BYPASSPROF_H
#define BYPASSPROF_H

#include "bypassprof_abi.h"

#ifndef __GNUC__
#error "bypassprof.h needs GCC or Clang: it uses their atomics and thread-local storage"
#endif

#define BYPASSPROF_INLINE static inline __attribute__((always_inline, unused))
#define BYPASSPROF_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* A connection's label in events: the same whichever end is named first; 0 is none. Addresses and ports are numbers in
 * host order (10.0.0.1 is 0x0a000001). The finaliser of SplitMix64 on both ends, as crate bypassprof-wire has it. */
#define BYPASSPROF_NO_FLOW UINT32_C(0)

BYPASSPROF_INLINE uint64_t bypassprof_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

BYPASSPROF_INLINE uint32_t bypassprof_join(uint64_t a, uint64_t b)
{
    uint64_t mixed = bypassprof_mix(a + b);
    uint32_t label = (uint32_t)(mixed ^ (mixed >> 32));
    return label ? label : 1;
}

BYPASSPROF_INLINE uint32_t bypassprof_flow_ipv4(uint32_t a, uint16_t a_port, uint32_t b, uint16_t b_port)
{
    return bypassprof_join(bypassprof_mix(((uint64_t)a << 16) | a_port), bypassprof_mix(((uint64_t)b << 16) | b_port));
}

BYPASSPROF_INLINE uint64_t bypassprof_end6(const uint8_t address[16], uint16_t port)
{
    uint64_t high = 0, low = 0;
    for (int i = 0; i < 8; i++) {
        high = (high << 8) | address[i];
        low = (low << 8) | address[8 + i];
    }
    return bypassprof_mix((bypassprof_mix(low) + high) ^ ((uint64_t)port << 48));
}

/* Addresses as they stand in a packet or in struct in6_addr; ports in host order. */
BYPASSPROF_INLINE uint32_t bypassprof_flow_ipv6(const uint8_t a[16], uint16_t a_port, const uint8_t b[16], uint16_t b_port)
{
    return bypassprof_join(bypassprof_end6(a, a_port), bypassprof_end6(b, b_port));
}

/* A 16-byte slot: [tsc:48 | point:16] [flow:32 | arg:32], or three more arguments of the event before it. */
struct bypassprof_slot {
    uint64_t word0;
    uint64_t word1;
};

/* One event, ready to be written. */
struct bypassprof_event {
    struct bypassprof_slot slots[BYPASSPROF_MAX_SLOTS];
};

/* What the library keeps per thread; more words follow that are its own. */
struct bypassprof_thread {
    struct bypassprof_ring_header *ring;
    uint64_t mask;
};

/* A thread's ring, or none (no header). The mask is never read from shared memory. */
struct bypassprof_ring {
    struct bypassprof_ring_header *header;
    uint64_t mask;
};

/* The library: what is rare. The number in the names is that of the C ABI, so that what does not fit does not link. */
#ifndef BYPASSPROF_OFF
#ifdef __cplusplus
extern "C" {
#endif
void bypassprof_attach_v1(void);
void bypassprof_push_v1(uint64_t stamp, const struct bypassprof_slot *slots, uint64_t count);
uint16_t bypassprof_register_v1(const char *name);
void bypassprof_name_thread_v1(const char *name);
uint32_t bypassprof_flight_v1(uint64_t bytes);
void bypassprof_trigger_v1(uint32_t why);
uint64_t bypassprof_now_v1(void);
void bypassprof_loop_switched_on_v1(struct bypassprof_poll_loop *loop);
void bypassprof_loop_switched_off_v1(struct bypassprof_poll_loop *loop);
void bypassprof_loop_start_sample_v1(struct bypassprof_poll_loop *loop);
void bypassprof_loop_note_stage_v1(struct bypassprof_poll_loop *loop, uint32_t stage);
void bypassprof_loop_tell_work_v1(struct bypassprof_poll_loop *loop);
void bypassprof_loop_end_of_work_v1(struct bypassprof_poll_loop *loop);
void bypassprof_loop_end_of_nothing_v1(struct bypassprof_poll_loop *loop);
#ifdef BYPASSPROF_SHARED
struct bypassprof_thread *bypassprof_thread_of_library_v1(void) __attribute__((const));
uint64_t *bypassprof_switch_of_library_v1(void) __attribute__((const));
#define BYPASSPROF_THREAD bypassprof_thread_of_library_v1()
#define BYPASSPROF_SWITCH bypassprof_switch_of_library_v1()
#else
extern __thread struct bypassprof_thread bypassprof_thread_v1 __attribute__((tls_model("initial-exec")));
extern uint64_t bypassprof_switch_v1[];
#define BYPASSPROF_THREAD (&bypassprof_thread_v1)
#define BYPASSPROF_SWITCH (&bypassprof_switch_v1[offsetof(struct bypassprof_control_file, switch_words.state) / 8])
#endif
#ifdef __cplusplus
}
#endif
#endif

BYPASSPROF_INLINE uint64_t bypassprof_load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

BYPASSPROF_INLINE void bypassprof_store(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

/* Totals have one writer, and readers need no order among them. */
BYPASSPROF_INLINE void bypassprof_add(uint64_t *total, uint64_t n)
{
    bypassprof_store(total, bypassprof_load(total) + n);
}

#ifdef BYPASSPROF_OFF
/* Everything below compiles, behind a switch that is always off, and the compiler drops it. */
#define bypassprof_push_v1(stamp, slots, count) ((void)(stamp), (void)(slots), (void)(count))
#define bypassprof_register_v1(name) ((void)(name), (uint16_t)0)
#define bypassprof_name_thread_v1(name) ((void)(name))
#define bypassprof_flight_v1(bytes) ((void)(bytes), UINT32_C(0))
#define bypassprof_trigger_v1(why) ((void)(why))
#define bypassprof_now_v1() UINT64_C(0)
#define bypassprof_loop_switched_on_v1(loop) ((void)(loop))
#define bypassprof_loop_switched_off_v1(loop) ((void)(loop))
#define bypassprof_loop_start_sample_v1(loop) ((void)(loop))
#define bypassprof_loop_note_stage_v1(loop, stage) ((void)(loop), (void)(stage))
#define bypassprof_loop_tell_work_v1(loop) ((void)(loop))
#define bypassprof_loop_end_of_work_v1(loop) ((void)(loop))
#define bypassprof_loop_end_of_nothing_v1(loop) ((void)(loop))

BYPASSPROF_INLINE int bypassprof_is_on(void)
{
    return 0;
}

BYPASSPROF_INLINE struct bypassprof_ring bypassprof_own_ring(void)
{
    struct bypassprof_ring none = {NULL, 0};
    return none;
}
#else
/* Whether points write events, or do not know yet. A point that sees the change late was reached earlier. */
BYPASSPROF_INLINE int bypassprof_is_on(void)
{
    return BYPASSPROF_UNLIKELY(bypassprof_load(BYPASSPROF_SWITCH) != BYPASSPROF_SWITCH_OFF);
}

/* The calling thread's ring, for callers that have looked at the switch; its first event makes one. */
BYPASSPROF_INLINE struct bypassprof_ring bypassprof_own_ring(void)
{
    const struct bypassprof_thread *thread = BYPASSPROF_THREAD;
    if (BYPASSPROF_UNLIKELY(thread->ring == NULL))
        bypassprof_attach_v1();
    struct bypassprof_ring ring = {thread->ring, thread->mask};
    return ring;
}
#endif

BYPASSPROF_INLINE struct bypassprof_ring bypassprof_ring_if_on(void)
{
    struct bypassprof_ring none = {NULL, 0};
    return bypassprof_is_on() ? bypassprof_own_ring() : none;
}

/* The CPU's counter, unordered with the code around it. */
BYPASSPROF_INLINE uint64_t bypassprof_now(void)
{
#if defined(BYPASSPROF_OFF)
    return 0;
#elif defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return bypassprof_now_v1();
#endif
}

BYPASSPROF_INLINE uint64_t bypassprof_epoch(uint64_t stamp)
{
    return (stamp >> (BYPASSPROF_STAMP_BITS - 1)) + 1;
}

/* In flight mode a slot store must not be seen before the head that announced the slots up to it: pairs with the reader's
 * acquire fence between copying slots and reading the head again. No instruction on x86. */
BYPASSPROF_INLINE void bypassprof_before_overwriting(struct bypassprof_ring ring)
{
#ifdef __x86_64__
    (void)ring;
    __atomic_thread_fence(__ATOMIC_RELEASE);
#else
    if (bypassprof_load(&ring.header->owner.mode) == BYPASSPROF_MODE_FLIGHT)
        __atomic_thread_fence(__ATOMIC_RELEASE);
#endif
}

/* Writes an event whose stamp has been seen by bypassprof_push or bypassprof_date before. */
BYPASSPROF_INLINE void bypassprof_push_dated(struct bypassprof_ring ring, uint64_t stamp, struct bypassprof_event event, uint64_t count)
{
    struct bypassprof_writer_words *words = &ring.header->writer;
    uint64_t head = bypassprof_load(&words->head);
    uint64_t next = head + count;
    if (BYPASSPROF_UNLIKELY(next > bypassprof_load(&words->limit))) {
        struct bypassprof_event copy = event;
        bypassprof_push_v1(stamp, copy.slots, count);
        return;
    }
    bypassprof_before_overwriting(ring);
    struct bypassprof_slot *slots = (struct bypassprof_slot *)(void *)(ring.header + 1);
    for (uint64_t i = 0; i < count; i++) {
        struct bypassprof_slot *slot = &slots[(head + i) & ring.mask];
        bypassprof_store(&slot->word0, event.slots[i].word0);
        bypassprof_store(&slot->word1, event.slots[i].word1);
    }
    if (count > 1)
        bypassprof_add(&words->extra_slots, count - 1);
    /* Release head: publishes the slots, pairs with the reader's acquire load of it. */
    __atomic_store_n(&words->head, next, __ATOMIC_RELEASE);
}

/* Writes an event whose stamp was taken just now. */
BYPASSPROF_INLINE void bypassprof_push(struct bypassprof_ring ring, uint64_t stamp, struct bypassprof_event event, uint64_t count)
{
    if (BYPASSPROF_UNLIKELY(bypassprof_load(&ring.header->writer.epoch) != bypassprof_epoch(stamp))) {
        struct bypassprof_event copy = event;
        bypassprof_push_v1(stamp, copy.slots, count);
        return;
    }
    bypassprof_push_dated(ring, stamp, event, count);
}

/* Tells the epoch of a stamp if it is a new one, so that events with stamps near it can follow. */
BYPASSPROF_INLINE void bypassprof_date(struct bypassprof_ring ring, uint64_t stamp)
{
    if (BYPASSPROF_UNLIKELY(bypassprof_load(&ring.header->writer.epoch) != bypassprof_epoch(stamp)))
        bypassprof_push_v1(stamp, NULL, 0);
}

BYPASSPROF_INLINE struct bypassprof_slot bypassprof_head_slot(uint64_t stamp, uint16_t point, uint32_t flow, uint32_t arg)
{
    struct bypassprof_slot slot = {(stamp << 16) | point, ((uint64_t)flow << 32) | arg};
    return slot;
}

BYPASSPROF_INLINE struct bypassprof_slot bypassprof_cont_slot(uint32_t a, uint32_t b, uint32_t c)
{
    struct bypassprof_slot slot = {((uint64_t)a << 32) | BYPASSPROF_POINT_CONT, ((uint64_t)b << 32) | c};
    return slot;
}

/* The totals that a point stands for, and whether its event says anything about a round: side_poll, sleep and wake do not. */
BYPASSPROF_INLINE void bypassprof_write(struct bypassprof_ring ring, uint64_t stamp, int dated, uint16_t point, struct bypassprof_event event, uint64_t count)
{
    struct bypassprof_writer_words *words = &ring.header->writer;
    if (point == 0)
        return;
    if (point == BYPASSPROF_APP_END)
        bypassprof_add(&words->requests, 1);
    if (dated) {
        bypassprof_push_dated(ring, stamp, event, count);
    } else if (point == BYPASSPROF_SIDE_POLL || point == BYPASSPROF_SLEEP || point == BYPASSPROF_WAKE) {
        uint64_t before = bypassprof_load(&words->head);
        bypassprof_push(ring, stamp, event, count);
        bypassprof_add(&words->quiet_slots, bypassprof_load(&words->head) - before);
    } else {
        bypassprof_push(ring, stamp, event, count);
    }
}

/* Whether a recorder listens. Use it to skip work that only serves an event's arguments. */
BYPASSPROF_INLINE int bypassprof_enabled(void)
{
    return bypassprof_ring_if_on().header != NULL;
}

/* Registers a point of the program's own (31 bytes of its name count); the same name gives the same number. 0, which is
 * never recorded, when all are taken. */
BYPASSPROF_INLINE uint16_t bypassprof_register(const char *name)
{
    return bypassprof_register_v1(name);
}

/* Names the calling thread in recordings (32 bytes of it); without it the kernel's name of the thread is used. */
BYPASSPROF_INLINE void bypassprof_name_thread(const char *name)
{
    bypassprof_name_thread_v1(name);
}

/* Starts the flight recorder: the newest events of all threads are kept in at most so many bytes of shared memory, with
 * no recorder attached. 0 ends it. The same as BYPASSPROF_FLIGHT in the environment. Returns 0 if the program has to do
 * without shared memory. */
BYPASSPROF_INLINE int bypassprof_flight(uint64_t bytes)
{
    return (int)bypassprof_flight_v1(bytes);
}

/* Something worth looking at has happened: whoever waits with `bypassprof snapshot --on trigger` saves what led to it. */
BYPASSPROF_INLINE void bypassprof_trigger(uint32_t why)
{
    bypassprof_trigger_v1(why);
}

/* The stamp of a burst, reused by the events of its packets. Belongs to the thread that made it. */
struct bypassprof_burst {
    struct bypassprof_ring ring;
    uint64_t stamp;
};

/* A burst stamped now, for loops without a bypassprof_poll_loop. */
BYPASSPROF_INLINE struct bypassprof_burst bypassprof_burst_now(void)
{
    struct bypassprof_burst burst = {bypassprof_ring_if_on(), 0};
    if (burst.ring.header != NULL) {
        burst.stamp = bypassprof_now();
        bypassprof_date(burst.ring, burst.stamp);
    }
    return burst;
}

/* One event with the burst's stamp; stamped now if the burst has none, because no recorder listened or nothing came. */
BYPASSPROF_INLINE void bypassprof_burst_emit(
    struct bypassprof_burst burst, uint16_t point, uint32_t flow, uint32_t a)
{
    int dated = burst.ring.header != NULL;
    struct bypassprof_ring ring = dated ? burst.ring : bypassprof_ring_if_on();
    if (ring.header != NULL) {
        uint64_t stamp = dated ? burst.stamp : bypassprof_now();
        struct bypassprof_event event = {{bypassprof_head_slot(stamp, point, flow, a)}};
        bypassprof_write(ring, stamp, dated, point, event, 1);
    }
}

/* One event, stamped now. */
BYPASSPROF_INLINE void bypassprof_emit(uint16_t point, uint32_t flow, uint32_t a)
{
    struct bypassprof_burst unstamped = {{NULL, 0}, 0};
    bypassprof_burst_emit(unstamped, point, flow, a);
}

/* One event with three more arguments and the burst's stamp. */
BYPASSPROF_INLINE void bypassprof_burst_emit_with(
    struct bypassprof_burst burst, uint16_t point, uint32_t flow, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    int dated = burst.ring.header != NULL;
    struct bypassprof_ring ring = dated ? burst.ring : bypassprof_ring_if_on();
    if (ring.header != NULL) {
        uint64_t stamp = dated ? burst.stamp : bypassprof_now();
        struct bypassprof_event event = {{bypassprof_head_slot(stamp, point, flow, a), bypassprof_cont_slot(b, c, d)}};
        bypassprof_write(ring, stamp, dated, point, event, 2);
    }
}

/* One event with three more arguments, stamped now. */
BYPASSPROF_INLINE void bypassprof_emit_with(uint16_t point, uint32_t flow, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    struct bypassprof_burst unstamped = {{NULL, 0}, 0};
    bypassprof_burst_emit_with(unstamped, point, flow, a, b, c, d);
}

/* One event with six more arguments and the burst's stamp. */
BYPASSPROF_INLINE void bypassprof_burst_emit_with6(
    struct bypassprof_burst burst, uint16_t point, uint32_t flow, uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e, uint32_t f, uint32_t g)
{
    int dated = burst.ring.header != NULL;
    struct bypassprof_ring ring = dated ? burst.ring : bypassprof_ring_if_on();
    if (ring.header != NULL) {
        uint64_t stamp = dated ? burst.stamp : bypassprof_now();
        struct bypassprof_event event = {{
            bypassprof_head_slot(stamp, point, flow, a), bypassprof_cont_slot(b, c, d), bypassprof_cont_slot(e, f, g),
        }};
        bypassprof_write(ring, stamp, dated, point, event, 3);
    }
}

/* One event with six more arguments, stamped now. */
BYPASSPROF_INLINE void bypassprof_emit_with6(uint16_t point, uint32_t flow, uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e, uint32_t f, uint32_t g)
{
    struct bypassprof_burst unstamped = {{NULL, 0}, 0};
    bypassprof_burst_emit_with6(unstamped, point, flow, a, b, c, d, e, f, g);
}

/* Adds received bytes to this thread's totals (frames are counted by the bursts). */
BYPASSPROF_INLINE void bypassprof_count_rx_bytes(uint64_t bytes)
{
    struct bypassprof_ring ring = bypassprof_ring_if_on();
    if (ring.header != NULL)
        bypassprof_add(&ring.header->writer.rx_bytes, bytes);
}

/* Adds sent bytes to this thread's totals. */
BYPASSPROF_INLINE void bypassprof_count_tx_bytes(uint64_t bytes)
{
    struct bypassprof_ring ring = bypassprof_ring_if_on();
    if (ring.header != NULL)
        bypassprof_add(&ring.header->writer.tx_bytes, bytes);
}

/* A loop that does not stamp the start of each round: an empty round costs a counter increment, and what a round did
 * before it first reported work is booked as empty polling. One per polling loop, on the thread that runs it. */
BYPASSPROF_INLINE struct bypassprof_poll_loop bypassprof_poll_loop_unstamped(void)
{
    struct bypassprof_poll_loop loop;
    __builtin_memset(&loop, 0, sizeof loop);
    loop.random = (uint32_t)bypassprof_now() | 1;
    return loop;
}

/* A loop that stamps the start of each round, so that a useful receive is booked as work. */
BYPASSPROF_INLINE struct bypassprof_poll_loop bypassprof_poll_loop_new(void)
{
    struct bypassprof_poll_loop loop = bypassprof_poll_loop_unstamped();
    loop.stamped = 1;
    return loop;
}

/* Starts a round. */
BYPASSPROF_INLINE void bypassprof_begin(struct bypassprof_poll_loop *loop)
{
    if (!bypassprof_is_on()) {
        if (BYPASSPROF_UNLIKELY(loop->on))
            bypassprof_loop_switched_off_v1(loop);
        return;
    }
    if (BYPASSPROF_UNLIKELY(!loop->on))
        bypassprof_loop_switched_on_v1(loop);
    loop->worked = 0;
    loop->received = 0;
    if (loop->stamped || loop->state != BYPASSPROF_LOOP_IDLE)
        loop->start = bypassprof_now();
    if (BYPASSPROF_UNLIKELY(loop->countdown == 0))
        bypassprof_loop_start_sample_v1(loop);
    loop->countdown--;
}

BYPASSPROF_INLINE void bypassprof_first_work(struct bypassprof_poll_loop *loop)
{
    if (!loop->worked) {
        loop->worked = 1;
        if (loop->state != BYPASSPROF_LOOP_WORKING)
            bypassprof_loop_tell_work_v1(loop);
    }
}

BYPASSPROF_INLINE uint32_t bypassprof_saturating_add(uint32_t a, uint32_t b)
{
    return a + b < a ? UINT32_MAX : a + b;
}

/* The round did something: packets, a timer, a queue, a callback. n is how much. */
BYPASSPROF_INLINE void bypassprof_worked(struct bypassprof_poll_loop *loop, uint32_t n)
{
    if (loop->on) {
        if (BYPASSPROF_UNLIKELY(loop->sampling))
            loop->sample_events = bypassprof_saturating_add(loop->sample_events, n);
        bypassprof_first_work(loop);
    }
}

BYPASSPROF_INLINE uint32_t bypassprof_burst_field(uint8_t queue, uint32_t high, uint32_t low)
{
    return ((uint32_t)queue << 24) | ((high < 0xfff ? high : 0xfff) << 12) | (low < 0xfff ? low : 0xfff);
}

/* What a receive call returned; with frames it is work, and an rx_burst event stamped at the start of the round (now for a
 * second receive in one round). first is the queue's running number of the first frame. */
BYPASSPROF_INLINE struct bypassprof_burst bypassprof_rx_burst(
    struct bypassprof_poll_loop *loop, uint8_t queue, uint32_t frames, uint32_t capacity, uint32_t first)
{
    struct bypassprof_burst burst = {{NULL, 0}, 0};
    if (frames == 0 || !loop->on)
        return burst;
    struct bypassprof_ring ring = bypassprof_own_ring();
    if (BYPASSPROF_UNLIKELY(ring.header == NULL))
        return burst;
    bypassprof_first_work(loop);
    int known_start = !loop->received && (loop->stamped || loop->state != BYPASSPROF_LOOP_IDLE);
    uint64_t stamp = known_start ? loop->start : bypassprof_now();
    loop->received = 1;
    if (BYPASSPROF_UNLIKELY(loop->sampling))
        loop->sample_rx = bypassprof_saturating_add(loop->sample_rx, frames);
    bypassprof_add(&ring.header->writer.rx_bursts, 1);
    bypassprof_add(&ring.header->writer.rx_packets, frames);
    uint32_t field = bypassprof_burst_field(queue, capacity, frames);
    struct bypassprof_event event = {{bypassprof_head_slot(stamp, BYPASSPROF_RX_BURST, field, first)}};
    bypassprof_push(ring, stamp, event, 1);
    bypassprof_date(ring, stamp);
    burst.ring = ring;
    burst.stamp = stamp;
    return burst;
}

BYPASSPROF_INLINE void bypassprof_sent(struct bypassprof_poll_loop *loop, uint32_t accepted)
{
    bypassprof_first_work(loop);
    if (BYPASSPROF_UNLIKELY(loop->sampling))
        loop->sample_tx = bypassprof_saturating_add(loop->sample_tx, accepted);
    struct bypassprof_ring ring = bypassprof_own_ring();
    if (ring.header != NULL) {
        bypassprof_add(&ring.header->writer.tx_bursts, 1);
        bypassprof_add(&ring.header->writer.tx_packets, accepted);
    }
}

/* Frames given to the device and how many it took; nothing for asked 0. */
BYPASSPROF_INLINE void bypassprof_tx_burst(
    struct bypassprof_poll_loop *loop, uint8_t queue, uint32_t asked, uint32_t accepted, uint32_t first)
{
    if (asked > 0 && loop->on) {
        bypassprof_sent(loop, accepted);
        bypassprof_emit(BYPASSPROF_TX_BURST, bypassprof_burst_field(queue, accepted, asked), first);
    }
}

/* The same with the age of the oldest frame in ticks and what triggered the burst (see BYPASSPROF_TX_BURST). */
BYPASSPROF_INLINE void bypassprof_tx_burst_aged(
    struct bypassprof_poll_loop *loop, uint8_t queue, uint32_t asked, uint32_t accepted, uint32_t first, uint32_t age,
    uint32_t trigger)
{
    if (asked > 0 && loop->on) {
        bypassprof_sent(loop, accepted);
        bypassprof_emit_with(
            BYPASSPROF_TX_BURST, bypassprof_burst_field(queue, accepted, asked), first, age, trigger, 0);
    }
}

/* The part of the round up to here was of this stage (BYPASSPROF_STAGE_...); only a sampled round takes note. */
BYPASSPROF_INLINE void bypassprof_stage(struct bypassprof_poll_loop *loop, uint32_t stage)
{
    if (BYPASSPROF_UNLIKELY(loop->sampling))
        bypassprof_loop_note_stage_v1(loop, stage);
}

/* Ends the round. */
BYPASSPROF_INLINE void bypassprof_end(struct bypassprof_poll_loop *loop)
{
    if (!loop->on)
        return;
    struct bypassprof_ring ring = bypassprof_own_ring();
    if (BYPASSPROF_UNLIKELY(ring.header == NULL))
        return;
    if (loop->worked || bypassprof_load(&ring.header->writer.head) != loop->seen) {
        bypassprof_loop_end_of_work_v1(loop);
        return;
    }
    bypassprof_add(&ring.header->writer.empty_rounds, 1);
    if (BYPASSPROF_UNLIKELY(loop->state != BYPASSPROF_LOOP_IDLE || loop->sampling))
        bypassprof_loop_end_of_nothing_v1(loop);
}

#endif
