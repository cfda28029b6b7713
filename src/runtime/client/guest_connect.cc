#include "runtime/client/guest_connect.h"

#include <utility>

#include "runtime/client/agent_link.h"

namespace sm {

namespace {

// Owns itself through the loop's stop hook until it is over.
class Connector : public std::enable_shared_from_this<Connector> {
 public:
  using Done = std::function<void(Result<UniqueFd>)>;

  Connector(LoopThread& loop, std::shared_ptr<VmEndpoint> vm, Done done)
      : loop_(loop), vm_(std::move(vm)), done_(std::move(done)) {}

  void begin(std::vector<std::byte> request) {
    hook_ = loop_.add_stop_hook(
        [self = shared_from_this()] { self->finish(fail(LoopThread::closed())); });
    if (auto end = vm_->end()) return finish(fail(std::move(*end)));
    auto link =
        AgentLink::open(loop_.loop(), vm_->exec_socket(), std::move(request),
                        {.on_frame = [this](const agent::Frame& frame) { return on_frame(frame); },
                         .on_end = [this](Error error) { on_end(std::move(error)); }});
    if (!link) return on_end(std::move(link).error());
    link_ = std::move(*link);
  }

 private:
  Status on_frame(const agent::Frame& frame) {
    if (frame.type != agent::FrameType::kStarted) {
      return fail(Code::kCorrupt, "agent protocol: a frame that a forward does not know");
    }
    finish(link_->take());
    return {};
  }
  void on_end(Error error) {
    if (auto end = vm_->end()) error = std::move(*end);
    finish(fail(std::move(error)));
  }
  void finish(Result<UniqueFd> result) {
    if (finished_) return;
    finished_ = true;
    // link_ may be below us on the stack.
    const auto self = shared_from_this();
    loop_.loop().post([self] { self->link_.reset(); });
    loop_.remove_stop_hook(std::exchange(hook_, HookId::kNone));
    std::exchange(done_, {})(std::move(result));
  }

  LoopThread& loop_;
  std::shared_ptr<VmEndpoint> vm_;
  Done done_;
  HookId hook_ = HookId::kNone;
  std::unique_ptr<AgentLink> link_;
  bool finished_ = false;
};

}  // namespace

void connect_to_guest(LoopThread& loop, const std::shared_ptr<VmEndpoint>& vm, std::uint16_t port,
                      std::span<const std::byte> first,
                      std::function<void(Result<UniqueFd>)> done) {
  auto request = agent::encode_forward(port);
  request.insert(request.end(), first.begin(), first.end());
  std::make_shared<Connector>(loop, vm, std::move(done))->begin(std::move(request));
}

}  // namespace sm
