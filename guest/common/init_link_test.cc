#include "common/init_link.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "common/byte_queue.h"

namespace sm::guest {
namespace {

TEST(InitLink, MessagesArriveWholeAndInOrder) {
  auto ends = make_link();
  ASSERT_TRUE(ends.has_value());
  ASSERT_TRUE(send_link(ends->agent.get(), {LinkType::kReady}).has_value());
  ASSERT_TRUE(send_link(ends->agent.get(), {LinkType::kWorkloadExit, 42}).has_value());
  const auto first = receive_link(ends->init.get());
  const auto second = receive_link(ends->init.get());
  const auto third = receive_link(ends->init.get());
  ASSERT_TRUE(first && *first && second && *second && third);
  EXPECT_EQ((*first)->type, LinkType::kReady);
  EXPECT_EQ((*second)->value, 42u);
  EXPECT_FALSE(third->has_value());
}

TEST(InitLink, ClosedPeerIsGone) {
  auto ends = make_link();
  ASSERT_TRUE(ends.has_value());
  ends->agent.reset();
  const auto message = receive_link(ends->init.get());
  ASSERT_FALSE(message.has_value());
  EXPECT_EQ(message.error().code(), Code::kGone);
  EXPECT_FALSE(send_link(ends->init.get(), {LinkType::kSignal, 15}).has_value());
}

TEST(InitLink, MalformedMessagesAreErrors) {
  auto ends = make_link();
  ASSERT_TRUE(ends.has_value());
  for (const std::string_view bytes :
       {std::string_view("x"), std::string_view("\0\0\0\0\0\0\0\0", 8),
        std::string_view("\1\0\0\0\0\0\0\0\0", 9)}) {
    ASSERT_EQ(::send(ends->agent.get(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
    EXPECT_FALSE(receive_link(ends->init.get()).has_value());
  }
}

TEST(InitLink, FullQueueDoesNotBlock) {
  auto ends = make_link();
  ASSERT_TRUE(ends.has_value());
  int sent = 0;
  while (sent < 1000000 && send_link(ends->init.get(), {LinkType::kSignal, 28})) ++sent;
  EXPECT_GT(sent, 0);
  EXPECT_LT(sent, 1000000);
}

TEST(AgentSettings, SurviveTheMemoryFile) {
  const AgentSettings settings{"host", {"A=1", "B=\n\"x\"", "C="}, {{"10.0.0.1", "db"}}};
  const auto back = decode_settings(encode_settings(settings));
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->hostname, "host");
  EXPECT_EQ(back->env, settings.env);
  EXPECT_EQ(back->hosts, settings.hosts);
}

TEST(AgentSettings, EveryTruncationIsAnError) {
  const auto bytes = encode_settings({"host", {"A=1", "B=2"}, {{"::1", "x"}}});
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_FALSE(decode_settings(std::span(bytes).first(n)).has_value()) << n;
  }
}

TEST(ByteQueue, GivesBackWhatWasPushedAcrossCompactions) {
  ByteQueue queue;
  std::string in, out;
  for (int i = 0; i < 5000; ++i) {
    const std::string piece(static_cast<std::size_t>(i % 37), static_cast<char>('a' + i % 26));
    in += piece;
    queue.push(as_byte_span(piece));
    const std::size_t n = std::min<std::size_t>(queue.size(), static_cast<std::size_t>(i % 29));
    out += as_text(queue.front().first(n));
    queue.pop(n);
  }
  out += as_text(queue.front());
  EXPECT_EQ(in, out);
  queue.pop(queue.size());
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace sm::guest
