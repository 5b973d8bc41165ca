/* lwIP's raw API as the Rust side needs it: callbacks become a list of connections with news, macros become functions.
 *
 * In: frames and calls of one thread; out: frames through shim_plan.output, connections through shim_next_ready. lwIP as
 * Debian builds it has threads (NO_SYS 0); its core is used here without them: lwip_init instead of tcpip_init, and its
 * timers run when shim_timers is called. */
#include "shim.h"

#include "bypassprof.h"

#include <stdlib.h>
#include <string.h>

#include "lwip/etharp.h"
#include "lwip/init.h"
#include "lwip/netif.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/tcp.h"
#include "lwip/timeouts.h"
#include "netif/ethernet.h"

/* Poll callbacks come every so many half seconds: the rescue of connections that wait and of which nothing else comes. */
#define POLL_INTERVAL 2
/* A peer that sends on after we have ended is read for so many polls, then reset. */
#define LINGER_POLLS 10

struct shim_conn {
    struct tcp_pcb *pcb; /* NULL once lwIP has freed it */
    struct pbuf *unread;
    struct shim_conn *next; /* on the list of those with news */
    uint32_t index;
    uint32_t flow;
    int ready;
    int ended;
};

static struct netif shim_netif;
static struct shim_plan shim_config;
static uint64_t shim_stamp;
static struct shim_conn *ready_first;
static struct shim_conn **ready_end = &ready_first;
static uint32_t ready_length;

static void make_ready(struct shim_conn *conn)
{
    if (conn->ready)
        return;
    conn->ready = 1;
    conn->next = NULL;
    *ready_end = conn;
    ready_end = &conn->next;
    ready_length++;
}

struct shim_conn *shim_next_ready(void)
{
    struct shim_conn *conn = ready_first;
    if (conn == NULL)
        return NULL;
    ready_first = conn->next;
    if (ready_first == NULL)
        ready_end = &ready_first;
    conn->ready = 0;
    ready_length--;
    return conn;
}

static err_t on_output(struct netif *netif, struct pbuf *p)
{
    (void)netif;
    /* LWIP_NETIF_TX_SINGLE_PBUF: a frame is in one piece. */
    if (p->len != p->tot_len)
        return ERR_BUF;
    return shim_config.output(shim_config.device, p->payload, p->len) ? ERR_OK : ERR_MEM;
}

static err_t on_netif(struct netif *netif)
{
    netif->name[0] = 'b';
    netif->name[1] = 'p';
    netif->mtu = shim_config.mtu;
    netif->hwaddr_len = 6;
    memcpy(netif->hwaddr, shim_config.mac, 6);
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
    netif->output = etharp_output;
    netif->linkoutput = on_output;
    return ERR_OK;
}

static err_t on_receive(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    struct shim_conn *conn = arg;
    (void)pcb;
    (void)err;
    if (p == NULL) {
        conn->ended = 1;
    } else {
        if (bypassprof_enabled()) {
            uint64_t age = shim_stamp ? bypassprof_now() - shim_stamp : 0;
            bypassprof_emit_with(BYPASSPROF_DELIVER, conn->flow, p->tot_len, ready_length,
                age < UINT32_MAX ? (uint32_t)age : UINT32_MAX, 0);
        }
        if (conn->unread == NULL)
            conn->unread = p;
        else
            pbuf_cat(conn->unread, p);
    }
    make_ready(conn);
    return ERR_OK;
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t length)
{
    (void)pcb;
    (void)length;
    make_ready(arg);
    return ERR_OK;
}

static err_t on_poll(void *arg, struct tcp_pcb *pcb)
{
    (void)pcb;
    make_ready(arg);
    return ERR_OK;
}

