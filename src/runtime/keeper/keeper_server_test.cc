#include "runtime/keeper/keeper_server.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <filesystem>
#include <thread>

#include "runtime/keeper/keeper_client.h"
#include "runtime/unix_connect.h"

namespace sm {
namespace {

class KeeperServerTest : public testing::Test {
 protected:
  KeeperServerTest() {
    char name[] = "/tmp/keeper-server-XXXXXX";
    dir_ = ::mkdtemp(name);
    vm_.id = std::string(64, 'a');
    vm_.state = VmState::kRunning;
    vm_.keeper_socket = dir_ + "/keeper.sock";
    loop_ = EventLoop::create().value();
    server_ = KeeperServer::listen(vm_.keeper_socket).value();
    server_->handle([this](auto call, auto request) { on_request_(call, request); });
  }
  ~KeeperServerTest() override { std::filesystem::remove_all(dir_); }

  void run_until(const std::function<bool()>& done) {
    const Deadline deadline = Deadline::after(std::chrono::seconds(10));
    while (!done() && !deadline.passed())
      loop_->run_once(Deadline::after(std::chrono::milliseconds(50)));
  }

  std::string dir_;
  VmRecord vm_;
  std::unique_ptr<EventLoop> loop_;
  std::function<void(KeeperServer::CallId, const KeeperRequest&)> on_request_ = [](auto, auto&) {};
  std::unique_ptr<KeeperServer> server_;
};

TEST_F(KeeperServerTest, AnswersEvenWhenTheLoopHasChanged) {
  KeeperServer::CallId asked = 0;
  on_request_ = [&](auto call, const auto& request) {
    EXPECT_EQ(request.verb, KeeperVerb::kWait);
    asked = call;
  };
  ASSERT_TRUE(server_->serve(*loop_));
  Result<KeeperReply> reply;
  std::jthread client([&] { reply = ask_keeper(vm_, {}); });
  run_until([&] { return asked != 0; });
  server_->leave();
  loop_ = EventLoop::create().value();
  ASSERT_TRUE(server_->serve(*loop_));
  server_->leave();
  server_->close();
  server_->reply(asked, {.error = {}, .status = 7, .stats = {}});
  client.join();
  ASSERT_TRUE(reply) << reply.error().text();
  EXPECT_EQ(reply->status, 7);
  EXPECT_EQ(ask_keeper(vm_, {}).error().code(), Code::kGone);
}

TEST_F(KeeperServerTest, NonsenseIsAnsweredAndClosed) {
  ASSERT_TRUE(server_->serve(*loop_));
  const UniqueFd socket = connect_unix(vm_.keeper_socket).value();
  const char text[] = "\x02\0\0\0{}";
  ASSERT_EQ(::send(socket.get(), text, 6, 0), 6);
  char byte = 0;
  std::string answer;
  run_until([&] {
    while (::recv(socket.get(), &byte, 1, MSG_DONTWAIT) == 1) answer += byte;
    return answer.find('}') != std::string::npos;
  });
  EXPECT_NE(answer.find("malformed"), std::string::npos);
  EXPECT_EQ(::recv(socket.get(), &byte, 1, 0), 0);
}

TEST_F(KeeperServerTest, AClientThatLeavesIsForgotten) {
  KeeperServer::CallId asked = 0;
  on_request_ = [&](auto call, const auto&) { asked = call; };
  ASSERT_TRUE(server_->serve(*loop_));
  {
    const UniqueFd socket = connect_unix(vm_.keeper_socket).value();
    const auto request = encode_request({});
    ASSERT_GT(::send(socket.get(), request.data(), request.size(), 0), 0);
    run_until([&] { return asked != 0; });
  }
  loop_->run_once(Deadline::after(std::chrono::seconds(1)));
  server_->reply(asked, {});
  EXPECT_FALSE(server_->take(asked).valid());
}

TEST_F(KeeperServerTest, TooManyClientsAreTurnedAway) {
  ASSERT_TRUE(server_->serve(*loop_));
  std::vector<UniqueFd> clients;
  for (std::size_t i = 0; i < KeeperServer::kMaxCalls + 1; ++i) {
    clients.push_back(connect_unix(vm_.keeper_socket).value());
    loop_->run_once(Deadline::after(std::chrono::seconds(1)));
  }
  char byte = 0;
  EXPECT_EQ(::recv(clients.back().get(), &byte, 1, MSG_DONTWAIT), 0);
  EXPECT_LT(::recv(clients.front().get(), &byte, 1, MSG_DONTWAIT), 0);
}

}  // namespace
}  // namespace sm
