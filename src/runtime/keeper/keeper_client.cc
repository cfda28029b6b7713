#include "runtime/keeper/keeper_client.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <span>
#include <utility>

#include "base/bytes.h"
#include "runtime/unix_connect.h"

namespace sm {

namespace {

// From the lock of a record to what it says of its new state, and from a keeper's last word to the
// end of its lock.
constexpr Duration kMostMotion = std::chrono::seconds(10);

class Patience {
 public:
  explicit Patience(Duration most)
      : endless_(most == kForEver), deadline_(Deadline::after(endless_ ? Duration(0) : most)) {}
  int poll_ms() const { return endless_ ? -1 : deadline_.poll_timeout_ms(); }

 private:
  bool endless_;
  Deadline deadline_;
};

tl::unexpected<Error> gone(const VmRecord& vm) {
  return fail(Code::kGone, "the VM " + short_vm_id(vm.id) + " is not running",
              "see `supermachine ps -a`");
}

tl::unexpected<Error> no_answer(const VmRecord& vm) {
  const std::string id = short_vm_id(vm.id);
  return fail(Code::kTimeout, "the keeper of the VM " + id + " does not answer",
              "let it go on if it was stopped, or end it: supermachine rm -f " + id);
}

Status wait_for(int fd, short events, const VmRecord& vm, const Patience& patience) {
  pollfd one{fd, events, 0};
  for (;;) {
    const int ready = ::poll(&one, 1, patience.poll_ms());
    if (ready > 0) return {};
    if (ready == 0) return no_answer(vm);
    if (errno != EINTR) return fail_errno("poll", errno);
  }
}

// Exactly so many bytes: what follows belongs to somebody else.
Status receive(int fd, std::span<std::byte> out, const VmRecord& vm, const Patience& patience) {
  while (!out.empty()) {
    const ssize_t n = ::recv(fd, out.data(), out.size(), MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno == ECONNRESET)) return gone(vm);
    if (n > 0) {
      out = out.subspan(static_cast<std::size_t>(n));
    } else if (errno == EAGAIN) {
      SM_TRY_STATUS(wait_for(fd, POLLIN, vm, patience));
    } else if (errno != EINTR) {
      return fail_errno("keeper's socket", errno);
    }
  }
  return {};
}

Status send_all(int fd, std::span<const std::byte> bytes, const VmRecord& vm,
                const Patience& patience) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    } else if (errno == EAGAIN) {
      SM_TRY_STATUS(wait_for(fd, POLLOUT, vm, patience));
    } else if (errno != EINTR) {
      return gone(vm);
    }
  }
  return {};
}

struct Answer {
  UniqueFd socket;
  KeeperReply reply;
};

Result<Answer> ask(const VmRecord& vm, const KeeperRequest& request, Duration most) {
  const Patience patience(most);
  if (!is_kept(vm)) return gone(vm);
  auto socket = connect_unix(vm.keeper_socket);
  if (!socket) return gone(vm);
  SM_TRY_STATUS(send_all(socket->get(), encode_request(request), vm, patience));
  std::array<std::byte, 4> head{};
  SM_TRY_STATUS(receive(socket->get(), head, vm, patience));
  const std::uint32_t length = *ByteReader(head).take<std::uint32_t>();
  if (length > kMaxKeeperMessage) return fail(Code::kLimit, "keeper's socket: a long message");
  std::vector<std::byte> body(length);
  SM_TRY_STATUS(receive(socket->get(), body, vm, patience));
  Answer out;
  out.reply = SM_TRY(decode_reply(body));
  out.socket = *std::move(socket);
  return out;
}

}  // namespace

Result<KeeperReply> ask_keeper(const VmRecord& vm, const KeeperRequest& request,
                               Duration patience) {
  Answer answer = SM_TRY(ask(vm, request, patience));
  // The status of an exec that was refused is wanted with the error.
  if (answer.reply.error && request.verb != KeeperVerb::kExec) {
    return fail(*std::move(answer.reply.error));
  }
  return std::move(answer.reply);
}

Result<KeeperReply> ask_vm(const VmRegistry& registry, VmRecord vm, const KeeperRequest& request,
                           Duration patience) {
  const Deadline deadline = Deadline::after(kMostMotion);
  for (;;) {
    auto reply = ask_keeper(vm, request, patience);
    if (reply || reply.error().code() != Code::kGone) return reply;
    auto found = registry.find(vm.id);
    if (!found && found.error().code() == Code::kNotFound) return gone(vm);
    vm = SM_TRY(std::move(found));
    if (!is_kept(vm) && !registry.is_held(vm.id)) return gone(vm);
    if (deadline.passed()) return no_answer(vm);
    // A lock has nothing that could be waited for with a deadline.
    ::poll(nullptr, 0, 5);
  }
}

Result<UniqueFd> attach_to_keeper(const VmRecord& vm) {
  Answer answer = SM_TRY(ask(
      vm, {.verb = KeeperVerb::kAttach, .signal = 0, .seconds = {}, .text = {}}, kKeeperPatience));
  if (answer.reply.error) return fail(*std::move(answer.reply.error));
  return std::move(answer.socket);
}

}  // namespace sm