static void on_error(void *arg, err_t err)
{
    struct shim_conn *conn = arg;
    (void)err;
    conn->pcb = NULL;
    conn->ended = 1;
    make_ready(conn);
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
    (void)arg;
    if (err != ERR_OK || pcb == NULL)
        return ERR_VAL;
    struct shim_conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL)
        return ERR_MEM;
    conn->pcb = pcb;
    conn->index = UINT32_MAX;
    conn->flow = bypassprof_flow_ipv4(lwip_ntohl(ip_addr_get_ip4_u32(&pcb->local_ip)), pcb->local_port,
        lwip_ntohl(ip_addr_get_ip4_u32(&pcb->remote_ip)), pcb->remote_port);
    tcp_nagle_disable(pcb);
    tcp_arg(pcb, conn);
    tcp_recv(pcb, on_receive);
    tcp_sent(pcb, on_sent);
    tcp_poll(pcb, on_poll, POLL_INTERVAL);
    tcp_err(pcb, on_error);
    make_ready(conn);
    return ERR_OK;
}

int shim_start(const struct shim_plan *plan)
{
    shim_config = *plan;
    /* Sequence and port numbers: LWIP_RAND is rand in Debian's build. */
    srand(plan->seed);
    lwip_init();
    ip4_addr_t ip, mask, gateway;
    IP4_ADDR(&ip, plan->ip[0], plan->ip[1], plan->ip[2], plan->ip[3]);
    IP4_ADDR(&mask, plan->mask[0], plan->mask[1], plan->mask[2], plan->mask[3]);
    ip4_addr_set_zero(&gateway);
    if (netif_add(&shim_netif, &ip, &mask, &gateway, NULL, on_netif, ethernet_input) == NULL)
        return ERR_IF;
    netif_set_default(&shim_netif);
    netif_set_up(&shim_netif);
    struct tcp_pcb *pcb = tcp_new();
    if (pcb == NULL)
        return ERR_MEM;
    ip_addr_t any;
    ip_addr_copy_from_ip4(any, ip);
    err_t err = tcp_bind(pcb, &any, plan->port);
    struct tcp_pcb *listener = err == ERR_OK ? tcp_listen(pcb) : NULL;
    if (listener == NULL) {
        tcp_close(pcb);
        return err == ERR_OK ? ERR_MEM : err;
    }
    tcp_accept(listener, on_accept);
    return ERR_OK;
}

void shim_input(const uint8_t *frame, size_t length, uint64_t stamp)
{
    if (length > UINT16_MAX)
        return;
    /* Not PBUF_POOL: in Debian's 2.1.3 its pieces are 616 bytes, and 1500 are written into them. */
    struct pbuf *p = pbuf_alloc(PBUF_RAW, (u16_t)length, PBUF_RAM);
    if (p == NULL)
        return;
    shim_stamp = stamp;
    pbuf_take(p, frame, (u16_t)length);
    if (shim_netif.input(p, &shim_netif) != ERR_OK)
        pbuf_free(p);
    shim_stamp = 0;
}

uint32_t shim_timers(void)
{
    sys_check_timeouts();
    return sys_timeouts_sleeptime();
}

uint32_t shim_half_open(void)
{
    uint32_t found = 0;
    for (const struct tcp_pcb *pcb = tcp_active_pcbs; pcb != NULL; pcb = pcb->next)
        found += pcb->state == SYN_RCVD;
    return found;
}

uint32_t shim_give_way(uint32_t most)
{
    uint32_t found = 0;
    struct tcp_pcb *oldest = NULL;
    /* New ones are put at the list's head. */
    for (struct tcp_pcb *pcb = tcp_active_pcbs; pcb != NULL; pcb = pcb->next)
        if (pcb->state == SYN_RCVD) {
            oldest = pcb;
            found++;
        }
    if (found < most || oldest == NULL)
        return found;
    /* It was never accepted: nobody holds it. */
    tcp_abandon(oldest, 0);
    return found - 1;
}

void shim_reuse(uint32_t peer, uint16_t peer_port, uint32_t seq)
{
    for (struct tcp_pcb *pcb = tcp_tw_pcbs; pcb != NULL; pcb = pcb->next)
        if (pcb->remote_port == peer_port && ip_addr_get_ip4_u32(&pcb->remote_ip) == lwip_htonl(peer)
            && pcb->local_port == shim_config.port) {
            if (TCP_SEQ_GT(seq, pcb->rcv_nxt))
                tcp_abandon(pcb, 0);
            return;
        }
}

uint32_t shim_index(const struct shim_conn *conn)
{
    return conn->index;
}

void shim_set_index(struct shim_conn *conn, uint32_t index)
{
    conn->index = index;
}

