// pool IMAGE: VMs that are ready before they are asked for, and completions in an event loop of
// one's own.
#include <poll.h>
#include <supermachine/supermachine.h>

#include <chrono>
#include <iostream>

namespace sm = supermachine;

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: pool IMAGE\n";
    return 2;
  }
  try {
    sm::ContextOptions options;
    options.completions = sm::Completions::kQueue;
    sm::Context context = sm::Context::create(options).value();
    sm::Image image = sm::Image::from_oci(context, argv[1]).value();
    sm::Pool pool =
        image.pool().min(1).max(2).acquire_timeout(std::chrono::minutes(3)).build().value();

    for (int task = 0; task < 2; ++task) {
      sm::PooledVm vm = pool.acquire().value();
      vm->write_file("/tmp/secret", "of this task only").value();
      std::cout << "task " << task << ": " << vm->run({"ls", "/tmp"}).value().out;
    }  // the VM is thrown away; the next task gets a fresh one

    // Asynchronous: the completion runs in dispatch_completions(), on this thread.
    bool done = false;
    pool.acquire_async([&](sm::Result<sm::PooledVm> vm) {
      std::cout << (vm ? "acquired in the loop\n" : vm.error().text());
      done = true;
    });
    pollfd ready{context.completion_fd(), POLLIN, 0};
    while (!done && ::poll(&ready, 1, 200'000) > 0) context.dispatch_completions();

    const sm::PoolStats stats = pool.stats();
    std::cout << "handed out: " << stats.acquired << "\n";
    return done ? 0 : 1;
  } catch (const sm::Failure& failure) {
    std::cerr << failure.what() << "\n";
    return 1;
  }
}
