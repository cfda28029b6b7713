// bake IMAGE: a server is baked once and kept in the cache; every further start of this program
// finds it there. Warmed up with data of its own it is a second snapshot, and a pool of VMs.
#include <supermachine/supermachine.h>

#include <iostream>

namespace sm = supermachine;

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: bake IMAGE\n";
    return 2;
  }
  try {
    sm::Context context = sm::Context::create().value();
    const sm::Image image = sm::Image::builder(context, argv[1])
                                .memory_mib(128)
                                .command({"httpd", "-f", "-p", "8080", "-h", "/tmp"})
                                .build()
                                .value();
    sm::BakeConfig bake;
    bake.when = sm::BakeWhen::kListener;
    bake.port = 8080;
    const sm::Image server = image.bake(bake).value();

    sm::WarmupConfig warmup;
    warmup.commands = {{{"sh", "-c", "echo $WORD >/tmp/index.html"}, {"WORD=warm"}, {}},
                       {{"wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/index.html"},
                        {},
                        std::chrono::seconds(60)}};
    const sm::Image warm = server.with_warmup(warmup).value();
    sm::Pool pool =
        warm.pool().min(2).max(2).acquire_timeout(std::chrono::minutes(3)).build().value();
    for (int i = 0; i < 2; ++i) {
      sm::PooledVm vm = pool.acquire().value();
      std::cout
          << vm->run({"wget", "-q", "-O", "-", "http://127.0.0.1:8080/index.html"}).value().out;
    }

    warmup.commands = {{{"sh", "-c", "echo 'no such data' >&2; exit 1"}, {}, {}}};
    const auto failed = server.with_warmup(warmup);
    if (!failed) std::cout << sm::error_code_name(failed.error().code()) << "\n";
    return 0;
  } catch (const sm::Failure& failure) {
    std::cerr << failure.what() << "\n";
    return 1;
  }
}
