#include "runtime/client/file_client.h"

#include <algorithm>
#include <span>
#include <utility>

#include "runtime/client/agent_link.h"

namespace sm {

namespace {

using agent::FrameType;
using agent::Stream;

// One transfer; it owns itself through the loop's stop hook until it is over.
class Transfer : public std::enable_shared_from_this<Transfer> {
 public:
  using Done = std::function<void(Result<std::vector<std::byte>>)>;

  Transfer(LoopThread& loop, std::shared_ptr<VmEndpoint> vm, Done done)
      : loop_(loop), vm_(std::move(vm)), done_(std::move(done)) {}

  void read(const std::string& path, std::size_t limit) {
    limit_ = limit;
    begin(agent::encode_file(FrameType::kReadFile, {.path = path}));
  }
  void write(const std::string& path, std::uint32_t mode, std::vector<std::byte> content) {
    writes_ = true;
    content_ = std::move(content);
    begin(agent::encode_file(FrameType::kWriteFile,
                             {.path = path, .mode = mode, .size = content_.size()}));
    if (link_) send_some();
  }

 private:
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
  // The worker's end, when there is one, explains more than a lost connection.
  void on_end(Error error) {
    if (auto end = vm_->end()) error = std::move(*end);
    finish(fail(std::move(error)));
  }
  Status on_frame(const agent::Frame& frame) {
    switch (frame.type) {
      case FrameType::kStarted:
        if (writes_) break;
        return on_size(SM_TRY(agent::decode_started(frame.payload)).size);
      case FrameType::kData:
        if (writes_) break;
        return on_data(frame.payload);
      case FrameType::kWindow:
        if (!writes_) break;
        window_ += SM_TRY(agent::decode_u32(frame.payload));
        send_some();
        return {};
      case FrameType::kDone:
        if (!writes_ && content_.size() != size_) break;
        finish(std::move(content_));
        return {};
      default:
        break;
    }
    return fail(Code::kCorrupt, "agent protocol: a frame that a file request does not know");
  }
  Status on_size(std::uint64_t size) {
    if (size > limit_) {
      return fail(Code::kLimit,
                  "the guest's file has " + std::to_string(size) + " bytes, more than the " +
                      std::to_string(limit_) + " allowed",
                  "read it in parts with a program of the guest");
    }
    // A second size would make room for more than the limit.
    if (std::exchange(started_, true)) {
      return fail(Code::kCorrupt, "agent protocol: a file announced twice");
    }
    size_ = size;
    return {};
  }
  Status on_data(std::span<const std::byte> bytes) {
    if (!started_ || bytes.size() > size_ - content_.size()) {
      return fail(Code::kCorrupt, "agent protocol: more of a file than announced");
    }
    content_.insert(content_.end(), bytes.begin(), bytes.end());
    if (!bytes.empty()) {
      link_->send(agent::encode_window(Stream::kStdout, static_cast<std::uint32_t>(bytes.size())));
    }
    return {};
  }
  // As much as the window takes; an empty frame is the end.
  void send_some() {
    while (!sent_all_ && (window_ > 0 || sent_ == content_.size())) {
      const std::size_t n = std::min({content_.size() - sent_, static_cast<std::size_t>(window_),
                                      static_cast<std::size_t>(agent::kMaxData)});
      link_->send(agent::encode_data(Stream::kStdin, std::span(content_).subspan(sent_, n)));
      sent_all_ = n == 0;
      sent_ += n;
      window_ -= n;
    }
  }
  void finish(Result<std::vector<std::byte>> result) {
    if (finished_) return;
    finished_ = true;
    // Frames of link_ may be below us on the stack.
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
  std::vector<std::byte> content_;
  bool started_ = false;
  bool writes_ = false;
  bool finished_ = false;
  std::size_t limit_ = 0;
  std::uint64_t size_ = 0;
  std::uint64_t window_ = agent::kInitialWindow;
  std::size_t sent_ = 0;
  bool sent_all_ = false;
};

}  // namespace

void read_guest_file(LoopThread& loop, const std::shared_ptr<VmEndpoint>& vm,
                     const std::string& path, std::size_t limit,
                     std::function<void(Result<std::vector<std::byte>>)> done) {
  std::make_shared<Transfer>(loop, vm, std::move(done))->read(path, limit);
}

void write_guest_file(LoopThread& loop, const std::shared_ptr<VmEndpoint>& vm,
                      const std::string& path, std::uint32_t mode, std::vector<std::byte> content,
                      std::function<void(Status)> done) {
  const auto transfer = std::make_shared<Transfer>(
      loop, vm, [done = std::move(done)](Result<std::vector<std::byte>> result) {
        if (result) return done({});
        done(fail(std::move(result).error()));
      });
  transfer->write(path, mode, std::move(content));
}

}  // namespace sm
