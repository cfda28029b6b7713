// The agent as a server: the protocol's edges, files, forwarded ports, the main workload.

#include "agent/server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "agent/testing/agent_client.h"
#include "base/bytes.h"
#include "base/file.h"

namespace sm::guest {
namespace {

namespace fs = std::filesystem;
using agent::ErrorKind;
using agent::FrameType;
using agent::Stream;
using testing::AgentProcess;
using testing::eventually;
using ::testing::HasSubstr;
using testing::HostConnection;
using testing::Outcome;
using testing::shell;

void expect_protocol_error(const Outcome& outcome) {
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->kind, ErrorKind::kProtocol) << outcome.error->message;
  EXPECT_TRUE(outcome.closed);
}

void expect_still_serving(AgentProcess& agent) {
  const Outcome outcome = agent.run(shell("echo alive"));
  EXPECT_EQ(outcome.out, "alive\n");
}

TEST(Protocol, AgentSaysHelloFirst) {
  ServerOptions options;
  options.generation = [] { return 7u; };
  AgentProcess agent(std::move(options));
  HostConnection host(agent.connect_raw());
  const auto frame = host.next();
  ASSERT_TRUE(frame && frame->type == FrameType::kHello);
  const auto hello = agent::decode_hello(frame->payload);
  ASSERT_TRUE(hello.has_value());
  EXPECT_EQ(hello->generation, 7u);
}

TEST(Protocol, GarbageGetsOneErrorAndIsCutOff) {
  AgentProcess agent;
  for (const std::string& garbage :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(100, '\xff'), std::string(8, '\0'),
        std::string("\xff\xff\xff\x7f\x02\x00\x00\x00", 8)}) {
    HostConnection host(agent.connect_raw());
    host.send(as_byte_span(garbage));
    expect_protocol_error(host.finish());
  }
  expect_still_serving(agent);
}

TEST(Protocol, RequestBeforeTheHelloIsRefused) {
  AgentProcess agent;
  HostConnection host(agent.connect_raw());
  host.send(agent::encode_exec(shell("true")));
  expect_protocol_error(host.finish());
}

TEST(Protocol, OtherVersionIsNamed) {
  AgentProcess agent;
  HostConnection host(agent.connect_raw());
  host.send(agent::encode_hello({.version = 99}));
  const Outcome outcome = host.finish();
  expect_protocol_error(outcome);
  EXPECT_THAT(outcome.error->message, HasSubstr("version 99"));
}

TEST(Protocol, WhatIsNoRequestIsRefused) {
  AgentProcess agent;
  for (const auto& frame :
       {agent::encode_done(), agent::encode_signal(9), agent::encode_data(Stream::kStdin, {}),
        agent::encode_hello({}), agent::encode_forward(0), agent::encode_forward(65536),
        agent::encode_file(FrameType::kReadFile, {.path = "relative"}),
        agent::encode_exec(agent::ExecRequest{})}) {
    HostConnection host = agent.connect();
    host.send(frame);
    expect_protocol_error(host.finish());
  }
}

TEST(Protocol, ViolationDuringAnExecEndsTheProgram) {
  AgentProcess agent;
  for (const auto& frame :
       {agent::encode_exec(shell("true")), agent::encode_signal(0), agent::encode_signal(65),
        agent::encode_data(Stream::kStdout, as_byte_span("x")),
        agent::encode_window(Stream::kStdin, 5), agent::encode_exit({})}) {
    HostConnection host = agent.connect();
    host.send(agent::encode_exec(shell("echo $$; sleep 1000")));
    host.expect_output("\n");
    const pid_t pid = std::stoi(host.so_far().out);
    host.send(frame);
    expect_protocol_error(host.finish());
    EXPECT_TRUE(testing::wait_until_gone(pid));
  }
}

TEST(Protocol, DataBeyondTheWindowIsAViolation) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  agent::ExecRequest request = shell("sleep 1000");
  request.keep_stdin = true;
  host.send(agent::encode_exec(request));
  const std::string chunk(agent::kMaxData, 'x');
  // The pipe takes some, and a window of it may be granted again before it is full.
  for (int i = 0; i < 12; ++i) host.send(agent::encode_data(Stream::kStdin, as_byte_span(chunk)));
  expect_protocol_error(host.finish());
}

