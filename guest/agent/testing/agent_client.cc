#include "agent/testing/agent_client.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/bytes.h"
#include "base/event_loop.h"
#include "base/file.h"

namespace sm::guest::testing {

namespace {

sockaddr_un address_of(const std::string& folder) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = folder + "/agent.sock";
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

UniqueFd listen_in(const std::string& folder) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(folder);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) < 0 ||
      ::listen(fd.get(), 1024) < 0) {
    return {};
  }
  return fd;
}

// A cgroup2 mount that tests may use; empty when this machine offers none.
std::string find_cgroup2() {
  std::ifstream mounts("/proc/mounts");
  std::string line;
  while (std::getline(mounts, line)) {
    std::istringstream fields(line);
    std::string device, path, type;
    fields >> device >> path >> type;
    if (type == "cgroup2" && ::access(path.c_str(), W_OK) == 0) return path;
  }
  return {};
}

int serve(UniqueFd listener, UniqueFd link, ServerOptions options) {
  auto loop = EventLoop::create();
  if (!loop) return 2;
  Server server(**loop, std::move(link), std::move(options));
  const auto watch = (*loop)->add(listener.get(), EPOLLIN, [&](std::uint32_t) {
    server.adopt(UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)));
  });
  if (!watch || !server.report_ready()) return 2;
  (*loop)->run();
  (*loop)->remove(*watch);
  return 0;
}

void block_broken_pipe() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGPIPE);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
}

}  // namespace

bool eventually(const std::function<bool()>& condition) {
  const Deadline deadline = Deadline::after(kPatience);
  while (!condition()) {
    if (deadline.passed()) return false;
    ::poll(nullptr, 0, 2);
  }
  return true;
}

bool wait_until_gone(pid_t pid) {
  return eventually([pid] { return ::kill(pid, 0) < 0 && errno == ESRCH; });
}

agent::ExecRequest shell(std::string_view script) {
  agent::ExecRequest request;
  request.argv = {"/bin/sh", "-c", std::string(script)};
  return request;
}

HostConnection::HostConnection(UniqueFd socket) : socket_(std::move(socket)) {
  EXPECT_TRUE(set_nonblocking(socket_.get(), true).has_value());
}

bool HostConnection::wait(short events, short& ready, Deadline deadline) const {
  pollfd waiting{socket_.get(), events, 0};
  const int n = ::poll(&waiting, 1, deadline.poll_timeout_ms());
  ready = waiting.revents;
  EXPECT_EQ(n, 1) << "the agent did not answer in time";
  return n == 1;
}

void HostConnection::send(std::span<const std::byte> bytes) {
  const Deadline deadline = Deadline::after(kPatience);
  while (!bytes.empty()) {
    const ssize_t n = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n > 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(n));
      continue;
    }
    short ready = 0;
    if (errno != EAGAIN || !wait(POLLOUT, ready, deadline)) return;
  }
}

bool HostConnection::receive() {
  std::array<std::byte, 65536> buffer;
  const ssize_t n = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
  if (n < 0 && errno == EAGAIN) return true;
  if (n <= 0) {
    ended_ = true;
    return false;
  }
  parser_.feed(std::span(buffer).first(static_cast<std::size_t>(n)));
  return true;
}

std::optional<agent::Frame> HostConnection::next(Deadline deadline) {
  for (;;) {
    auto frame = parser_.next();
    EXPECT_TRUE(frame.has_value());
    if (!frame) return std::nullopt;
    if (*frame) return std::move(**frame);
    short ready = 0;
    if (ended_ || !wait(POLLIN, ready, deadline)) return std::nullopt;
    receive();
  }
}

void HostConnection::take(const agent::Frame& frame) {
  using agent::FrameType;
  const bool after_the_last = outcome_.exit || outcome_.error || outcome_.done;
  if (after_the_last) outcome_.violation = true;
  switch (frame.type) {
    case FrameType::kHello:
      return;
    case FrameType::kData: {
      if (frame.stream < 1 || frame.stream > 2) outcome_.violation = true;
      (frame.stream == 2 ? outcome_.err : outcome_.out) += as_text(frame.payload);
      std::uint32_t& owed = owed_[frame.stream];
      owed += static_cast<std::uint32_t>(frame.payload.size());
      if (owed < grant_step_) return;
      send(agent::encode_window(static_cast<agent::Stream>(frame.stream), owed));
      owed = 0;
      return;
    }
    case FrameType::kWindow:
      stdin_window_ += agent::decode_u32(frame.payload).value_or(0);
      return;
    case FrameType::kStarted:
      outcome_.started = agent::decode_started(frame.payload).value_or(agent::Started{});
      return;
    case FrameType::kExit:
      outcome_.exit = agent::decode_exit(frame.payload).value_or(agent::ExitReport{});
      return;
    case FrameType::kError:
      outcome_.error = agent::decode_error(frame.payload).value_or(agent::ErrorReport{});
      return;
    case FrameType::kDone:
      outcome_.done = true;
      return;
    default:
      outcome_.violation = true;
  }
}

Outcome HostConnection::finish(std::string_view input, std::uint32_t window) {
  grant_step_ = window;
  const Deadline deadline = Deadline::after(kPatience);
  for (;;) {
    auto frame = parser_.next();
    EXPECT_TRUE(frame.has_value());
    if (!frame) break;
    if (*frame) {
      take(**frame);
      continue;
    }
    if (ended_) break;
    const bool over = outcome_.exit || outcome_.error || outcome_.done;
    const bool may_send = !over && !input_ended_ && (input.empty() || stdin_window_ > 0);
    short ready = 0;
    if (!wait(static_cast<short>(POLLIN | (may_send ? POLLOUT : 0)), ready, deadline)) break;
    if ((ready & (POLLIN | POLLHUP)) != 0) receive();
    if (!may_send || (ready & POLLOUT) == 0) continue;
    const auto n = std::min<std::uint64_t>({input.size(), stdin_window_, agent::kMaxData});
    send(agent::encode_data(agent::Stream::kStdin, as_byte_span(input.substr(0, n))));
    input_ended_ = n == 0;
    input.remove_prefix(n);
    stdin_window_ -= n;
  }
  outcome_.closed = ended_;
  return outcome_;
}

