/* C and Rust code of one copy of the library, and a loaded library with a copy of its own, take turns on each thread. */
#define _GNU_SOURCE
#include "bypassprof.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#define THREADS 4
#define TURNS 1000

void rust_turn(uint32_t number);
void rust_rounds(void);
typedef void (*turn)(uint32_t number);

static turn loaded_turn;

static void *thread(void *name)
{
    bypassprof_name_thread((const char *)name);
    for (uint32_t number = 0; number < TURNS; number += 3) {
        bypassprof_emit(BYPASSPROF_TIMER, 1, number);
        rust_turn(number + 1);
        loaded_turn(number + 2);
    }
    return NULL;
}

/* A thread whose first event comes from the loaded library. */
static void *loaded_thread(void *unused)
{
    bypassprof_name_thread("loaded first");
    loaded_turn(0);
    bypassprof_emit(BYPASSPROF_TIMER, 1, 1);
    rust_turn(2);
    return unused;
}

/* The same script of rounds from both languages: rust_half.rs has the other one. */
static void c_rounds(void)
{
    struct bypassprof_poll_loop loops[2] = {bypassprof_poll_loop_new(), bypassprof_poll_loop_unstamped()};
    uint32_t random = 1;
    bypassprof_emit(BYPASSPROF_TIMER, 0, 0);
    for (uint32_t round = 0; round < 400; round++) {
        struct bypassprof_poll_loop *loop = &loops[round / 200];
        random = random * 1664525 + 1013904223;
        uint32_t what = (random >> 24) % 16;
        bypassprof_begin(loop);
        struct bypassprof_burst burst = bypassprof_rx_burst(loop, 1, what == 0 ? 5000 : what == 1, 32, round);
        bypassprof_stage(loop, BYPASSPROF_STAGE_NIC);
        if (what == 1 || what == 2)
            bypassprof_burst_emit_with(burst, BYPASSPROF_TCP_IN, 7, round, 1, 2, 3);
        if (what == 3)
            bypassprof_worked(loop, 2);
        if (what == 4)
            bypassprof_emit(BYPASSPROF_APP_END, 7, round);
        if (what == 5)
            bypassprof_emit(BYPASSPROF_SLEEP, 0, round);
        if (what == 6)
            bypassprof_emit_with6(BYPASSPROF_TCP_OUT, 7, round, 1, 2, 3, 4, 5, 6);
        if (what <= 1)
            bypassprof_rx_burst(loop, 2, 1, 32, round);
        bypassprof_tx_burst_aged(loop, 1, what == 7 ? 3 : 0, 2, round, 9, 1);
        bypassprof_tx_burst(loop, 1, what == 8, 1, round);
        bypassprof_stage(loop, BYPASSPROF_STAGE_APP);
        bypassprof_end(loop);
    }
    bypassprof_count_rx_bytes(10);
    bypassprof_count_tx_bytes(20);
}

static void *rounds_thread(void *name)
{
    bypassprof_name_thread((const char *)name);
    if (((const char *)name)[0] == 'c')
        c_rounds();
    else
        rust_rounds();
    return NULL;
}

int main(int argc, char **argv)
{
    struct timespec pause = {0, 1000000};
    static char rounds_names[2][16] = {"c rounds", "rust rounds"};
    pthread_t threads[THREADS + 3];
    char names[THREADS][16];
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (library == NULL) {
        fprintf(stderr, "no library: %s\n", dlerror());
        return 1;
    }
    *(void **)(&loaded_turn) = dlsym(library, "loaded_turn");
    for (int i = 0; !bypassprof_enabled(); i++) {
        if (i == 20000)
            return 1;
        nanosleep(&pause, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        snprintf(names[i], sizeof names[i], "mixed %d", i);
        if (pthread_create(&threads[i], NULL, thread, names[i]) != 0)
            return 1;
    }
    if (pthread_create(&threads[THREADS], NULL, loaded_thread, NULL) != 0)
        return 1;
    for (int i = 0; i < 2; i++) {
        if (pthread_create(&threads[THREADS + 1 + i], NULL, rounds_thread, rounds_names[i]) != 0)
            return 1;
    }
    for (int i = 0; i < THREADS + 3; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