TEST(Protocol, SlowPeerIsDropped) {
  ServerOptions options;
  options.request_timeout = std::chrono::seconds(2);
  AgentProcess agent(std::move(options));
  HostConnection silent(agent.connect_raw());
  HostConnection dripping(agent.connect_raw());
  const auto hello = agent::encode_hello({});
  dripping.send(std::span(hello).first(5));
  EXPECT_TRUE(silent.finish().closed);
  EXPECT_TRUE(dripping.finish().closed);
  expect_still_serving(agent);
}

TEST(Protocol, RequestInSmallPiecesIsServed) {
  AgentProcess agent;
  HostConnection host(agent.connect_raw());
  auto bytes = agent::encode_hello({});
  const auto request = agent::encode_exec(shell("echo pieces"));
  bytes.insert(bytes.end(), request.begin(), request.end());
  for (const std::byte& byte : bytes) host.send(std::span(&byte, 1));
  EXPECT_EQ(host.finish().out, "pieces\n");
}

TEST(Protocol, TooManyConnectionsGetAnError) {
  ServerOptions options;
  options.max_connections = 3;
  AgentProcess agent(std::move(options));
  std::vector<HostConnection> held;
  for (int i = 0; i < 3; ++i) {
    held.push_back(agent.connect());
    ASSERT_TRUE(held.back().next().has_value());
  }
  HostConnection refused = agent.connect();
  const Outcome outcome = refused.finish();
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->kind, ErrorKind::kResource);
  held.clear();
  EXPECT_TRUE(eventually([&] { return agent.run(shell("true")).exit.has_value(); }));
}

TEST(Protocol, PeerThatNeverClosesIsClosed) {
  ServerOptions options;
  options.close_timeout = std::chrono::milliseconds(100);
  AgentProcess agent(std::move(options));
  const std::size_t before = agent.open_descriptors();
  HostConnection host = agent.connect();
  host.send(agent::encode_exec(shell("true")));
  EXPECT_TRUE(host.finish().exit.has_value());
  EXPECT_TRUE(eventually([&] { return agent.open_descriptors() == before; }));
}

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/sm-agent-files-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  Outcome read(const std::string& path) {
    HostConnection host = agent_.connect();
    host.send(agent::encode_file(FrameType::kReadFile, {.path = path}));
    return finish_reading(host);
  }
  static Outcome finish_reading(HostConnection& host) {
    host.no_input();
    return host.finish();
  }
  Outcome write(const std::string& path, std::string_view content, std::uint32_t mode = 0644) {
    HostConnection host = agent_.connect();
    host.send(agent::encode_file(FrameType::kWriteFile,
                                 {.path = path, .mode = mode, .size = content.size()}));
    return host.finish(content);
  }
  std::size_t entries() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  static std::string pattern(std::size_t size) {
    std::string text(size, '\0');
    for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 7 + i / 251);
    return text;
  }

  AgentProcess agent_;
  std::string folder_;
};

void expect_file_error(const Outcome& outcome, int errno_value) {
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->kind, ErrorKind::kFile);
  EXPECT_EQ(outcome.error->errno_value, static_cast<std::uint32_t>(errno_value))
      << outcome.error->message;
}

TEST_F(Files, WrittenBytesAreReadBack) {
  for (const std::size_t size : {0ul, 1ul, 65536ul, 3000000ul}) {
    const std::string content = pattern(size);
    const Outcome written = write(folder_ + "/file", content);
    ASSERT_TRUE(written.done) << (written.error ? written.error->message : "");
    const Outcome back = read(folder_ + "/file");
    EXPECT_TRUE(back.done);
    ASSERT_TRUE(back.started.has_value());
    EXPECT_EQ(back.started->size, size);
    EXPECT_TRUE(back.out == content);
  }
  EXPECT_EQ(entries(), 1u) << "no temporary file stays";
}

TEST_F(Files, NewFileHasTheGivenModeAndAnExistingOneKeepsItsOwn) {
  ASSERT_TRUE(write(folder_ + "/new", "x", 0751).done);
  EXPECT_EQ(fs::status(folder_ + "/new").permissions(), fs::perms(0751));
  ASSERT_TRUE(write(folder_ + "/new", "y", 0600).done);
  EXPECT_EQ(fs::status(folder_ + "/new").permissions(), fs::perms(0751));
}

