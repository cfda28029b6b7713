#include "vmm/loader/cmdline.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/memory/addr_map.h"

namespace sm {

namespace {

bool printable(char c) { return c >= 0x20 && c < 0x7F; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

// True when one of the arguments is a lone "--". Quotes count as Linux counts them.
bool has_end_mark(std::string_view text) {
  bool quoted = false;
  std::size_t start = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && text[i] == '"') quoted = !quoted;
    if (i < text.size() && (quoted || text[i] != ' ')) continue;
    if (text.substr(start, i - start) == "--") return true;
    start = i + 1;
  }
  return false;
}

}  // namespace

Status CommandLine::append(std::string_view text, std::string_view what) {
  const auto bad = std::find_if_not(text.begin(), text.end(), printable);
  if (bad != text.end()) {
    return fail(Code::kInvalidArgument,
                fmt::format("{}: byte {:#04x} at position {} cannot be on the kernel command line",
                            what, static_cast<unsigned char>(*bad), bad - text.begin()),
                "use printable ASCII without line breaks");
  }
  if (std::count(text.begin(), text.end(), '"') % 2 != 0) {
    return fail(Code::kInvalidArgument, fmt::format("{}: a double quote is not closed", what));
  }
  text = trimmed(text);
  if (text.empty()) return {};
  if (ended_) {
    return fail(Code::kInvalidArgument,
                fmt::format("{}: the kernel would not read it, an earlier part has \"--\"", what));
  }
  const std::size_t blank = text_.empty() ? 0 : 1;
  const std::size_t used = text_.size() + blank;
  if (used > max_length_ || text.size() > max_length_ - used) {
    return fail(Code::kLimit,
                fmt::format("{}: the kernel command line would be {} bytes long, {} are possible",
                            what, used + text.size(), max_length_));
  }
  if (blank != 0) text_ += ' ';
  text_ += text;
  ended_ = has_end_mark(text);
  return {};
}

Status CommandLine::add_virtio_mmio(GuestPhysAddr base, std::uint64_t size, std::uint32_t gsi) {
  const std::string text =
      size % 1024 == 0
          ? fmt::format("virtio_mmio.device={}K@{:#x}:{}", size / 1024, base.raw(), gsi)
          : fmt::format("virtio_mmio.device={}@{:#x}:{}", size, base.raw(), gsi);
  return append(text, fmt::format("virtio device at {:#x}", base.raw()));
}

Status CommandLine::write(GuestMemory& memory) const {
  std::vector<std::byte> bytes(text_.size() + 1);
  std::transform(text_.begin(), text_.end(), bytes.begin(),
                 [](char c) { return static_cast<std::byte>(c); });
  if (bytes.size() > addr_map::kCommandLineMax) {
    return fail(Code::kLimit, fmt::format("a kernel command line of {} bytes", text_.size()));
  }
  return memory.write(GuestPhysAddr(addr_map::kCommandLine), bytes);
}

}  // namespace sm
