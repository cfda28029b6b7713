// TarBuilder: tar streams for tests, honest or hostile: every field can be set to anything.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sm::testing {

struct TarItem {
  std::string name;
  char type = '0';
  std::uint32_t mode = 0644;
  std::int64_t uid = 0;
  std::int64_t gid = 0;
  std::int64_t mtime = 1'700'000'000;
  std::string data{};
  std::string link{};
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  std::optional<std::int64_t> size{};  // instead of data.size()
  std::vector<std::pair<std::string, std::string>> pax{};
};

class TarBuilder {
 public:
  // A ustar header, after a PAX header for `pax` and for what does not fit.
  TarBuilder& add(const TarItem& item);
  // GNU's form of a long name: an 'L' entry before the header.
  TarBuilder& add_gnu_long(const TarItem& item);

  TarBuilder& file(std::string name, std::string data, std::uint32_t mode = 0644);
  TarBuilder& dir(std::string name, std::uint32_t mode = 0755);
  TarBuilder& symlink(std::string name, std::string target);
  TarBuilder& hard_link(std::string name, std::string target);
  TarBuilder& device(std::string name, char type, std::uint32_t major, std::uint32_t minor);
  TarBuilder& whiteout(std::string name) { return file(std::move(name), ""); }
  // Bytes as they are.
  TarBuilder& raw(std::string_view bytes);

  // The stream with its end marker.
  std::string finish() const;
  // The stream as it is.
  const std::string& bytes() const { return out_; }

 private:
  void put_header(const TarItem& item, std::string_view name, std::string_view link);
  void put_padded(std::string_view data);
  std::string out_;
};

// "LENGTH key=value\n" with the length that counts itself.
std::string pax_record(std::string_view key, std::string_view value);

}  // namespace sm::testing