TEST_F(Files, LinkStaysALink) {
  ASSERT_TRUE(write(folder_ + "/real", "old").done);
  fs::create_symlink("real", folder_ + "/link");
  ASSERT_TRUE(write(folder_ + "/link", "new").done);
  EXPECT_TRUE(fs::is_symlink(folder_ + "/link"));
  EXPECT_EQ(read_file(folder_ + "/real", 100).value_or(""), "new");
}

TEST_F(Files, TooFewBytesLeaveTheOldFile) {
  ASSERT_TRUE(write(folder_ + "/file", "old").done);
  HostConnection host = agent_.connect();
  host.send(agent::encode_file(FrameType::kWriteFile, {.path = folder_ + "/file", .size = 100}));
  const Outcome outcome = host.finish("short");
  expect_file_error(outcome, 0);
  EXPECT_EQ(read_file(folder_ + "/file", 100).value_or(""), "old");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, TooManyBytesAreAViolation) {
  HostConnection host = agent_.connect();
  host.send(agent::encode_file(FrameType::kWriteFile, {.path = folder_ + "/file", .size = 3}));
  expect_protocol_error(host.finish("four"));
  EXPECT_TRUE(eventually([&] { return entries() == 0; }));
}

TEST_F(Files, LostConnectionLeavesNothing) {
  {
    HostConnection host = agent_.connect();
    host.send(agent::encode_file(FrameType::kWriteFile, {.path = folder_ + "/file", .size = 1000}));
    host.send(agent::encode_data(Stream::kStdin, as_byte_span("part")));
    ASSERT_TRUE(eventually([&] { return entries() == 1; }));
  }
  EXPECT_TRUE(eventually([&] { return entries() == 0; }));
  EXPECT_TRUE(eventually([&] { return agent_.children() == 0; }));
}

TEST_F(Files, WhatIsNoRegularFileIsAnErrorAtOnce) {
  expect_file_error(read(folder_), EISDIR);
  expect_file_error(read(folder_ + "/missing"), ENOENT);
  ASSERT_EQ(::mkfifo((folder_ + "/fifo").c_str(), 0600), 0);
  expect_file_error(read(folder_ + "/fifo"), EINVAL);
  expect_file_error(read("/dev/zero"), EINVAL);
  expect_file_error(write(folder_ + "/fifo", "x"), EINVAL);
  expect_file_error(write(folder_ + "/no/such/folder/file", "x"), ENOENT);
  fs::create_directory(folder_ + "/sub");
  expect_file_error(write(folder_ + "/sub", "x"), EISDIR);
}

TEST_F(Files, KernelFilesWithoutASizeAreRead) {
  const Outcome outcome = read("/proc/version");
  EXPECT_TRUE(outcome.done);
  EXPECT_THAT(outcome.out, HasSubstr("Linux"));
  EXPECT_EQ(outcome.started.value_or(agent::Started{}).size, outcome.out.size());
}

TEST_F(Files, ReaderWithoutGrantsGetsOneWindow) {
  ASSERT_TRUE(write(folder_ + "/big", pattern(1u << 20)).done);
  HostConnection host = agent_.connect();
  host.send(agent::encode_file(FrameType::kReadFile, {.path = folder_ + "/big"}));
  std::size_t received = 0;
  while (received < agent::kInitialWindow) {
    const auto frame = host.next();
    ASSERT_TRUE(frame.has_value());
    if (frame->type == FrameType::kData) received += frame->payload.size();
  }
  EXPECT_EQ(received, agent::kInitialWindow);
  pollfd quiet{host.fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&quiet, 1, 200), 0);
}

// A TCP server of one connection on the loopback.
class Listener {
 public:
  explicit Listener(int family = AF_INET) : fd_(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in6 address{};
    address.sin6_family = static_cast<sa_family_t>(family);
    if (family == AF_INET6) {
      address.sin6_addr = in6addr_loopback;
    } else {
      reinterpret_cast<sockaddr_in&>(address).sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }
    const socklen_t size = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    usable_ = ::bind(fd_.get(), generic, size) == 0 && ::listen(fd_.get(), 8) == 0;
    socklen_t length = sizeof(address);
    ::getsockname(fd_.get(), generic, &length);
    port_ = ntohs(address.sin6_port);
  }
  bool usable() const { return usable_; }
  std::uint32_t port() const { return port_; }
  UniqueFd accept() {
    pollfd waiting{fd_.get(), POLLIN, 0};
    if (::poll(&waiting, 1, 60000) != 1) return {};
    return UniqueFd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  void close() { fd_.reset(); }

 private:
  UniqueFd fd_;
  bool usable_ = false;
  std::uint32_t port_ = 0;
};

std::string receive_all(int fd) {
  std::string text;
  char buffer[65536];
  for (;;) {
    pollfd waiting{fd, POLLIN, 0};
    if (::poll(&waiting, 1, 60000) != 1) return text + "(timeout)";
    const ssize_t n = ::recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) continue;
    if (n <= 0) return text;
    text.append(buffer, static_cast<std::size_t>(n));
  }
}