void HostConnection::wait_until_taken() const {
  EXPECT_TRUE(eventually([this] {
    int left = 0;
    return ::ioctl(socket_.get(), SIOCOUTQ, &left) == 0 && left == 0;
  }));
}

void HostConnection::expect_output(std::string_view text) {
  const Deadline deadline = Deadline::after(kPatience);
  while (outcome_.out.find(text) == std::string::npos) {
    const auto frame = next(deadline);
    if (!frame) {
      ADD_FAILURE() << "no '" << text << "' in: " << outcome_.out << outcome_.err;
      return;
    }
    take(*frame);
  }
}

AgentProcess::AgentProcess(ServerOptions options) {
  char name[] = "/tmp/sm-agent-test-XXXXXX";
  EXPECT_NE(::mkdtemp(name), nullptr);
  folder_ = name;
  UniqueFd listener = listen_in(folder_);
  EXPECT_TRUE(listener.valid());
  auto ends = make_link();
  EXPECT_TRUE(ends.has_value());
  if (const std::string mount = find_cgroup2(); !mount.empty()) {
    cgroup_ = mount + "/sm-agent-test-" + std::to_string(::getpid());
    options.cgroup_base = cgroup_;
  }
  if (options.settings.hostname.empty()) options.settings.hostname = "testhost";
  pid_ = ::fork();
  if (pid_ == 0) {
    block_broken_pipe();
    ends->init.reset();
    ::exit(serve(std::move(listener), std::move(ends->agent), std::move(options)));
  }
  link_ = std::move(ends->init);
  expect_link(LinkType::kReady);
}

AgentProcess::~AgentProcess() {
  stop();
  ::unlink((folder_ + "/agent.sock").c_str());
  ::rmdir(folder_.c_str());
}

void AgentProcess::stop() {
  if (pid_ < 0) return;
  link_.reset();
  int status = 0;
  const pid_t pid = std::exchange(pid_, -1);
  const bool ended = eventually([&] { return ::waitpid(pid, &status, WNOHANG) == pid; });
  EXPECT_TRUE(ended) << "the agent does not end";
  if (!ended) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, &status, 0);
  }
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "agent's wait status " << status;
  if (cgroup_.empty()) return;
  // What was killed leaves its cgroup a moment later.
  const auto remove = [this] {
    const std::string command = "rmdir " + cgroup_ + "/exec-* 2>/dev/null; rmdir " + cgroup_;
    return ::access(cgroup_.c_str(), F_OK) < 0 ||
           std::system((command + " 2>/dev/null").c_str()) == 0;
  };
  EXPECT_TRUE(eventually(remove)) << cgroup_;
}

UniqueFd AgentProcess::connect_raw() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(folder_);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  return fd;
}

HostConnection AgentProcess::connect() {
  HostConnection connection(connect_raw());
  connection.hello();
  return connection;
}

Outcome AgentProcess::run(const agent::ExecRequest& request, std::string_view input) {
  HostConnection connection = connect();
  connection.send(agent::encode_exec(request));
  return connection.finish(input);
}

LinkMessage AgentProcess::expect_link(LinkType type) {
  LinkMessage message{type, ~0u};
  const bool came = eventually([&] {
    const auto received = receive_link(link_.get());
    if (!received || !*received) return !received.has_value();
    message = **received;
    return true;
  });
  EXPECT_TRUE(came);
  EXPECT_EQ(message.type, type);
  return message;
}

void AgentProcess::send_link_message(LinkMessage message) {
  EXPECT_TRUE(send_link(link_.get(), message).has_value());
}

std::size_t AgentProcess::open_descriptors() const {
  const std::string path = "/proc/" + std::to_string(pid_) + "/fd";
  DIR* dir = ::opendir(path.c_str());
  if (dir == nullptr) return 0;
  std::size_t count = 0;
  while (::readdir(dir) != nullptr) ++count;
  ::closedir(dir);
  return count;
}

std::size_t AgentProcess::children() const {
  const std::string pid = std::to_string(pid_);
  std::ifstream file("/proc/" + pid + "/task/" + pid + "/children");
  std::size_t count = 0;
  for (std::string word; file >> word;) ++count;
  return count;
}

bool AgentProcess::memory_contains(std::string_view text) const {
  const std::string folder = "/proc/" + std::to_string(pid_);
  std::ifstream maps(folder + "/maps");
  const auto memory = open_file(folder + "/mem", O_RDONLY);
  EXPECT_TRUE(memory.has_value());
  for (std::string line; memory && std::getline(maps, line);) {
    std::uint64_t start = 0, end = 0;
    char writable = '-';
    if (std::sscanf(line.c_str(), "%lx-%lx %*c%c", &start, &end, &writable) != 3) continue;
    if (writable != 'w' || end - start > (64u << 20)) continue;
    std::string bytes(end - start, '\0');
    const ssize_t n = ::pread(memory->get(), bytes.data(), bytes.size(), static_cast<off_t>(start));
    if (n > 0 && bytes.find(text) < static_cast<std::size_t>(n)) return true;
  }
  return false;
}

}  // namespace sm::guest::testing
