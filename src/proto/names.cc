#include "proto/names.h"

#include <arpa/inet.h>

#include <algorithm>

namespace sm {

namespace {

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_hex_digit(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

}  // namespace

bool is_name(std::string_view text, std::string_view also, std::size_t limit) {
  if (text.empty() || text.size() > limit) return false;
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return is_alphanumeric(c) || also.find(c) != std::string_view::npos;
  });
}

bool is_hostname(std::string_view text) { return is_name(text, ".-_", kMaxHostname); }

bool is_host_entry(const HostEntry& entry) {
  return is_ip_address(entry.address) && is_name(entry.name, ".-_", kMaxHostName);
}

bool is_ip_address(const std::string& text) {
  in6_addr scratch{};
  return text.find('\0') == std::string::npos &&
         (::inet_pton(AF_INET, text.c_str(), &scratch) == 1 ||
          ::inet_pton(AF_INET6, text.c_str(), &scratch) == 1);
}

bool is_environment_entry(std::string_view text) {
  const auto equals = text.find('=');
  return equals != std::string_view::npos && equals != 0 &&
         text.find('\0') == std::string_view::npos;
}

bool is_machine_id(std::string_view text) {
  return text.size() == 32 && std::all_of(text.begin(), text.end(), is_hex_digit) &&
         text.find_first_not_of('0') != std::string_view::npos;
}

bool is_disk_serial(std::string_view text) {
  constexpr std::size_t kMaxSerial = 20;  // virtio-blk: VIRTIO_BLK_ID_BYTES
  return is_name(text, "._-", kMaxSerial);
}

}  // namespace sm
