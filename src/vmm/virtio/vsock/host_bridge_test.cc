// Unix sockets of the host in front of the guest's ports.
#include "vmm/virtio/vsock/host_bridge.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "vmm/virtio/vsock/guest_fake.h"

namespace sm {
namespace {

using namespace std::chrono_literals;
using test::GuestFake;
using test::kAgent;
using test::must;
using test::read_host;
using test::write_host;

class VsockBridge : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/sm-vsock-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path(const std::string& name = "exec.sock") const { return folder_ + "/" + name; }

  std::string folder_;
};

TEST_F(VsockBridge, connections_reach_the_guest_port) {
  GuestFake guest;
  guest.listening.insert(kAgent);
  ASSERT_TRUE(guest.device().listen_unix(path(), kAgent));
  const UniqueFd client = must(connect_unix(path()));
  write_host(client, "to the agent");
  ASSERT_TRUE(guest.run_until([&] {
    return guest.streams.size() == 1 && guest.streams.begin()->second.received == "to the agent";
  }));
  guest.write(guest.streams.begin()->second, "from the agent");
  EXPECT_EQ(read_host(client).bytes, "from the agent");
}

TEST_F(VsockBridge, refused_connection_ends) {
  GuestFake guest;
  ASSERT_TRUE(guest.device().listen_unix(path(), kAgent));
  const UniqueFd client = must(connect_unix(path()));
  EXPECT_TRUE(guest.run_until([&] { return read_host(client).end; }));
}

TEST_F(VsockBridge, early_connections_wait_until_told) {
  GuestFake guest;
  guest.listening.insert(kAgent);
  const auto id = must(guest.device().listen_unix(path(), kAgent, VsockAccept::kWhenTold));
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 50; ++i) {
    clients.push_back(must(connect_unix(path())));
    write_host(clients.back(), "early");
  }
  guest.settle();
  EXPECT_TRUE(guest.streams.empty());
  EXPECT_FALSE(read_host(clients[0]).end);
  ASSERT_TRUE(guest.device().start_accepting(id));
  ASSERT_TRUE(guest.device().start_accepting(id));
  ASSERT_TRUE(guest.run_until([&] {
    std::size_t ready = 0;
    for (auto& [ports, s] : guest.streams) ready += s.received == "early";
    return ready == 50;
  }));
}

TEST_F(VsockBridge, unknown_listener_is_an_error) {
  GuestFake guest;
  EXPECT_EQ(guest.device().start_accepting(VsockListenerId{9}).error().code(), Code::kNotFound);
}

TEST_F(VsockBridge, full_table_refuses_at_the_socket) {
  VsockLimits limits;
  limits.connections = 2;
  GuestFake guest(limits);
  guest.listening.insert(kAgent);
  ASSERT_TRUE(guest.device().listen_unix(path(), kAgent));
  const UniqueFd first = must(connect_unix(path())), second = must(connect_unix(path()));
  const UniqueFd third = must(connect_unix(path()));
  EXPECT_TRUE(guest.run_until([&] { return read_host(third).end; }));
  EXPECT_FALSE(read_host(first).end);
  EXPECT_EQ(guest.device().connection_count(), 2u);
}

TEST_F(VsockBridge, socket_file_is_for_its_owner_alone_whatever_the_umask) {
  GuestFake guest;
  const mode_t old = ::umask(0);
  const auto made = guest.device().listen_unix(path(), kAgent);
  ::umask(old);
  ASSERT_TRUE(made);
  struct stat st {};
  ASSERT_EQ(::lstat(path().c_str(), &st), 0);
  EXPECT_TRUE(S_ISSOCK(st.st_mode));
  EXPECT_EQ(st.st_mode & 0777, 0600u);
}

TEST_F(VsockBridge, whatever_exists_is_left_alone) {
  GuestFake guest;
  ASSERT_TRUE(write_file_atomic(path("file"), "precious"));
  std::filesystem::create_symlink("nowhere", path("link"));
  ASSERT_TRUE(guest.device().listen_unix(path("mine"), kAgent));
  for (const char* name : {"file", "link", "mine"}) {
    GuestFake other;
    const auto refused = other.device().listen_unix(path(name), kAgent);
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().code(), Code::kInvalidArgument);
    EXPECT_FALSE(refused.error().remedy().empty());
  }
  EXPECT_EQ(must(read_file(path("file"), 100)), "precious");
  EXPECT_TRUE(std::filesystem::is_symlink(path("link")));
  EXPECT_TRUE(connect_unix(path("mine")));
}

