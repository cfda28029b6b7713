#include "runtime/client/detached_exec.h"

#include <utility>

#include "runtime/client/agent_link.h"

namespace sm {

namespace {

// One start; the loop's stop hook keeps it until it is over.
class Start : public std::enable_shared_from_this<Start> {
 public:
  using Done = std::function<void(Result<std::uint32_t>)>;
  Start(LoopThread& loop, std::shared_ptr<VmEndpoint> vm, Done done)
      : loop_(loop), vm_(std::move(vm)), done_(std::move(done)) {}

  void begin(const agent::ExecRequest& request) {
    hook_ = loop_.add_stop_hook(
        [self = shared_from_this()] { self->finish(fail(LoopThread::closed())); });
    if (auto end = vm_->end()) return finish(fail(std::move(*end)));
    auto link =
        AgentLink::open(loop_.loop(), vm_->exec_socket(), agent::encode_exec(request),
                        {.on_frame = [this](const agent::Frame& frame) { return on_frame(frame); },
                         .on_end =
                             [this](Error error) {
                               // The worker's end, when there is one, explains more than a lost
                               // connection.
                               if (auto end = vm_->end()) error = std::move(*end);
                               finish(fail(std::move(error)));
                             }});
    if (!link) return finish(fail(std::move(link).error()));
    link_ = std::move(*link);
  }

 private:
  Status on_frame(const agent::Frame& frame) {
    if (frame.type != agent::FrameType::kStarted) {
      return fail(Code::kCorrupt, "agent protocol: a frame that a detached exec does not know");
    }
    finish(SM_TRY(agent::decode_started(frame.payload)).pid);
    return {};
  }
  void finish(Result<std::uint32_t> result) {
    if (!done_) return;
    // Frames of link_ may be below us on the stack.
    loop_.loop().post([self = shared_from_this()] { self->link_.reset(); });
    loop_.remove_stop_hook(std::exchange(hook_, HookId::kNone));
    std::exchange(done_, {})(std::move(result));
  }

  LoopThread& loop_;
  std::shared_ptr<VmEndpoint> vm_;
  Done done_;
  HookId hook_ = HookId::kNone;
  std::unique_ptr<AgentLink> link_;
};

}  // namespace

void detached_exec(const std::shared_ptr<LoopThread>& loop, const std::shared_ptr<VmEndpoint>& vm,
                   const agent::ExecRequest& request,
                   std::function<void(Result<std::uint32_t>)> done) {
  const auto shared = std::make_shared<Start::Done>(std::move(done));
  const bool accepted = loop->post([loop = loop.get(), vm, request, shared] {
    std::make_shared<Start>(*loop, vm, std::move(*shared))->begin(request);
  });
  if (!accepted) (*shared)(fail(LoopThread::closed()));
}

}  // namespace sm
