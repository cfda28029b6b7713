// snapshot IMAGE FOLDER: a server is started once, saved, and cloned: every clone has it running.
#include <supermachine/supermachine.h>

#include <iostream>

namespace sm = supermachine;

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: snapshot IMAGE FOLDER\n";
    return 2;
  }
  try {
    sm::Context context = sm::Context::create().value();
    {
      sm::Vm vm = sm::Image::from_oci(context, argv[1]).value().start().value();
      // Detached: it outlives its connection to this program, and so the restores.
      vm.exec_builder()
          .argv({"sh", "-c", "echo warm >/tmp/state; exec sleep 1000000"})
          .detach()
          .value();
      vm.run({"sh", "-c", "until [ -s /tmp/state ]; do sleep 0.1; done"}).value();
      vm.snapshot(argv[2]).value();
    }  // the VM was paused; here it ends

    sm::Image saved = sm::Image::from_snapshot(context, argv[2]).value();
    sm::Pool pool =
        saved.pool().min(2).max(2).acquire_timeout(std::chrono::minutes(3)).build().value();
    for (int i = 0; i < 2; ++i) {
      sm::PooledVm vm = pool.acquire().value();
      const char* const script = "cat /tmp/state; pidof sleep >/dev/null && echo runs";
      std::cout << vm->run({"sh", "-c", script}).value().out;
    }
    return 0;
  } catch (const sm::Failure& failure) {
    std::cerr << failure.what() << "\n";
    return 1;
  }
}
