#include "runtime/keeper/port_publisher.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/bytes.h"
#include "base/file.h"
#include "proto/agent.h"

namespace sm {
namespace {

TEST(PortPublisher, AFreeOneIsFoundAndATakenOneRefused) {
  const auto first = PortPublisher::open("id", "/nowhere.sock", {{"127.0.0.1", 0, 80}});
  ASSERT_TRUE(first) << first.error().text();
  const PortBinding got = (*first)->bindings()[0];
  EXPECT_NE(got.host, 0);
  const auto second = PortPublisher::open("id", "/nowhere.sock", {got});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Code::kInvalidArgument);
}

TEST(PortPublisher, OfARangeTheFirstThatIsFreeIsTaken) {
  // A port that is free has neighbours that mostly are.
  const auto taken = PortPublisher::open("id", "/nowhere.sock", {{"127.0.0.1", 0, 80}}).value();
  const std::uint16_t first = taken->bindings()[0].host;
  const auto last = static_cast<std::uint16_t>(std::min(65535, first + 20));
  PortBinding wanted{"127.0.0.1", 0, 80, true, first, last};
  const auto got = PortPublisher::open("id", "/nowhere.sock", {wanted, wanted});
  ASSERT_TRUE(got) << got.error().text();
  const auto ports = (*got)->bindings();
  EXPECT_GT(ports[0].host, first);
  EXPECT_GT(ports[1].host, ports[0].host);
  EXPECT_LE(ports[1].host, last);
  wanted.last = first;
  const auto none = PortPublisher::open("id", "/nowhere.sock", {wanted});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), Code::kInvalidArgument);
}

TEST(PortPublisher, BothVersionsOfIpMayHaveThePort) {
  // Of one version a port may be somebody else's.
  bool both = false;
  for (int i = 0; i < 10 && !both; ++i) {
    const auto six = PortPublisher::open("id", "/nowhere.sock", {{"::", 0, 80}});
    if (!six) GTEST_SKIP() << "no IPv6 here: " << six.error().text();
    PortBinding four = (*six)->bindings()[0];
    four.ip = "0.0.0.0";
    both = PortPublisher::open("id", "/nowhere.sock", {four}).has_value();
    EXPECT_FALSE(PortPublisher::open("id", "/nowhere.sock", {(*six)->bindings()[0]}));
  }
  EXPECT_TRUE(both);
}

// Exactly so many bytes, or what came before the end.
std::string receive(int fd, std::size_t bytes) {
  std::string out(bytes, ' ');
  std::size_t got = 0;
  while (got < bytes) {
    const ssize_t n = ::recv(fd, out.data() + got, bytes - got, 0);
    if (n <= 0) break;
    got += static_cast<std::size_t>(n);
  }
  out.resize(got);
  return out;
}

void limit(int fd) {
  const timeval patience{60, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
}

// A socket that stands for the agent's.
class AgentFake {
 public:
  AgentFake() : listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    char folder[] = "/tmp/sm-ports-XXXXXX";
    folder_ = ::mkdtemp(folder);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(listener_.get(), 8), 0);
    limit(listener_.get());
  }
  AgentFake(const AgentFake&) = delete;
  AgentFake& operator=(const AgentFake&) = delete;
  AgentFake(AgentFake&&) = delete;
  AgentFake& operator=(AgentFake&&) = delete;
  ~AgentFake() {
    ::unlink(path().c_str());
    ::rmdir(folder_.c_str());
  }
  std::string path() const { return folder_ + "/exec.sock"; }
  UniqueFd accept() const {
    UniqueFd out(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    limit(out.get());
    return out;
  }

 private:
  std::string folder_;
  UniqueFd listener_;
};

UniqueFd connect_to(std::uint16_t port) {
  UniqueFd out(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(out.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  limit(out.get());
  return out;
}

// The agent need not have said anything for what the client says first to be under way, and all of
// it comes once and in its order, whichever part went along with the request.
TEST(PortPublisher, WhatTheClientSaysFirstFollowsTheRequest) {
  const AgentFake agent;
  const auto ports = PortPublisher::open("id", agent.path(), {{"127.0.0.1", 0, 80}});
  ASSERT_TRUE(ports) << ports.error().text();
  auto start = agent::encode_hello({});
  const auto request = agent::encode_forward(80);
  start.insert(start.end(), request.begin(), request.end());
  for (const std::size_t size : {std::size_t{5}, std::size_t{16} << 10, std::size_t{100'000}}) {
    std::string said;
    for (std::size_t i = 0; said.size() < size; ++i) said += std::to_string(i);
    const UniqueFd client = connect_to((*ports)->bindings()[0].host);
    ASSERT_TRUE(write_all(client.get(), as_byte_span(said)));
    ::shutdown(client.get(), SHUT_WR);
    const UniqueFd guest = agent.accept();
    ASSERT_TRUE(guest.valid());
    EXPECT_EQ(receive(guest.get(), start.size()), as_text(start));
    auto answer = agent::encode_hello({});
    const auto started = agent::encode_started({});
    answer.insert(answer.end(), started.begin(), started.end());
    ASSERT_TRUE(write_all(guest.get(), answer));
    EXPECT_EQ(receive(guest.get(), said.size() + 1), said);
    ASSERT_TRUE(write_all(guest.get(), as_byte_span("answer")));
    ::shutdown(guest.get(), SHUT_WR);
    EXPECT_EQ(receive(client.get(), 100), "answer");
  }
}

}  // namespace
}  // namespace sm
