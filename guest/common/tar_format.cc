#include "common/tar_format.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/bytes.h"

namespace sm::guest {

namespace {

// Offsets and sizes of POSIX.1-1988 and its ustar extension.
struct Field {
  std::size_t at;
  std::size_t size;
};
constexpr Field kName{0, 100}, kMode{100, 8}, kUid{108, 8}, kGid{116, 8}, kSize{124, 12},
    kMtime{136, 12}, kSum{148, 8}, kType{156, 1}, kLink{157, 100}, kMagic{257, 6},
    kPrefix{345, 155};

tl::unexpected<Error> corrupt(const char* what) {
  return fail(Code::kCorrupt, std::string("the archive has ") + what);
}

constexpr std::uint64_t most_of(const Field& field) {
  return (std::uint64_t{1} << (3 * (field.size - 1))) - 1;
}

void put_octal(std::string& block, const Field& field, std::uint64_t value) {
  for (std::size_t i = field.size - 1; i-- > 0; value >>= 3) {
    block[field.at + i] = static_cast<char>('0' + (value & 7));
  }
}

void put_text(std::string& block, const Field& field, std::string_view text) {
  text = text.substr(0, field.size);
  std::copy(text.begin(), text.end(), block.begin() + static_cast<std::ptrdiff_t>(field.at));
}

std::uint32_t sum_of(std::string_view block) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < block.size(); ++i) {
    const bool own = i >= kSum.at && i < kSum.at + kSum.size;
    sum += own ? static_cast<std::uint32_t>(' ') : static_cast<unsigned char>(block[i]);
  }
  return sum;
}

std::string block_of(const TarHeader& h) {
  std::string out(kTarBlock, '\0');
  put_text(out, kName, h.name);
  put_text(out, kLink, h.link);
  put_octal(out, kMode, h.mode & 07777);
  put_octal(out, kUid, std::min(h.uid, most_of(kUid)));
  put_octal(out, kGid, std::min(h.gid, most_of(kGid)));
  put_octal(out, kSize, std::min(h.size, most_of(kSize)));
  const auto mtime = static_cast<std::uint64_t>(std::max<std::int64_t>(h.mtime, 0));
  put_octal(out, kMtime, std::min(mtime, most_of(kMtime)));
  out[kType.at] = h.type;
  out.replace(kMagic.at, 8,
              std::string_view("ustar\0"
                               "00",
                               8));
  put_octal(out, {kSum.at, 7}, sum_of(out));
  out[kSum.at + 7] = ' ';
  return out;
}

// "LENGTH KEY=VALUE\n", where the length counts itself.
std::string pax_record(std::string_view key, std::string_view value) {
  const std::size_t rest = key.size() + value.size() + 3;
  std::size_t length = rest + 1;
  while (rest + std::to_string(length).size() != length) {
    length = rest + std::to_string(length).size();
  }
  std::string out = std::to_string(length) + " ";
  return out.append(key).append("=").append(value).append("\n");
}

std::string_view text_of(std::string_view block, const Field& field) {
  const auto text = block.substr(field.at, field.size);
  return text.substr(0, text.find('\0'));
}

// Octal digits between blanks, or with the highest bit set a number in base 256.
Result<std::int64_t> number_of(std::string_view block, const Field& field) {
  auto text = block.substr(field.at, field.size);
  const auto first = static_cast<unsigned char>(text[0]);
  if (first >= 0x80) {
    std::uint64_t value = first == 0xFF ? ~std::uint64_t{0} : first & 0x7Fu;
    for (std::size_t i = 1; i < text.size(); ++i) {
      const std::uint64_t top = value >> 55;
      if (top != 0 && top != 0x1FF) return corrupt("a number that is too large");
      value = value << 8 | static_cast<unsigned char>(text[i]);
    }
    return static_cast<std::int64_t>(value);
  }
  const auto begin = std::min(text.find_first_not_of(' '), text.size());
  text = text.substr(begin);
  text = text.substr(0, std::min(text.find_first_of(std::string_view(" \0", 2)), text.size()));
  if (text.empty()) return 0;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 8);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) {
    return corrupt("a malformed number");
  }
  return value;
}

template <typename T>
bool parse_decimal(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  // What is behind the point of a time is of no interest.
  return error == std::errc() && (end == text.data() + text.size() || *end == '.');
}

Status fill(std::string_view block, TarHeader& out) {
  out.name = text_of(block, kName);
  out.link = text_of(block, kLink);
  out.type = block[kType.at] == '\0' || block[kType.at] == '7' ? kTarFile : block[kType.at];
  // GNU tar has other things there.
  if (block.substr(kMagic.at, 6) == std::string_view("ustar\0", 6)) {
    const auto prefix = text_of(block, kPrefix);
    if (!prefix.empty()) out.name = std::string(prefix) + "/" + out.name;
  }
  const auto size = SM_TRY(number_of(block, kSize));
  const auto uid = SM_TRY(number_of(block, kUid));
  const auto gid = SM_TRY(number_of(block, kGid));
  if (size < 0 || uid < 0 || gid < 0) return corrupt("a negative number");
  out.size = static_cast<std::uint64_t>(size);
  out.uid = static_cast<std::uint64_t>(uid);
  out.gid = static_cast<std::uint64_t>(gid);
  out.mode = static_cast<std::uint32_t>(SM_TRY(number_of(block, kMode)) & 07777);
  out.mtime = SM_TRY(number_of(block, kMtime));
  return {};
}

