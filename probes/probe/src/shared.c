/* What all copies of the probe runtime in one program share by name: the calling thread's ring and the switch.
 * Stable Rust cannot declare such thread-local storage; C code inlines its use. A copy whose symbols are its own (a
 * library that was loaded with its names hidden) finds the same ring and switch through the process's control file.
 * The version in the names is that of this layout: a change needs new names. */
#include <stdint.h>

#if defined(__aarch64__)
#define BYPASSPROF_PAGE 65536
#else
#define BYPASSPROF_PAGE 4096
#endif

struct bypassprof_thread {
    const void *ring;
    uint64_t mask;
    uint64_t refused;
    uint64_t name[4];
};

/* Initial-exec: two instructions and no call, in loaded libraries too (56 bytes of the loader's reserve). */
__attribute__((visibility("default"), tls_model("initial-exec")))
__thread struct bypassprof_thread bypassprof_thread_v1;

/* The first page of the control file is mapped over this one; all zero until a first probe was used. */
__attribute__((visibility("default"), aligned(BYPASSPROF_PAGE)))
uint64_t bypassprof_switch_v1[BYPASSPROF_PAGE / 8];

/* For machines whose thread pointer the Rust side does not know how to read. */
__attribute__((visibility("default")))
struct bypassprof_thread *bypassprof_thread_address_v1(void);
struct bypassprof_thread *bypassprof_thread_address_v1(void) { return &bypassprof_thread_v1; }
