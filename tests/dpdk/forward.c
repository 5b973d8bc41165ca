/* An ordinary DPDK program: forwards between two ports for as many seconds as it is told, and says at the end what it did.
 * Arguments after those of EAL: seconds, and frames that it takes out of its pool each tenth of a second, to keep. With
 * -DPROBES it calls the C interface at the two places where it calls DPDK. */
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <stdio.h>
#include <stdlib.h>

#define BURST 32

#ifdef PROBES
#include "bypassprof.h"
static struct bypassprof_poll_loop rounds;
#define ROUND(begin_or_end) bypassprof_##begin_or_end(&rounds)
#define RECEIVED(port, n, before) (void)bypassprof_rx_burst(&rounds, port, n, BURST, before)
#define SENT(port, n, asked, before) (void)bypassprof_tx_burst(&rounds, port, n, asked, before)
#define IS_HEARD bypassprof_enabled()
#else
#define ROUND(begin_or_end)
#define RECEIVED(port, n, before)
#define SENT(port, n, asked, before)
#define IS_HEARD 1
#endif

int main(int argc, char **argv) {
    int used = rte_eal_init(argc, argv);
    if (used < 0)
        return 1;
    double seconds = argc - used > 1 ? atof(argv[used + 1]) : 1;
    int kept = argc - used > 2 ? atoi(argv[used + 2]) : 0;
    struct rte_mempool *pool = rte_pktmbuf_pool_create("frames", 8191, 256, 0, 2176, SOCKET_ID_ANY);
    struct rte_eth_conf settings = {0};
    if (!pool)
        return 1;
    for (int port = 0; port < 2; port++) {
        if (rte_eth_dev_configure(port, 1, 1, &settings) ||
            rte_eth_rx_queue_setup(port, 0, 512, SOCKET_ID_ANY, NULL, pool) ||
            rte_eth_tx_queue_setup(port, 0, 512, SOCKET_ID_ANY, NULL) || rte_eth_dev_start(port))
            return 1;
    }
    /* Whoever counts is there before the first burst: a library that was loaded by -d looks ten times a second. */
    rte_delay_us_sleep(400000);
#ifdef PROBES
    rounds = bypassprof_poll_loop_new();
    ROUND(begin);
    ROUND(end);
    for (int wait = 0; wait < 200 && !IS_HEARD; wait++)
        rte_delay_us_sleep(10000);
#endif
    unsigned long polls = 0, bursts = 0, received = 0, sent = 0;
    uint64_t from = rte_rdtsc(), tick = rte_get_tsc_hz() / 10, next = from;
    uint64_t end = from + (uint64_t)(seconds * rte_get_tsc_hz());
    struct rte_mbuf *frames[BURST], *held[1024];
    while (rte_rdtsc() < end) {
        if (kept && rte_rdtsc() >= next) {
            if (rte_pktmbuf_alloc_bulk(pool, held, kept < 1024 ? kept : 1024))
                kept = 0;
            next += tick;
        }
        ROUND(begin);
        for (int port = 0; port < 2; port++) {
            uint16_t in = rte_eth_rx_burst(port, 0, frames, BURST);
            RECEIVED(port, in, (uint32_t)received);
            polls++;
            if (!in)
                continue;
            bursts++;
            received += in;
            uint16_t out = rte_eth_tx_burst(!port, 0, frames, in);
            SENT(!port, out, in, (uint32_t)sent);
            sent += out;
            if (out < in)
                rte_pktmbuf_free_bulk(frames + out, in - out);
        }
        ROUND(end);
    }
    double ns = (rte_rdtsc() - from) * 1e9 / rte_get_tsc_hz();
    printf("polls %lu bursts %lu received %lu sent %lu ns a burst %.1f\n", polls, bursts, received, sent, ns / polls);
    fflush(stdout);
    rte_eal_cleanup();
    return 0;
}
