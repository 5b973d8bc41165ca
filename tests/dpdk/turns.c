/* What our burst functions cost: forwards between two net_null ports, a slice of time with the drivers' own functions and
 * the next with those that stand in DPDK's table, in turns, in one process, so that a busy machine disturbs both alike.
 * Arguments after those of EAL: turns. Prints a line for each burst size. */
#include <dlfcn.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 100000

struct way {
    eth_rx_burst_t rx[2];
    eth_tx_burst_t tx[2];
};

static double own[MOST], ours[MOST], ratio[MOST];

static int order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Ticks for a receive and a transmit burst. */
static double slice(const struct way *way, uint16_t burst, int rounds) {
    struct rte_mbuf *frames[512];
    uint64_t bursts = 0, from = rte_rdtsc();
    for (int round = 0; round < rounds; round++) {
        for (int port = 0; port < 2; port++) {
            uint16_t in = way->rx[port](rte_eth_fp_ops[port].rxq.data[0], frames, burst);
            uint16_t out = way->tx[!port](rte_eth_fp_ops[!port].txq.data[0], frames, in);
            if (out < in)
                rte_pktmbuf_free_bulk(frames + out, in - out);
            bursts++;
        }
    }
    return (double)(rte_rdtsc() - from) / bursts;
}

static struct way in_table(void) {
    struct way way;
    for (int port = 0; port < 2; port++) {
        way.rx[port] = rte_eth_fp_ops[port].rx_pkt_burst;
        way.tx[port] = rte_eth_fp_ops[port].tx_pkt_burst;
    }
    return way;
}

/* Every frame of the pool is a TCP segment from now on; net_null leaves in it what it finds. */
static void fill(struct rte_mempool *pool) {
    static const unsigned char segment[54] = {[12] = 8,   0,  0x45, 0, 0,    40,   0,    0,    0, 0, 64, 6, 0, 0, 10, 123, 0, 1,
                                              10,  123,    0, 2,    0x9c, 0x40, 0x1f, 0x90, 0, 0, 0,  7, 0, 0, 0,  0,   0x50, 16};
    static struct rte_mbuf *all[8191];
    unsigned count = 0;
    while (count < 8191 && (all[count] = rte_pktmbuf_alloc(pool))) {
        memcpy(rte_pktmbuf_mtod(all[count], void *), segment, sizeof(segment));
        count++;
    }
    rte_pktmbuf_free_bulk(all, count);
}

int main(int argc, char **argv) {
    int used = rte_eal_init(argc, argv);
    if (used < 0)
        return 1;
    int turns = argc - used > 1 ? atoi(argv[used + 1]) : 1000;
    if (turns > MOST)
        turns = MOST;
    struct rte_mempool *pool = rte_pktmbuf_pool_create("frames", 8191, 256, 0, 2176, 0);
    fill(pool);
    /* DPDK's own function, past the one that was preloaded: the drivers' functions are in the table for a moment. */
    void *library = dlopen("librte_ethdev.so.23", RTLD_NOW | RTLD_NOLOAD);
    int (*start)(uint16_t) = (int (*)(uint16_t))dlsym(library, "rte_eth_dev_start");
    struct rte_eth_conf settings = {0};
    for (int port = 0; port < 2; port++) {
        if (rte_eth_dev_configure(port, 1, 1, &settings) ||
            rte_eth_rx_queue_setup(port, 0, 512, SOCKET_ID_ANY, NULL, pool) ||
            rte_eth_tx_queue_setup(port, 0, 512, SOCKET_ID_ANY, NULL) || start(port))
            return 1;
    }
    struct way drivers = in_table();
    rte_delay_ms(500);
    struct way table = in_table();
    printf("wrapped: %s\n", table.rx[1] == drivers.rx[1] || table.rx[0] == drivers.rx[0] ? "no" : "yes");
    double ns = 1e9 / rte_get_tsc_hz();
    static const uint16_t sizes[] = {32, 1};
    for (int size = 0; size < 2; size++) {
        int rounds = sizes[size] == 32 ? 400 : 4000;
        for (int turn = 0; turn < turns; turn++) {
            if (turn & 1)
                own[turn] = slice(&drivers, sizes[size], rounds);
            ours[turn] = slice(&table, sizes[size], rounds);
            if (!(turn & 1))
                own[turn] = slice(&drivers, sizes[size], rounds);
            ratio[turn] = ours[turn] / own[turn] - 1;
        }
        qsort(own, turns, sizeof(double), order);
        qsort(ours, turns, sizeof(double), order);
        qsort(ratio, turns, sizeof(double), order);
        printf("bursts of %2d: %.2f ns alone, %.2f ns wrapped (medians of %d turns): %+.2f %%, quarters %+.2f to %+.2f %%\n",
               sizes[size], own[turns / 2] * ns, ours[turns / 2] * ns, turns, 100 * ratio[turns / 2],
               100 * ratio[turns / 4], 100 * ratio[3 * turns / 4]);
    }
    return 0;
}
