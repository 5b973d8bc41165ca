// The same interface from C++17: a class around the loop, threads of the standard library.
#include "bypassprof.h"

#include <chrono>
#include <cstdio>
#include <initializer_list>
#include <thread>

namespace {

class Request {
public:
    Request(std::uint32_t flow, std::uint32_t number) : flow_(flow)
    {
        bypassprof_emit(BYPASSPROF_APP_START, flow_, number);
    }
    ~Request() { bypassprof_emit(BYPASSPROF_APP_END, flow_, 151); }
    Request(const Request &) = delete;
    Request &operator=(const Request &) = delete;

private:
    std::uint32_t flow_;
};

bool wait_for_recorder()
{
    for (int i = 0; i < 20000; i++) {
        if (bypassprof_enabled())
            return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::fprintf(stderr, "no recorder came\n");
    return false;
}

void work(const char *name, std::uint8_t queue)
{
    bypassprof_name_thread(name);
    const std::uint8_t a[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    const std::uint8_t b[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
    const std::uint32_t flow = bypassprof_flow_ipv6(a, 8080, b, 40000);
    auto loop = bypassprof_poll_loop_unstamped();
    for (std::uint32_t frames : {0, 1, 0}) {
        bypassprof_begin(&loop);
        const auto burst = bypassprof_rx_burst(&loop, queue, frames, 32, 7);
        if (frames > 0) {
            bypassprof_burst_emit(burst, BYPASSPROF_DELIVER, flow, 64);
            Request request(flow, 1);
        }
        bypassprof_stage(&loop, BYPASSPROF_STAGE_APP);
        bypassprof_end(&loop);
    }
}

} // namespace

int main()
{
    if (!wait_for_recorder())
        return 1;
    std::thread first(work, "first", std::uint8_t{1});
    first.join();
    std::thread second(work, "second", std::uint8_t{2});
    second.join();
    return 0;
}