// Reads the agent's frames up to kStarted, byte by byte so that nothing behind it is taken.
bool receive_started(int fd) {
  agent::FrameParser parser;
  for (;;) {
    auto frame = parser.next();
    if (!frame) return false;
    if (*frame && (*frame)->type == FrameType::kStarted) return true;
    if (*frame) continue;
    pollfd waiting{fd, POLLIN, 0};
    std::byte byte{};
    if (::poll(&waiting, 1, 60000) != 1 || ::recv(fd, &byte, 1, 0) != 1) return false;
    parser.feed(std::span(&byte, 1));
  }
}

UniqueFd request_forward(AgentProcess& agent, std::uint32_t port, std::string_view early = {}) {
  UniqueFd fd = agent.connect_raw();
  auto bytes = agent::encode_hello({});
  const auto request = agent::encode_forward(port);
  bytes.insert(bytes.end(), request.begin(), request.end());
  const auto first = as_byte_span(early);
  bytes.insert(bytes.end(), first.begin(), first.end());
  EXPECT_TRUE(write_all(fd.get(), bytes).has_value());
  return fd;
}

TEST(Forward, BytesGoBothWaysAndEndsAreHandedOn) {
  AgentProcess agent;
  Listener listener;
  const UniqueFd host = request_forward(agent, listener.port(), "early ");
  const UniqueFd guest = listener.accept();
  ASSERT_TRUE(guest.valid());
  ASSERT_TRUE(receive_started(host.get()));
  ASSERT_TRUE(write_all(host.get(), as_byte_span("late")).has_value());
  ::shutdown(host.get(), SHUT_WR);
  EXPECT_EQ(receive_all(guest.get()), "early late");
  // The other half is still open.
  ASSERT_TRUE(write_all(guest.get(), as_byte_span("answer")).has_value());
  ::shutdown(guest.get(), SHUT_WR);
  EXPECT_EQ(receive_all(host.get()), "answer");
}

TEST(Forward, MegabytesWithASlowReaderStayWhole) {
  AgentProcess agent;
  Listener listener;
  const UniqueFd host = request_forward(agent, listener.port());
  const UniqueFd guest = listener.accept();
  ASSERT_TRUE(receive_started(host.get()));
  const std::string data(8u << 20, 'd');
  std::thread writer([&] {
    EXPECT_TRUE(write_all(guest.get(), as_byte_span(data)).has_value());
    ::shutdown(guest.get(), SHUT_WR);
  });
  ::poll(nullptr, 0, 100);
  EXPECT_TRUE(receive_all(host.get()) == data);
  writer.join();
}

TEST(Forward, RefusedPortIsAnError) {
  AgentProcess agent;
  Listener listener;
  listener.close();
  HostConnection host = agent.connect();
  host.send(agent::encode_forward(listener.port()));
  host.no_input();
  const Outcome outcome = host.finish();
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->kind, ErrorKind::kConnect);
  EXPECT_EQ(outcome.error->errno_value, static_cast<std::uint32_t>(ECONNREFUSED));
}

TEST(Forward, SixIsTriedAfterFour) {
  AgentProcess agent;
  Listener listener(AF_INET6);
  if (!listener.usable()) GTEST_SKIP() << "no IPv6 here";
  const UniqueFd host = request_forward(agent, listener.port());
  const UniqueFd guest = listener.accept();
  ASSERT_TRUE(guest.valid());
  EXPECT_TRUE(receive_started(host.get()));
}

