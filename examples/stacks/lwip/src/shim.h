/* What Rust calls of the shim, and what the shim calls back: the same in ffi.rs. */
#ifndef BYPASSPROF_LWIP_SHIM_H
#define BYPASSPROF_LWIP_SHIM_H

#include <stddef.h>
#include <stdint.h>

/* One accepted connection. It outlives lwIP's pcb, until shim_release. */
struct shim_conn;

/* Sends one frame; 0 when there is no room. */
typedef int (*shim_output)(void *device, const uint8_t *frame, size_t length);

struct shim_plan {
    uint8_t mac[6];
    uint16_t mtu;
    uint8_t ip[4];
    uint8_t mask[4];
    uint16_t port;
    uint32_t seed;
    void *device;
    shim_output output;
};

/* 0, or lwIP's error. Once per process. */
int shim_start(const struct shim_plan *plan);
/* One received frame; stamp is its burst's, 0 when nobody listens. */
void shim_input(const uint8_t *frame, size_t length, uint64_t stamp);
/* Runs the timers that are due; ms until the next one. */
uint32_t shim_timers(void);
/* Connections in SYN_RECEIVED now. */
uint32_t shim_half_open(void);
/* Where there are so many or more, gives up the oldest of them, without a word to the peer; how many are left. */
uint32_t shim_give_way(uint32_t most);

/* A peer begins a new connection: an old one of the same ends in TIME_WAIT is forgotten where `seq` lies behind all that it
 * had received (RFC 9293 section 3.6.1), which lwIP by itself answers with an acknowledgement. */
void shim_reuse(uint32_t peer, uint16_t peer_port, uint32_t seq);

/* The oldest connection with news, which is then no longer on the list; NULL when there is none. */
struct shim_conn *shim_next_ready(void);
uint32_t shim_index(const struct shim_conn *conn);
void shim_set_index(struct shim_conn *conn, uint32_t index);
uint32_t shim_flow(const struct shim_conn *conn);
/* No more bytes will come, or can be sent. */
int shim_has_ended(const struct shim_conn *conn);
int shim_is_over(const struct shim_conn *conn);
size_t shim_receive(struct shim_conn *conn, uint8_t *bytes, size_t length);
size_t shim_send(struct shim_conn *conn, const uint8_t *bytes, size_t length);
void shim_end(struct shim_conn *conn);
/* Closes the connection, which reads on until the peer ends, and frees it. */
void shim_release(struct shim_conn *conn);

#endif
