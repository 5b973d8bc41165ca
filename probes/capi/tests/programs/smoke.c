/* Every call of bypassprof.h: events and bursts from the main thread, the rounds of a loop from a second one. */
#define _POSIX_C_SOURCE 200809L
#include "bypassprof.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

/* A recorder switches the points on from outside; without one, say so and fail. */
static int wait_for_recorder(void)
{
    struct timespec pause = {0, 1000000};
    for (int i = 0; i < 20000; i++) {
        if (bypassprof_enabled())
            return 1;
        nanosleep(&pause, NULL);
    }
    fprintf(stderr, "no recorder came\n");
    return 0;
}

static void rounds(uint32_t flow)
{
    struct bypassprof_poll_loop loop = bypassprof_poll_loop_new();
    static const uint32_t received[] = {0, 0, 0, 2, 0};
    uint32_t first = 1000;
    for (unsigned i = 0; i < sizeof received / sizeof received[0]; i++) {
        uint32_t frames = received[i];
        bypassprof_begin(&loop);
        struct bypassprof_burst burst = bypassprof_rx_burst(&loop, 1, frames, 32, first);
        for (uint32_t n = 0; n < frames; n++)
            bypassprof_burst_emit_with(burst, BYPASSPROF_TCP_IN, flow, first + n, 64, 0, 65535);
        bypassprof_stage(&loop, BYPASSPROF_STAGE_NIC);
        if (frames > 0) {
            bypassprof_worked(&loop, frames);
            bypassprof_tx_burst(&loop, 1, frames, 1, first);
            bypassprof_tx_burst_aged(&loop, 1, 1, 1, first + 1, 77, 2);
            bypassprof_count_rx_bytes(120);
            bypassprof_count_tx_bytes(300);
        }
        bypassprof_end(&loop);
        first += frames;
    }
}

static void *second_thread(void *flow)
{
    bypassprof_name_thread("second");
    rounds(*(const uint32_t *)flow);
    bypassprof_emit(BYPASSPROF_TIMER, BYPASSPROF_NO_FLOW, 6);
    return NULL;
}

int main(void)
{
    if (!wait_for_recorder())
        return 1;
    bypassprof_name_thread("a name longer than the kernel has");
    uint32_t flow = bypassprof_flow_ipv4(0x0a7b0002, 8080, 0x0a7b0001, 40000);

    bypassprof_emit(BYPASSPROF_APP_START, flow, 1);
    bypassprof_emit_with(BYPASSPROF_SEND_CALL, flow, 151, 150, 4096, 0);
    bypassprof_emit_with6(BYPASSPROF_TCP_OUT, flow, 1, 2, 3, 4, 5, 6, 7);
    bypassprof_emit(BYPASSPROF_APP_END, flow, 151);

    uint16_t own = bypassprof_register("own_point");
    bypassprof_emit(own, BYPASSPROF_NO_FLOW, own == bypassprof_register("own_point"));

    struct bypassprof_burst burst = bypassprof_burst_now();
    bypassprof_burst_emit(burst, BYPASSPROF_DELIVER, flow, 5);
    bypassprof_burst_emit_with(burst, BYPASSPROF_DELIVER, flow, 6, 7, 8, 0);
    bypassprof_burst_emit_with6(burst, BYPASSPROF_TCP_OUT, flow, 8, 9, 10, 11, 12, 13, 14);

    pthread_t second;
    if (pthread_create(&second, NULL, second_thread, &flow) != 0)
        return 1;
    pthread_join(second, NULL);
    return 0;
}