TEST(Forward, GuestResetEndsTheConnection) {
  AgentProcess agent;
  Listener listener;
  const UniqueFd host = request_forward(agent, listener.port());
  UniqueFd guest = listener.accept();
  ASSERT_TRUE(receive_started(host.get()));
  const linger now{1, 0};
  ASSERT_EQ(::setsockopt(guest.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
  guest.reset();
  EXPECT_EQ(receive_all(host.get()), "");
}

TEST(Forward, HostThatLeavesClosesTheGuestsEnd) {
  AgentProcess agent;
  const std::size_t before = agent.open_descriptors();
  Listener listener;
  UniqueFd host = request_forward(agent, listener.port());
  const UniqueFd guest = listener.accept();
  ASSERT_TRUE(receive_started(host.get()));
  host.reset();
  EXPECT_EQ(receive_all(guest.get()), "");
  ::shutdown(guest.get(), SHUT_WR);
  EXPECT_TRUE(eventually([&] { return agent.open_descriptors() == before; }));
}

TEST(MainWorkload, RunsOnceInitReportedTheStartAndEndsTheMachine) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  agent::ExecRequest request = shell("echo main; exit 42");
  request.main = true;
  host.send(agent::encode_exec(request));
  agent.expect_link(LinkType::kWorkloadStart);
  EXPECT_FALSE(host.so_far().started.has_value());
  agent.send_link_message({LinkType::kRelease});
  const Outcome outcome = host.finish();
  EXPECT_EQ(outcome.out, "main\n");
  ASSERT_TRUE(outcome.exit.has_value());
  EXPECT_EQ(outcome.exit->value, 42u);
  host.close();
  EXPECT_EQ(agent.expect_link(LinkType::kWorkloadExit).value, 42u);
}

TEST(MainWorkload, DoesNotRunBeforeItIsReleased) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  agent::ExecRequest request = shell("echo main");
  request.main = true;
  host.send(agent::encode_exec(request));
  agent.expect_link(LinkType::kWorkloadStart);
  ASSERT_TRUE(host.next().has_value());  // the hello
  pollfd quiet{host.fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&quiet, 1, 200), 0);
  agent.send_link_message({LinkType::kRelease});
  EXPECT_EQ(host.finish().out, "main\n");
}

TEST(MainWorkload, GivesLaterExecsItsDefaults) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  agent::ExecRequest request = shell("read line");
  request.main = true;
  request.keep_stdin = true;
  request.env = {"FROM_MAIN=1", "BOTH=main"};
  request.cwd = "/usr";
  host.send(agent::encode_exec(request));
  agent.expect_link(LinkType::kWorkloadStart);
  agent.send_link_message({LinkType::kRelease});
  agent::ExecRequest exec = shell("echo $FROM_MAIN $BOTH $PWD");
  exec.env = {"BOTH=exec"};
  EXPECT_EQ(agent.run(exec).out, "1 exec /usr\n");
  EXPECT_TRUE(host.finish("\n").exit.has_value());
}

TEST(MainWorkload, SecondOneIsBusy) {
  AgentProcess agent;
  HostConnection first = agent.connect();
  agent::ExecRequest request = shell("read line");
  request.main = true;
  request.keep_stdin = true;
  first.send(agent::encode_exec(request));
  agent.expect_link(LinkType::kWorkloadStart);
  const Outcome second = agent.run(request);
  ASSERT_TRUE(second.error.has_value());
  EXPECT_EQ(second.error->kind, ErrorKind::kBusy);
  agent.send_link_message({LinkType::kRelease});
  EXPECT_TRUE(first.finish("\n").exit.has_value());
}

TEST(MainWorkload, AnyConnectionMaySignalIt) {
  AgentProcess agent;
  const auto send = [&agent](std::uint32_t number) {
    HostConnection host = agent.connect();
    host.send(agent::encode_signal_main(number));
    host.no_input();
    return host.finish();
  };
  const Outcome none = send(SIGTERM);
  ASSERT_TRUE(none.error.has_value());
  EXPECT_EQ(none.error->kind, ErrorKind::kNoWorkload);
  // Detached, as in a restored machine: nobody has a connection to it.
  const std::string folder = ::testing::TempDir() + "signal-" + std::to_string(::getpid());
  agent::ExecRequest request =
      shell("trap 'exit 7' TERM; trap 'echo usr1 >>" + folder + "' USR1; echo up >" + folder +
            "; while :; do sleep 0.02; done");
  request.main = request.detached = true;
  HostConnection main = agent.connect();
  main.send(agent::encode_exec(request));
  agent.expect_link(LinkType::kWorkloadStart);
  agent.send_link_message({LinkType::kRelease});
  main.no_input();
  EXPECT_TRUE(main.finish().started.has_value());
  EXPECT_EQ(agent.run(shell("until [ -s " + folder + " ]; do sleep 0.02; done")).err, "");
  EXPECT_TRUE(send(SIGUSR1).done);
  EXPECT_EQ(agent.run(shell("until grep usr1 " + folder + "; do sleep 0.02; done")).out, "usr1\n");
  for (const std::uint32_t bad : {0u, 65u, ~0u}) {
    const Outcome refused = send(bad);
    ASSERT_TRUE(refused.error.has_value());
    EXPECT_EQ(refused.error->kind, ErrorKind::kProtocol);
  }
  EXPECT_TRUE(send(SIGTERM).done);
  EXPECT_EQ(agent.expect_link(LinkType::kWorkloadExit).value, 7u);
  const Outcome over = send(SIGTERM);
  ASSERT_TRUE(over.error.has_value());
  EXPECT_EQ(over.error->kind, ErrorKind::kNoWorkload);
  ::unlink(folder.c_str());
}

