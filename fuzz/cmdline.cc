// The command line builder on arbitrary texts, one per line of the input: whatever is accepted is
// printable, short enough, and read by the kernel, not by init.
#include "vmm/loader/cmdline.h"

#include <algorithm>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint32_t kMaxLength = 200;
  std::string_view input(reinterpret_cast<const char*>(data), size);
  sm::CommandLine line(kMaxLength);
  while (!input.empty()) {
    const std::size_t end = std::min(input.find('\n'), input.size());
    const std::string before = line.text();
    const bool taken = line.append(input.substr(0, end), "fuzz").has_value();
    if (!taken && line.text() != before) __builtin_trap();
    if (taken && line.text().compare(0, before.size(), before) != 0) __builtin_trap();
    if (taken && line.text() != before && (" " + before + " ").find(" -- ") != std::string::npos &&
        before.find('"') == std::string::npos) {
      __builtin_trap();
    }
    input.remove_prefix(std::min(end + 1, input.size()));
  }
  const std::string& text = line.text();
  if (text.size() > kMaxLength) __builtin_trap();
  if (std::any_of(text.begin(), text.end(), [](char c) { return c < 0x20 || c > 0x7E; })) {
    __builtin_trap();
  }
  if (std::count(text.begin(), text.end(), '"') % 2 != 0) __builtin_trap();
  return 0;
}
