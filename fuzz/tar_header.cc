// Tar headers as the guest's agent reads them. The first bytes say which kind of extra data
// follows; a header that was taken must come out of the agent's own writer as it went in.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/check.h"
#include "common/tar_format.h"

namespace {

using namespace sm::guest;
using Bytes = std::span<const std::byte>;

// Reads what the writer made of a header, with the extra headers before it.
TarHeader read_back(const std::string& written) {
  TarExtra extra;
  Bytes rest = std::as_bytes(std::span(written));
  for (;;) {
    SM_CHECK(rest.size() >= kTarBlock);
    auto header = decode_tar_header(rest.first<kTarBlock>());
    SM_CHECK(header && *header);
    rest = rest.subspan(kTarBlock);
    if ((*header)->type != kTarPax) {
      SM_CHECK(rest.empty());
      extra.apply(**header);
      return **header;
    }
    const auto size = static_cast<std::size_t>((*header)->size);
    SM_CHECK(size <= rest.size());
    SM_CHECK(extra.add(kTarPax, {reinterpret_cast<const char*>(rest.data()), size}).has_value());
    rest = rest.subspan((size + kTarBlock - 1) / kTarBlock * kTarBlock);
  }
}

void check_same(const TarHeader& a, const TarHeader& b) {
  SM_CHECK(a.name == b.name && a.link == b.link && a.type == b.type && a.mode == b.mode);
  SM_CHECK(a.uid == b.uid && a.gid == b.gid && a.size == b.size && a.mtime == b.mtime);
}

// The sum of a header's bytes would keep nearly every input out.
void put_sum(std::span<std::byte, kTarBlock> block) {
  std::fill_n(block.begin() + 148, 8, std::byte{' '});
  unsigned sum = 0;
  for (const std::byte b : block) sum += static_cast<unsigned>(b);
  char text[8];
  std::snprintf(text, sizeof(text), "%06o", sum & 0777777);
  std::memcpy(block.data() + 148, text, 7);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr char kTypes[] = {kTarPax, kTarPaxGlobal, kTarLongName, kTarLongLink};
  if (size < 1 + kTarBlock) return 0;
  std::array<std::byte, kTarBlock> block;
  std::memcpy(block.data(), data + 1, kTarBlock);
  if ((data[0] & 4) == 0) put_sum(block);
  TarExtra extra;
  const std::string text(reinterpret_cast<const char*>(data) + 1 + kTarBlock, size - 1 - kTarBlock);
  (void)extra.add(kTypes[data[0] & 3], text);
  auto header = decode_tar_header(block);
  if (!header || !*header) return 0;
  extra.apply(**header);
  if (std::find(std::begin(kTypes), std::end(kTypes), (**header).type) != std::end(kTypes)) {
    return 0;
  }
  // Names with a NUL, which no file has, end there in an archive.
  if ((**header).name.find('\0') != std::string::npos) return 0;
  if ((**header).link.find('\0') != std::string::npos) return 0;
  check_same(**header, read_back(encode_tar_header(**header)));
  return 0;
}
