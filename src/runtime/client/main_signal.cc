#include "runtime/client/main_signal.h"

#include <utility>

namespace sm {

namespace {

// One signal; the loop's stop hook keeps it until it is over.
class Order : public std::enable_shared_from_this<Order> {
 public:
  Order(LoopThread& loop, std::shared_ptr<VmEndpoint> vm, MainSignal::Done done)
      : loop_(loop), vm_(std::move(vm)), done_(std::move(done)) {}

  void begin(std::uint32_t number) {
    hook_ = loop_.add_stop_hook(
        [self = shared_from_this()] { self->finish(fail(LoopThread::closed())); });
    if (auto end = vm_->end()) return finish(fail(std::move(*end)));
    auto signal = MainSignal::send(loop_.loop(), vm_->exec_socket(), number,
                                   [this](Status status) { finish(std::move(status)); });
    if (!signal) return finish(fail(std::move(signal).error()));
    signal_ = std::move(*signal);
  }

 private:
  void finish(Status status) {
    if (!done_) return;
    // It may be below us on the stack.
    loop_.loop().post([self = shared_from_this()] { self->signal_.reset(); });
    loop_.remove_stop_hook(std::exchange(hook_, HookId::kNone));
    // The worker's end, when there is one, explains more than a lost connection.
    auto end = vm_->end();
    std::exchange(done_, {})(!status && end ? Status(fail(std::move(*end))) : std::move(status));
  }

  LoopThread& loop_;
  std::shared_ptr<VmEndpoint> vm_;
  MainSignal::Done done_;
  HookId hook_ = HookId::kNone;
  std::unique_ptr<MainSignal> signal_;
};

}  // namespace

Result<std::unique_ptr<MainSignal>> MainSignal::send(EventLoop& loop, const std::string& socket,
                                                     std::uint32_t number, Done done) {
  std::unique_ptr<MainSignal> out(new MainSignal(std::move(done)));
  const auto on_frame = [s = out.get()](const agent::Frame& frame) -> Status {
    if (frame.type != agent::FrameType::kDone) {
      return fail(Code::kCorrupt, "agent protocol: not an answer to a signal");
    }
    s->finish({});
    return {};
  };
  out->link_ =
      SM_TRY(AgentLink::open(loop, socket, agent::encode_signal_main(number),
                             {.on_frame = on_frame, .on_end = [s = out.get()](Error error) {
                                s->finish(fail(std::move(error)));
                              }}));
  return out;
}

// Nothing is touched after the callback.
void MainSignal::finish(Status status) {
  if (!done_) return;
  const Done done = std::exchange(done_, {});
  done(std::move(status));
}

void signal_main(const std::shared_ptr<LoopThread>& loop, const std::shared_ptr<VmEndpoint>& vm,
                 std::uint32_t number, MainSignal::Done done) {
  const auto shared = std::make_shared<MainSignal::Done>(std::move(done));
  const bool accepted = loop->post([loop = loop.get(), vm, number, shared] {
    std::make_shared<Order>(*loop, vm, std::move(*shared))->begin(number);
  });
  if (!accepted) (*shared)(fail(LoopThread::closed()));
}

}  // namespace sm
