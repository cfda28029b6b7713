// References as a user may type them, and digests and names within.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "oci/digest.h"
#include "oci/image_name.h"
#include "oci/reference.h"
#include "oci/safe_path.h"
#include "oci/text.h"

namespace {

// Existence as a function of the path, so that runs repeat.
bool pretend_exists(const std::string& path) { return path.size() % 3 == 1; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto reference = sm::parse_reference(text, &pretend_exists)) {
    SM_CHECK(!reference->path.empty());
    SM_CHECK(reference->text() == text);
  } else {
    SM_CHECK(!reference.error().remedy().empty());
  }
  if (const auto name = sm::parse_image_name(text)) {
    // The parts go into URLs and paths; the full form means itself.
    SM_CHECK(name->text().find_first_of(" ?#%\\\r\n") == std::string::npos);
    SM_CHECK(name->repository.find("..") == std::string::npos);
    SM_CHECK(name->digest.has_value() != !name->tag.empty());
    const auto again = sm::parse_image_name(name->text());
    SM_CHECK(again && again->text() == name->text());
  }
  if (const auto digest = sm::Digest::parse(text)) SM_CHECK(digest->text() == text);
  if (const auto path = sm::safe_path(text)) {
    for (const auto part : *path) SM_CHECK(part != ".." && part != "." && !part.empty());
  }
  for (const char c : sm::printable(text)) SM_CHECK(static_cast<unsigned char>(c) >= 0x20);
  return 0;
}
