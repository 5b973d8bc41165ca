/* The calling thread's counts. Initial-exec: no call on the way to it; the library is preloaded, so that the loader has
 * room for it. */
__attribute__((visibility("hidden"), tls_model("initial-exec")))
__thread void *bypassprof_dpdk_lane_v1;

/* For machines whose thread pointer the Rust side does not know how to read. */
__attribute__((visibility("hidden")))
void **bypassprof_dpdk_lane_address_v1(void);
__attribute__((visibility("hidden")))
void **bypassprof_dpdk_lane_address_v1(void) { return &bypassprof_dpdk_lane_v1; }
