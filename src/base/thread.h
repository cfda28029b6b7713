// NamedThread: a joined thread with a name that debuggers and /proc show.
#pragma once

#include <pthread.h>

#include <functional>
#include <string>
#include <thread>

namespace sm {

class NamedThread {
 public:
  NamedThread() = default;
  // `name`: at most 15 bytes. Starts at once.
  NamedThread(const std::string& name, std::function<void()> body)
      : thread_([name, body = std::move(body)] {
          ::pthread_setname_np(::pthread_self(), name.c_str());
          body();
        }) {}

  // Waits for the end of the body. Idempotent.
  void join() {
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::jthread thread_;
};

}  // namespace sm