// By the first bytes, which are those of a file's name in a header.
bool is_compressed(std::string_view block) {
  return block.starts_with("\x1f\x8b") || block.starts_with("BZh") ||
         block.starts_with(
             "\xFD"
             "7zXZ") ||
         block.starts_with("\x28\xB5\x2F\xFD");
}

}  // namespace

std::string encode_tar_header(const TarHeader& h) {
  std::string pax;
  if (h.name.size() > kName.size) pax += pax_record("path", h.name);
  if (h.link.size() > kLink.size) pax += pax_record("linkpath", h.link);
  if (h.size > most_of(kSize)) pax += pax_record("size", std::to_string(h.size));
  if (h.uid > most_of(kUid)) pax += pax_record("uid", std::to_string(h.uid));
  if (h.gid > most_of(kGid)) pax += pax_record("gid", std::to_string(h.gid));
  if (h.mtime < 0 || h.mtime > static_cast<std::int64_t>(most_of(kMtime))) {
    pax += pax_record("mtime", std::to_string(h.mtime));
  }
  std::string out;
  if (!pax.empty()) {
    TarHeader extra;
    extra.name = "pax/" + h.name;
    extra.type = kTarPax;
    extra.mode = 0644;
    extra.size = pax.size();
    out = block_of(extra) + pax;
    out.resize((out.size() + kTarBlock - 1) / kTarBlock * kTarBlock);
  }
  return out + block_of(h);
}

Result<std::optional<TarHeader>> decode_tar_header(std::span<const std::byte, kTarBlock> bytes) {
  const std::string_view block = as_text(bytes);
  if (block.find_first_not_of('\0') == std::string_view::npos) return std::nullopt;
  const auto sum = number_of(block, kSum);
  if (!sum || *sum != sum_of(block)) {
    if (is_compressed(block)) {
      return fail(Code::kUnsupported, "the archive is compressed", "unpack it on the way");
    }
    return corrupt("a header whose checksum is wrong");
  }
  std::optional<TarHeader> out(std::in_place);
  SM_TRY_STATUS(fill(block, *out));
  return out;
}

Status TarExtra::set(Values& values, std::string_view key, std::string_view value) {
  bool good = true;
  if (key == "path") {
    values.name = value;
  } else if (key == "linkpath") {
    values.link = value;
  } else if (key == "size") {
    good = parse_decimal(value, values.size.emplace());
  } else if (key == "uid") {
    good = parse_decimal(value, values.uid.emplace());
  } else if (key == "gid") {
    good = parse_decimal(value, values.gid.emplace());
  } else if (key == "mtime") {
    good = parse_decimal(value, values.mtime.emplace());
  } else if (key.starts_with("GNU.sparse.")) {
    return fail(Code::kUnsupported, "the archive has a sparse file", "pack it without --sparse");
  }
  return good ? Status() : corrupt("a malformed pax record");
}

Status TarExtra::add(char type, std::string_view data) {
  if (type == kTarLongName || type == kTarLongLink) {
    const std::string_view text = data.substr(0, data.find('\0'));
    (type == kTarLongName ? next_.name : next_.link) = text;
    return {};
  }
  Values& values = type == kTarPaxGlobal ? global_ : next_;
  while (!data.empty()) {
    std::size_t length = 0;
    const auto [end, error] = std::from_chars(data.data(), data.data() + data.size(), length);
    const auto digits = static_cast<std::size_t>(end - data.data());
    if (error != std::errc() || length > data.size() || length < digits + 3 ||
        data[digits] != ' ' || data[length - 1] != '\n') {
      return corrupt("a malformed pax record");
    }
    const auto record = data.substr(digits + 1, length - digits - 2);
    const auto equals = record.find('=');
    if (equals == std::string_view::npos) return corrupt("a malformed pax record");
    SM_TRY_STATUS(set(values, record.substr(0, equals), record.substr(equals + 1)));
    data.remove_prefix(length);
  }
  return {};
}

void TarExtra::apply(const Values& values, TarHeader& header) {
  header.name = values.name.value_or(std::move(header.name));
  header.link = values.link.value_or(std::move(header.link));
  header.uid = values.uid.value_or(header.uid);
  header.gid = values.gid.value_or(header.gid);
  header.size = values.size.value_or(header.size);
  header.mtime = values.mtime.value_or(header.mtime);
}

void TarExtra::apply(TarHeader& header) {
  apply(global_, header);
  apply(next_, header);
  next_ = {};
  // A folder of the time before folders had a type. By the whole name: what a header has of a long
  // one may end with any of its slashes.
  if (header.type == kTarFile && header.name.ends_with('/')) header.type = kTarFolder;
}

}  // namespace sm::guest