uint32_t shim_flow(const struct shim_conn *conn)
{
    return conn->flow;
}

int shim_has_ended(const struct shim_conn *conn)
{
    return conn->ended && conn->unread == NULL;
}

int shim_is_over(const struct shim_conn *conn)
{
    return conn->pcb == NULL;
}

size_t shim_receive(struct shim_conn *conn, uint8_t *bytes, size_t length)
{
    if (conn->unread == NULL)
        return 0;
    u16_t taken = pbuf_copy_partial(conn->unread, bytes, (u16_t)LWIP_MIN(length, UINT16_MAX), 0);
    conn->unread = pbuf_free_header(conn->unread, taken);
    if (conn->pcb != NULL)
        tcp_recved(conn->pcb, taken);
    return taken;
}

size_t shim_send(struct shim_conn *conn, const uint8_t *bytes, size_t length)
{
    struct tcp_pcb *pcb = conn->pcb;
    if (pcb == NULL)
        return 0;
    size_t room = tcp_sndbuf(pcb);
    size_t taken = LWIP_MIN(LWIP_MIN(length, room), UINT16_MAX);
    if (tcp_sndqueuelen(pcb) >= TCP_SND_QUEUELEN)
        taken = 0;
    /* Refused when its segments would be too many; fewer bytes may do. */
    while (taken > 0 && tcp_write(pcb, bytes, (u16_t)taken, TCP_WRITE_FLAG_COPY) != ERR_OK)
        taken /= 2;
    bypassprof_emit_with(BYPASSPROF_SEND_CALL, conn->flow, (uint32_t)length, (uint32_t)taken, (uint32_t)room, 0);
    tcp_output(pcb);
    return taken;
}

void shim_end(struct shim_conn *conn)
{
    /* What does not fit now, lwIP tries again by itself. */
    if (conn->pcb != NULL)
        tcp_shutdown(conn->pcb, 0, 1);
}

/* ERR_ABRT if it had to be reset: what lwIP wants to hear from a callback then. */
static err_t close_now(struct tcp_pcb *pcb)
{
    tcp_arg(pcb, NULL);
    tcp_recv(pcb, NULL);
    tcp_sent(pcb, NULL);
    tcp_poll(pcb, NULL, 0);
    tcp_err(pcb, NULL);
    if (tcp_close(pcb) == ERR_OK)
        return ERR_OK;
    tcp_abort(pcb);
    return ERR_ABRT;
}

/* What a peer sends after we have ended is thrown away, until it ends, too. */
static err_t on_late(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    (void)arg;
    (void)err;
    if (p == NULL)
        return close_now(pcb);
    tcp_recved(pcb, p->tot_len);
    pbuf_free(p);
    return ERR_OK;
}

static err_t on_late_poll(void *arg, struct tcp_pcb *pcb)
{
    uintptr_t polls = (uintptr_t)arg;
    /* A peer that still has something to read has time for it. */
    if (pcb->state != FIN_WAIT_2)
        return ERR_OK;
    if (polls >= LINGER_POLLS) {
        tcp_abort(pcb);
        return ERR_ABRT;
    }
    tcp_arg(pcb, (void *)(polls + 1));
    return ERR_OK;
}

void shim_release(struct shim_conn *conn)
{
    struct tcp_pcb *pcb = conn->pcb;
    if (conn->unread != NULL) {
        if (pcb != NULL)
            tcp_recved(pcb, conn->unread->tot_len);
        pbuf_free(conn->unread);
    }
    int peer_ended = conn->ended;
    free(conn);
    if (pcb == NULL)
        return;
    /* lwIP's close resets a connection on which bytes come that nobody reads, and the last reply may be lost by that. */
    int ends = pcb->state == FIN_WAIT_1 || pcb->state == FIN_WAIT_2;
    if (peer_ended || !(ends || tcp_shutdown(pcb, 0, 1) == ERR_OK)) {
        close_now(pcb);
        return;
    }
    tcp_arg(pcb, NULL);
    tcp_sent(pcb, NULL);
    tcp_err(pcb, NULL);
    tcp_recv(pcb, on_late);
    tcp_poll(pcb, on_late_poll, POLL_INTERVAL);
}