TEST_F(VsockBridge, impossible_paths_are_refused) {
  GuestFake guest;
  for (const std::string& bad :
       {std::string(), std::string(108, 'x'), std::string("a\0b", 3), folder_ + "/no/such/dir"}) {
    EXPECT_FALSE(guest.device().listen_unix(bad, kAgent)) << bad;
  }
  EXPECT_FALSE(connect_unix(path("nobody")));
}

TEST_F(VsockBridge, stop_removes_its_own_file_and_no_other) {
  GuestFake guest;
  ASSERT_TRUE(guest.device().listen_unix(path("kept"), kAgent));
  ASSERT_TRUE(guest.device().listen_unix(path("gone"), kAgent));
  std::filesystem::remove(path("kept"));
  ASSERT_TRUE(write_file_atomic(path("kept"), "somebody else's"));
  guest.device().stop();
  EXPECT_FALSE(std::filesystem::exists(path("gone")));
  EXPECT_EQ(must(read_file(path("kept"), 100)), "somebody else's");
}

TEST_F(VsockBridge, stop_ends_connections_in_the_backlog) {
  GuestFake guest;
  ASSERT_TRUE(guest.device().listen_unix(path(), kAgent, VsockAccept::kWhenTold));
  const UniqueFd client = must(connect_unix(path()));
  guest.device().stop();
  const auto end = read_host(client);
  EXPECT_TRUE(end.end || end.reset);
}

TEST_F(VsockBridge, running_out_of_descriptors_is_survived) {
  GuestFake guest;
  guest.listening.insert(kAgent);
  ASSERT_TRUE(guest.device().listen_unix(path(), kAgent));
  const UniqueFd client = must(connect_unix(path()));
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old), 0);
  const UniqueFd next_free(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const rlimit none{static_cast<rlim_t>(next_free.get()), old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  guest.loop().run_once(Deadline::after(10ms));
  int turns = 0;
  for (const Deadline over = Deadline::after(30ms); !over.passed(); ++turns) {
    guest.loop().run_once(over);
  }
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &old), 0);
  EXPECT_LT(turns, 10) << "the loop spins";
  EXPECT_TRUE(guest.streams.empty());
  EXPECT_TRUE(guest.run_until([&] { return guest.streams.size() == 1; }));
}

TEST_F(VsockBridge, other_users_are_refused_even_where_the_file_lets_them) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  GuestFake guest;
  guest.listening.insert(kAgent);
  ASSERT_TRUE(guest.device().listen_unix(path(), kAgent));
  ASSERT_EQ(::chmod(folder_.c_str(), 0755), 0);
  ASSERT_EQ(::chmod(path().c_str(), 0666), 0);
  const std::string where = path();
  const pid_t child = ::fork();
  if (child == 0) {
    // 0: the connection was made and ended without a byte.
    if (::setresuid(65534, 65534, 65534) != 0) ::_exit(2);
    const auto fd = connect_unix(where);
    if (!fd) ::_exit(3);
    ::fcntl(fd->get(), F_SETFL, 0);
    char byte;
    ::_exit(::recv(fd->get(), &byte, 1, 0) == 0 ? 0 : 4);
  }
  int status = -1;
  ASSERT_TRUE(guest.run_until([&] { return ::waitpid(child, &status, WNOHANG) == child; }));
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_TRUE(guest.streams.empty());
}

TEST_F(VsockBridge, guest_connections_can_be_served_by_a_unix_socket) {
  GuestFake guest;
  const UniqueFd server(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string where = path("env");
  where.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(::bind(server.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(::listen(server.get(), 1), 0);
  guest.device().set_guest_listener(test::kEnvServer,
                                    [&](VsockPort) { return connect_unix(where); });
  auto& s = guest.connect(VsockPort{5000}, test::kEnvServer);
  ASSERT_TRUE(guest.run_until([&] { return s.connected; }));
  const UniqueFd served(::accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
  write_host(served, "{\"env\":{}}");
  ASSERT_TRUE(guest.run_until([&] { return s.received == "{\"env\":{}}"; }));
}

}  // namespace
}  // namespace sm
