// pool_latency IMAGE [ROUNDS]: what a caller of the library waits for: a VM of a warm pool, one
// that has to be restored first, and a program in it. Milliseconds, p50 and p95, one line each.
#include <supermachine/supermachine.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <vector>

namespace sm = supermachine;

namespace {

using Clock = std::chrono::steady_clock;

double ms_of(const std::function<void()>& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

void report(const char* what, std::vector<double> times) {
  std::sort(times.begin(), times.end());
  std::printf("%-28s n=%zu p50=%.3f ms p95=%.3f ms\n", what, times.size(), times[times.size() / 2],
              times[times.size() * 95 / 100]);
}

void wait_for_idle(const sm::Pool& pool, sm::Vm& vm) {
  // The exec is the wait: it gives the pool's VM the time to come up.
  while (pool.stats().idle == 0) vm.run({"true"}).value();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: pool_latency IMAGE [ROUNDS]\n");
    return 2;
  }
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 20;
  try {
    sm::Context context = sm::Context::create().value();
    sm::Image image = sm::Image::from_oci(context, argv[1]).value();
    sm::VmConfig config;
    config.memory_mib = 128;
    sm::Vm other = image.start(config).value();  // also makes the snapshot
    std::vector<double> warm, cold, exec;
    {
      sm::Pool pool = image.pool()
                          .min(1)
                          .max(3)
                          .config(config)
                          .acquire_timeout(std::chrono::minutes(5))
                          .build()
                          .value();
      for (int i = 0; i < rounds; ++i) {
        wait_for_idle(pool, other);
        std::optional<sm::PooledVm> vm;
        warm.push_back(ms_of([&] { vm = pool.acquire().value(); }));
        exec.push_back(ms_of([&] { (*vm)->run({"true"}).value(); }));
      }
    }
    for (int i = 0; i < rounds; ++i) {
      cold.push_back(ms_of([&] {
        sm::Vm vm = image.start(config).value();
        vm.run({"true"}).value();
      }));
    }
    report("warm acquire", warm);
    report("exec true, first of a VM", exec);
    report("restore to exec true", cold);
    std::vector<double> again;
    for (int i = 0; i < rounds; ++i) again.push_back(ms_of([&] { other.run({"true"}).value(); }));
    report("exec true, warm", again);
    return 0;
  } catch (const sm::Failure& failure) {
    std::fprintf(stderr, "%s\n", failure.what());
    return 1;
  }
}
