/* What DPDK looks like to those that load it, without DPDK: a table of burst functions for 40 ports, of the layout of 22.11.
 * As a library (-DLIBRARY) it is "librte_ethdev"; as a program it starts every port and polls each. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PORTS 40

struct ops {
    uint16_t (*rx)(void *, void **, uint16_t);
    void *rx_rest[2];
    void **rx_data;
    void *pad[4];
    uint16_t (*tx)(void *, void **, uint16_t);
    void *tx_rest[2];
    void **tx_data;
    void *pad2[4];
} __attribute__((aligned(64)));

extern struct ops rte_eth_fp_ops[PORTS];
const char *rte_version(void);
int rte_eth_dev_start(uint16_t port);
int rte_eth_dev_get_name_by_port(uint16_t port, char *name);

#ifdef LIBRARY
struct ops rte_eth_fp_ops[PORTS];
static void *data[PORTS];
uint16_t driver_rx(void *queue, void **frames, uint16_t most);
uint16_t driver_tx(void *queue, void **frames, uint16_t most);
const char *rte_version(void) { return "DPDK 22.11.0"; }
int rte_eth_dev_start(uint16_t port) {
    data[port] = &data[port];
    rte_eth_fp_ops[port].rx_data = rte_eth_fp_ops[port].tx_data = &data[port];
    rte_eth_fp_ops[port].rx = driver_rx;
    rte_eth_fp_ops[port].tx = driver_tx;
    return 0;
}
int rte_eth_dev_get_name_by_port(uint16_t port, char *name) { return sprintf(name, "port%u", port) < 0; }
#elif defined(DRIVER)
uint16_t driver_rx(void *queue, void **frames, uint16_t most) { return queue ? most / 2 : 0; }
uint16_t driver_tx(void *queue, void **frames, uint16_t most) { return queue ? most : 0; }
#else
int main(void) {
    void *frames[32];
    int all = 0;
    for (uint16_t port = 0; port < PORTS; port++)
        if (rte_eth_dev_start(port))
            return 1;
    usleep(300000);
    for (uint16_t port = 0; port < PORTS; port++)
        all += rte_eth_fp_ops[port].rx(rte_eth_fp_ops[port].rx_data[0], frames, 32);
    printf("%s received %d\n", rte_version(), all);
    return 0;
}
#endif
