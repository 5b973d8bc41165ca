/*
 * DPDK's calls, which are inline functions and macros, as functions that Rust can call; see ffi.rs beside this file.
 *
 * In: ports, queues, mbufs as bare pointers; out: 0 or more for success, a negative errno for failure. It refuses to keep
 * state beyond what DPDK keeps itself.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>

struct netio_port {
    uint16_t port;
    uint16_t mtu;
    uint32_t if_index;
    uint8_t mac[6];
    struct rte_mempool *pool;
};

struct netio_frame {
    struct rte_mbuf *mbuf;
    uint8_t *data;
    uint32_t len;
    uint32_t checksum_ok;
};

/* Starts DPDK without devices, huge pages, files and pinning: once in a process. */
int netio_dpdk_start(void)
{
    cpu_set_t allowed;
    char cores[8 * CPU_SETSIZE] = "--lcores=0@(";
    int error = pthread_getaffinity_np(pthread_self(), sizeof(allowed), &allowed);
    if (error)
        return -error;
    size_t at = strlen(cores);
    for (int cpu = 0, first = 1; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed)) {
            at += (size_t)sprintf(cores + at, first ? "%d" : ",%d", cpu);
            first = 0;
        }
    strcpy(cores + at, ")");
    char *arguments[] = {
        "netio", "--no-pci", "--no-huge", "--no-shconf", "-m", "256", "--no-telemetry", "--log-level=4", cores, NULL,
    };
    int count = sizeof(arguments) / sizeof(*arguments) - 1;
    int done = rte_eal_init(count, arguments);
    int reason = rte_errno;
    pthread_setaffinity_np(pthread_self(), sizeof(allowed), &allowed);
    return done < 0 ? -reason : 0;
}

/* Makes a virtual device of this name and starts its port with so many queues each way. */
int netio_dpdk_open(const char *name, const char *arguments, uint16_t queues, uint16_t depth, struct netio_port *out)
{
    int done = rte_eal_hotplug_add("vdev", name, arguments);
    /* Drivers say -1, which would read as a missing permission, for whatever they do not like. */
    if (done < 0)
        return done == -1 ? -ENODEV : done;
    struct rte_eth_dev_info info;
    struct rte_ether_addr mac;
    uint16_t port;
    out->pool = NULL;
    if ((done = rte_eth_dev_get_port_by_name(name, &port)) < 0)
        goto remove;
    if ((done = rte_eth_dev_info_get(port, &info)) < 0)
        goto remove;
    if ((done = rte_eth_dev_get_mtu(port, &out->mtu)) < 0)
        goto remove;
    if (info.max_rx_queues < queues || info.max_tx_queues < queues) {
        done = -ERANGE;
        goto remove;
    }
    /* A frame fits into one mbuf; each queue may hold its ring, a burst and what waits to be sent. */
    uint32_t room = RTE_PKTMBUF_HEADROOM + RTE_MAX(2048u, out->mtu + 64u);
    out->pool = rte_pktmbuf_pool_create(name, queues * depth * 4u - 1, 256, 0, (uint16_t)room, SOCKET_ID_ANY);
    if (!out->pool) {
        done = -rte_errno;
        goto remove;
    }
    struct rte_eth_conf configuration = {0};
    if ((done = rte_eth_dev_configure(port, queues, queues, &configuration)) < 0)
        goto remove;
    for (uint16_t queue = 0; queue < queues; queue++) {
        if ((done = rte_eth_rx_queue_setup(port, queue, depth, SOCKET_ID_ANY, NULL, out->pool)) < 0)
            goto remove;
        if ((done = rte_eth_tx_queue_setup(port, queue, depth, SOCKET_ID_ANY, NULL)) < 0)
            goto remove;
    }
    if ((done = rte_eth_dev_start(port)) < 0)
        goto remove;
    if ((done = rte_eth_macaddr_get(port, &mac)) < 0)
        goto remove;
    memcpy(out->mac, mac.addr_bytes, sizeof(out->mac));
    out->port = port;
    out->if_index = info.if_index;
    return 0;
remove:
    rte_eal_hotplug_remove("vdev", name);
    rte_mempool_free(out->pool);
    return done;
}

/* Stops the port and removes its device; nothing of its pool may be held. */
void netio_dpdk_close(const char *name, const struct netio_port *port)
{
    rte_eth_dev_stop(port->port);
    rte_eth_dev_close(port->port);
    rte_eal_hotplug_remove("vdev", name);
    rte_mempool_free(port->pool);
}

/* Receives at most `max` frames, each in one piece; those that cannot be are left out and counted in `*broken`. */
uint16_t netio_dpdk_receive(uint16_t port, uint16_t queue, struct netio_frame *frames, uint16_t max, uint64_t *broken)
{
    struct rte_mbuf *mbufs[64];
    uint16_t held = 0;
    uint16_t found = rte_eth_rx_burst(port, queue, mbufs, RTE_MIN(max, (uint16_t)64));
    for (uint16_t i = 0; i < found; i++) {
        struct rte_mbuf *mbuf = mbufs[i];
        if (rte_pktmbuf_linearize(mbuf) < 0) {
            rte_pktmbuf_free(mbuf);
            ++*broken;
            continue;
        }
        frames[held].mbuf = mbuf;
        frames[held].data = rte_pktmbuf_mtod(mbuf, uint8_t *);
        frames[held].len = rte_pktmbuf_data_len(mbuf);
        frames[held].checksum_ok =
            (mbuf->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD;
        held++;
    }
    return held;
}

/* Room for a frame; NULL if the pool is empty. */
struct rte_mbuf *netio_dpdk_room(struct rte_mempool *pool, uint16_t len, uint8_t **data)
{
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);
    if (!mbuf)
        return NULL;
    *data = (uint8_t *)rte_pktmbuf_append(mbuf, len);
    if (!*data) {
        rte_pktmbuf_free(mbuf);
        return NULL;
    }
    return mbuf;
}

uint16_t netio_dpdk_send(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
    return rte_eth_tx_burst(port, queue, mbufs, count);
}

void netio_dpdk_free(struct rte_mbuf *mbuf)
{
    rte_pktmbuf_free(mbuf);
}

/* Frames that the port received and had no room for. */
uint64_t netio_dpdk_dropped(uint16_t port)
{
    struct rte_eth_stats stats;
    if (rte_eth_stats_get(port, &stats) < 0)
        return 0;
    return stats.imissed + stats.rx_nombuf;
}
