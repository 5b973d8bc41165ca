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
#define BYPASSPROF_LIKELY(x) __builtin_expect(!!(x), 1)

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
