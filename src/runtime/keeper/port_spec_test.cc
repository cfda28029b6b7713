#include "runtime/keeper/port_spec.h"

#include <gtest/gtest.h>

namespace sm {
namespace {

void is(const char* text, const char* ip, int host, int guest) {
  const auto ports = parse_ports(text);
  ASSERT_TRUE(ports) << text << ": " << ports.error().text();
  ASSERT_EQ(ports->size(), 1u) << text;
  EXPECT_EQ(ports->at(0).ip, ip) << text;
  EXPECT_EQ(ports->at(0).host, host) << text;
  EXPECT_EQ(ports->at(0).guest, guest) << text;
  EXPECT_EQ(ports->at(0).any, host == 0) << text;
}

std::string texts(const char* text) {
  const auto ports = parse_ports(text);
  return ports ? ports_text(*ports) : ports.error().text();
}

TEST(Ports, OfOneKind) {
  is("80", "127.0.0.1", 0, 80);
  is(":80", "127.0.0.1", 0, 80);
  is("8080:80", "127.0.0.1", 8080, 80);
  is("8080:80/TCP", "127.0.0.1", 8080, 80);
  is("0:80/tcp", "127.0.0.1", 0, 80);
  is("0.0.0.0:8080:80", "0.0.0.0", 8080, 80);
  is("127.0.0.2::80", "127.0.0.2", 0, 80);
  is("65535:65535", "127.0.0.1", 65535, 65535);
  is("9-9:9-9", "127.0.0.1", 9, 9);
}

TEST(Ports, WithAnAddressOfVersionSix) {
  is("[::1]:8080:80", "::1", 8080, 80);
  is("[::]:8080:80/tcp", "::", 8080, 80);
  is("[::1]::80", "::1", 0, 80);
  is("[0:0::0:1]:1:2", "::1", 1, 2);
  is("[::ffff:127.0.0.1]:1:2", "::ffff:127.0.0.1", 1, 2);
  EXPECT_EQ(texts("[::1]:8080:80"), "[::1]:8080->80/tcp");
}

TEST(Ports, InRanges) {
  EXPECT_EQ(texts("127.0.0.2:9000-9002:9000-9002"), "127.0.0.2:9000-9002->9000-9002/tcp");
  EXPECT_EQ(texts("[::]:1-2:80-81/tcp"), "[::]:1-2->80-81/tcp");
  EXPECT_EQ(parse_ports("8000-8010:80-90")->at(10).host, 8010);
  EXPECT_EQ(parse_ports("8000-8010:80-90")->at(10).guest, 90);
  // Any free ones.
  const auto free = parse_ports("80-81").value();
  EXPECT_TRUE(free.size() == 2 && free[1].any && free[1].guest == 81 && free[1].first == 0);
  EXPECT_EQ(parse_ports("127.0.0.1::80-81")->size(), 2u);
  EXPECT_EQ(parse_ports("1-512:1-512")->size(), 512u);
}

TEST(Ports, AFreeOneOfARange) {
  const auto ports = parse_ports("8000-8010:80").value();
  ASSERT_EQ(ports.size(), 1u);
  EXPECT_TRUE(ports[0].any);
  EXPECT_EQ(ports[0].host, 0);
  EXPECT_EQ(ports[0].first, 8000);
  EXPECT_EQ(ports[0].last, 8010);
  EXPECT_EQ(host_port_text(ports[0]), "127.0.0.1:8000-8010");
}

TEST(Ports, AreRefusedWithAReason) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "no port of the VM is given"},
      {":", "no port of the VM is given"},
      {"80:", "no port of the VM is given"},
      {"/tcp", "no port of the VM is given"},
      {"x", "'x' is no port"},
      {"80x:80", "'80x' is no port"},
      {" 80:80", "' 80' is no port"},
      {"+80:80", "'+80' is no port"},
      {"-1:80", "'' is no port"},
      {"80-:80", "'' is no port"},
      {"1-2-3:80", "'2-3' is no port"},
      {"0", "a VM has no port 0"},
      {"80:0", "a VM has no port 0"},
      {"80:0-1", "begins with port 0"},
      {"0-3:80-83", "begins with port 0"},
      {"65536", "above 65535"},
      {"99999999999999999999:80", "above 65535"},
      {"80:65536", "above 65535"},
      {"90-80:80-90", "ends before it begins"},
      {"80-90:80-91", "the host's ports are 11 and the VM's 12"},
      {"80:80-81", "the host's ports are 1 and the VM's 2"},
      {"80-82:80-81", "the host's ports are 3 and the VM's 2"},
      {"80/", "'' is no protocol"},
      {"80:80/tcp/udp", "'tcp/udp' is no protocol"},
      {"80/quic", "'quic' is no protocol"},
      {"host:80:80", "'host' is no IPv4 address"},
      {"1.2.3:80:80", "'1.2.3' is no IPv4 address"},
      {"1.2.3.256:80:80", "is no IPv4 address"},
      {"127.0.0.1:80", "'127.0.0.1' is no port"},
      {"::80", "the address is missing"},
      {"::1:80:80", "stands in brackets"},
      {"1.2.3.4:1:2:3", "too many ':'"},
      {"[::1:80:80", "not closed"},
      {"[]:80:80", "'' is no IPv6 address"},
      {"[127.0.0.1]:80:80", "is no IPv6 address"},
      {"[fe80::1%eth0]:80:80", "is no IPv6 address"},
      {"[::1]80:80", "no ':'"},
      {"[::1]", "no ':'"},
      {"[::1]:80", "only one port"},
      {"[::1]:1:2:3", "too many ':'"},
      {"80:[::1]:80", "stands in brackets"},
  };
  for (const auto& [text, why] : cases) {
    const auto ports = parse_ports(text);
    ASSERT_FALSE(ports) << text;
    EXPECT_EQ(ports.error().code(), Code::kInvalidArgument) << text;
    EXPECT_NE(ports.error().cause().find(why), std::string::npos) << ports.error().text();
    EXPECT_FALSE(ports.error().remedy().empty()) << text;
  }
  EXPECT_FALSE(parse_ports(std::string(1000, '1')));
  EXPECT_FALSE(parse_ports(std::string("80\0", 3)));
}