TEST(MainWorkload, FailedStartEndsTheMachineWithTheStatusOfItsKind) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  agent::ExecRequest request;
  request.argv = {"no-such-program"};
  request.main = true;
  host.send(agent::encode_exec(request));
  agent.expect_link(LinkType::kWorkloadStart);
  agent.send_link_message({LinkType::kRelease});
  EXPECT_EQ(host.finish().error.value_or(agent::ErrorReport{}).kind, ErrorKind::kExecNotFound);
  host.close();
  EXPECT_EQ(agent.expect_link(LinkType::kWorkloadExit).value, 127u);
}

TEST(MainWorkload, LostConnectionEndsIt) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  agent::ExecRequest request = shell("echo pid $$; sleep 1000");
  request.main = true;
  host.send(agent::encode_exec(request));
  agent.expect_link(LinkType::kWorkloadStart);
  agent.send_link_message({LinkType::kRelease});
  host.expect_output("\n");
  const pid_t pid = std::stoi(host.so_far().out.substr(4));
  host.close();
  EXPECT_EQ(agent.expect_link(LinkType::kWorkloadExit).value, 137u);
  EXPECT_TRUE(testing::wait_until_gone(pid));
}

TEST(MainWorkload, DetachedEndsTheMachineWhenItEndsAndNotBefore) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  agent::ExecRequest request = shell("trap 'exit 7' HUP; while :; do sleep 0.05; done");
  request.main = true;
  request.detached = true;
  host.send(agent::encode_exec(request));
  agent.expect_link(LinkType::kWorkloadStart);
  agent.send_link_message({LinkType::kRelease});
  EXPECT_TRUE(host.finish().started.has_value());
  host.close();
  expect_still_serving(agent);
  // HUP before the trap is set ends it as well.
  agent.send_link_message({LinkType::kSignal, SIGHUP});
  const auto status = agent.expect_link(LinkType::kWorkloadExit).value;
  EXPECT_TRUE(status == 7u || status == 128u + SIGHUP) << status;
}

TEST(MainWorkload, LostConnectionBeforeTheReleaseEndsIt) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  agent::ExecRequest request = shell("true");
  request.main = true;
  host.send(agent::encode_exec(request));
  agent.expect_link(LinkType::kWorkloadStart);
  host.close();
  EXPECT_EQ(agent.expect_link(LinkType::kWorkloadExit).value, 137u);
  agent.send_link_message({LinkType::kRelease});
  expect_still_serving(agent);
}

TEST(MainWorkload, SignalsOfInitReachItsGroup) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  agent::ExecRequest request =
      shell("trap 'echo hup; exit 3' HUP; echo ready; while :; do sleep 0.05; done");
  request.main = true;
  host.send(agent::encode_exec(request));
  agent.expect_link(LinkType::kWorkloadStart);
  agent.send_link_message({LinkType::kSignal, SIGHUP});  // before it runs: nobody to get it
  agent.send_link_message({LinkType::kRelease});
  host.expect_output("ready");
  agent.send_link_message({LinkType::kSignal, SIGHUP});
  const Outcome outcome = host.finish();
  EXPECT_THAT(outcome.out, HasSubstr("hup"));
  EXPECT_EQ(outcome.exit.value_or(agent::ExitReport{}).value, 3u);
}

TEST(MainWorkload, AgentEndsWithoutInit) {
  AgentProcess agent;
  agent.stop();
}

}  // namespace
}  // namespace sm::guest
