// Writing tar streams for tests. Spec: POSIX pax, "ustar Interchange Format".
#include "oci/testing/tar_builder.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"

namespace sm::testing {
namespace {

constexpr std::size_t kBlock = 512;
constexpr std::size_t kNameField = 100;

struct Header {
  char name[100];
  char mode[8];
  char uid[8];
  char gid[8];
  char size[12];
  char mtime[12];
  char checksum[8];
  char type;
  char link[100];
  char magic[6];
  char version[2];
  char user[32];
  char group[32];
  char major[8];
  char minor[8];
  char prefix[155];
  char pad[12];
};
static_assert(sizeof(Header) == kBlock);

// Octal where it fits, else the binary form with the high bit set.
template <std::size_t N>
void put_number(char (&field)[N], std::int64_t value) {
  const std::int64_t octal_limit = std::int64_t{1} << std::min<std::size_t>(3 * (N - 1), 62);
  if (value >= 0 && value < octal_limit) {
    for (std::size_t i = N - 1; i-- > 0; value >>= 3) {
      field[i] = static_cast<char>('0' + (value & 7));
    }
    return;
  }
  for (std::size_t i = N; i-- > 0; value >>= 8) {
    field[i] = static_cast<char>(static_cast<unsigned char>(value & 0xFF));
  }
  field[0] = static_cast<char>(static_cast<unsigned char>(field[0]) | 0x80U);
}

template <std::size_t N>
void put_text(char (&field)[N], std::string_view text) {
  std::memcpy(field, text.data(), std::min(N, text.size()));
}

}  // namespace

std::string pax_record(std::string_view key, std::string_view value) {
  const std::string body = " " + std::string(key) + "=" + std::string(value) + "\n";
  auto length = body.size() + 1;
  while (std::to_string(length).size() + body.size() != length) {
    length = std::to_string(length).size() + body.size();
  }
  return std::to_string(length) + body;
}

void TarBuilder::put_padded(std::string_view data) {
  out_ += data;
  out_.append((kBlock - data.size() % kBlock) % kBlock, '\0');
}

void TarBuilder::put_header(const TarItem& item, std::string_view name, std::string_view link) {
  Header header{};
  put_text(header.name, name);
  put_number(header.mode, item.mode);
  put_number(header.uid, item.uid);
  put_number(header.gid, item.gid);
  put_number(header.size, item.size.value_or(static_cast<std::int64_t>(item.data.size())));
  put_number(header.mtime, item.mtime);
  header.type = item.type;
  put_text(header.link, link);
  std::memcpy(header.magic, "ustar", 6);
  std::memcpy(header.version, "00", 2);
  put_number(header.major, item.major);
  put_number(header.minor, item.minor);
  std::memset(header.checksum, ' ', sizeof(header.checksum));
  std::array<unsigned char, kBlock> bytes{};
  std::memcpy(bytes.data(), &header, kBlock);
  std::int64_t sum = 0;
  for (const auto byte : bytes) sum += byte;
  put_number(header.checksum, sum);
  out_.append(reinterpret_cast<const char*>(&header), kBlock);
}

TarBuilder& TarBuilder::add(const TarItem& item) {
  auto records = item.pax;
  if (item.name.size() > kNameField) records.emplace_back("path", item.name);
  if (item.link.size() > kNameField) records.emplace_back("linkpath", item.link);
  if (!records.empty()) {
    std::string body;
    for (const auto& [key, value] : records) body += pax_record(key, value);
    put_header({.name = "PaxHeaders/0", .type = 'x', .data = body}, "PaxHeaders/0", "");
    put_padded(body);
  }
  put_header(item, std::string_view(item.name).substr(0, kNameField),
             std::string_view(item.link).substr(0, kNameField));
  put_padded(item.data);
  return *this;
}

TarBuilder& TarBuilder::add_gnu_long(const TarItem& item) {
  const auto name = item.name + '\0';
  put_header({.name = "././@LongLink", .type = 'L', .data = name}, "././@LongLink", "");
  put_padded(name);
  put_header(item, std::string_view(item.name).substr(0, kNameField), item.link);
  put_padded(item.data);
  return *this;
}

TarBuilder& TarBuilder::file(std::string name, std::string data, std::uint32_t mode) {
  return add({.name = std::move(name), .mode = mode, .data = std::move(data)});
}
TarBuilder& TarBuilder::dir(std::string name, std::uint32_t mode) {
  return add({.name = std::move(name), .type = '5', .mode = mode});
}
TarBuilder& TarBuilder::symlink(std::string name, std::string target) {
  return add({.name = std::move(name), .type = '2', .mode = 0777, .link = std::move(target)});
}
TarBuilder& TarBuilder::hard_link(std::string name, std::string target) {
  return add({.name = std::move(name), .type = '1', .link = std::move(target)});
}
TarBuilder& TarBuilder::device(std::string name, char type, std::uint32_t major,
                               std::uint32_t minor) {
  return add({.name = std::move(name), .type = type, .mode = 0600, .major = major, .minor = minor});
}
TarBuilder& TarBuilder::raw(std::string_view bytes) {
  out_ += bytes;
  return *this;
}

std::string TarBuilder::finish() const { return out_ + std::string(2 * kBlock, '\0'); }

}  // namespace sm::testing
