#include "runtime/keeper/port_publisher.h"

#include <gtest/gtest.h>

namespace sm {
namespace {

TEST(Ports, AreParsed) {
  const auto is = [](const char* text, const char* ip, int host, int guest) {
    const auto port = parse_port(text);
    ASSERT_TRUE(port) << text << ": " << port.error().text();
    EXPECT_EQ(port->ip, ip) << text;
    EXPECT_EQ(port->host, host) << text;
    EXPECT_EQ(port->guest, guest) << text;
  };
  EXPECT_TRUE(parse_port("80")->any && parse_port("0:80")->any && !parse_port("1:80")->any);
  is("80", "127.0.0.1", 0, 80);
  is("8080:80", "127.0.0.1", 8080, 80);
  is("0:80/tcp", "127.0.0.1", 0, 80);
  is("0.0.0.0:8080:80", "0.0.0.0", 8080, 80);
  is("127.0.0.2::80", "127.0.0.2", 0, 80);
}

TEST(Ports, AreRefusedByName) {
  for (const char* text :
       {"", ":", "x", "0", "65536", "80:65536", "80:0", "-1:80", "80-90:80-90", "80/udp",
        "[::1]:80:80", "host:80:80", "1.2.3:80:80", "80:80:", "80:80/"}) {
    const auto port = parse_port(text);
    ASSERT_FALSE(port) << text;
    EXPECT_EQ(port.error().code(), Code::kInvalidArgument);
  }
  EXPECT_NE(parse_port("80-90:80").error().cause().find("ranges"), std::string::npos);
}

TEST(Ports, AFreeOneIsFoundAndATakenOneRefused) {
  const auto first = PortPublisher::open("id", "/nowhere.sock", {{"127.0.0.1", 0, 80}});
  ASSERT_TRUE(first) << first.error().text();
  const PortBinding got = (*first)->bindings()[0];
  EXPECT_NE(got.host, 0);
  const auto second = PortPublisher::open("id", "/nowhere.sock", {got});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace sm
