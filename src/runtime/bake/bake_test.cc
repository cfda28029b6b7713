#include "runtime/bake/bake.h"

#include <gtest/gtest.h>

#include "runtime/bake/tcp_listeners.h"

namespace sm {
namespace {

TEST(Readiness, every_form_is_understood) {
  EXPECT_EQ(parse_readiness("pre-exec")->when, ReadyWhen::kPreExec);
  EXPECT_EQ(parse_readiness("heartbeat")->when, ReadyWhen::kHeartbeat);
  EXPECT_EQ(parse_readiness("listener")->port, 0);
  EXPECT_EQ(parse_readiness("listener:8080")->port, 8080);
  EXPECT_EQ(parse_readiness("after-ms:250")->after.count(), 250);
  EXPECT_EQ(parse_readiness("after-ms:250")->when, ReadyWhen::kAfter);
}

TEST(Readiness, anything_else_is_refused) {
  for (const char* bad :
       {"", "listener:", "listener:0", "listener:65536", "listener:x", "after-ms", "after-ms:-1",
        "after-ms:99999999999999", "pre-exec:1", "heartbeat:1", "request", "request:"}) {
    EXPECT_FALSE(parse_readiness(bad)) << bad;
  }
}

// As Linux writes it.
constexpr const char* kTable =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout\n"
    "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7\n"
    "   1: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 8\n"
    "   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 "
    "9\n";

TEST(TcpListeners, are_those_that_listen) {
  const auto found = parse_tcp_listeners(kTable);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_TRUE(found.contains({"00000000", 8080}));
  EXPECT_TRUE(found.contains({"0100007F", 22}));
}

TEST(TcpListeners, of_nonsense_are_none) {
  for (const char* bad : {"", "\n\n", "0: x y 0A", "0: :1F90 y 0A", "0: A:0 y 0A",
                          "0: A:10000 y 0A", "0: A:1F9G y 0A", "0: A: y 0A", "0: A:1F90 y"}) {
    EXPECT_TRUE(parse_tcp_listeners(bad).empty()) << bad;
  }
  EXPECT_EQ(parse_tcp_listeners("0: A:1F90 y 0A").size(), 1u);
}

}  // namespace
}  // namespace sm