TEST(Ports, OtherProtocolsAreRefusedByName) {
  for (const char* name : {"udp", "sctp", "UDP"}) {
    const auto ports = parse_ports(std::string("53:53/") + name);
    ASSERT_FALSE(ports);
    EXPECT_EQ(ports.error().code(), Code::kUnsupported);
  }
  EXPECT_NE(parse_ports("53:53/sctp").error().cause().find("/sctp"), std::string::npos);
}

TEST(Ports, AreLimited) {
  EXPECT_EQ(parse_ports("1-513:1-513").error().code(), Code::kLimit);
  EXPECT_EQ(parse_guest_ports("1-65535").error().code(), Code::kLimit);
}

TEST(Ports, OfAVmAlone) {
  EXPECT_EQ(parse_guest_ports("80/tcp")->first, 80);
  EXPECT_EQ(parse_guest_ports("80-82")->last, 82);
  EXPECT_EQ(parse_guest_ports("53/udp").error().code(), Code::kUnsupported);
  // As an image might name them.
  for (const char* text : {"0.0.0.0:22:22", "22:22", "", "x/tcp"}) {
    EXPECT_FALSE(parse_guest_ports(text)) << text;
  }
}

TEST(Ports, AreShownTogetherWhereTheyAreNeighbours) {
  std::vector<PortBinding> ports(4);
  const int hosts[] = {8000, 8001, 8003, 8004}, guests[] = {80, 81, 82, 90};
  for (std::size_t i = 0; i < ports.size(); ++i) {
    ports[i].host = static_cast<std::uint16_t>(hosts[i]);
    ports[i].guest = static_cast<std::uint16_t>(guests[i]);
  }
  EXPECT_EQ(ports_text(ports),
            "127.0.0.1:8000-8001->80-81/tcp, 127.0.0.1:8003->82/tcp, 127.0.0.1:8004->90/tcp");
  ports[1].ip = "::1";
  EXPECT_EQ(ports_text({ports[0], ports[1]}), "127.0.0.1:8000->80/tcp, [::1]:8001->81/tcp");
  EXPECT_EQ(ports_text({}), "");
}

}  // namespace
}  // namespace sm
