#include "runtime/keeper/port_publisher.h"

#include <gtest/gtest.h>

#include <algorithm>

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
  const auto six = PortPublisher::open("id", "/nowhere.sock", {{"::", 0, 80}});
  if (!six) GTEST_SKIP() << "no IPv6 here: " << six.error().text();
  PortBinding four = (*six)->bindings()[0];
  four.ip = "0.0.0.0";
  EXPECT_TRUE(PortPublisher::open("id", "/nowhere.sock", {four}));
  EXPECT_FALSE(PortPublisher::open("id", "/nowhere.sock", {(*six)->bindings()[0]}));
}

}  // namespace
}  // namespace sm
