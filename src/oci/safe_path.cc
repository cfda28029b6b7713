// Checks of names from archives.
#include "oci/safe_path.h"

namespace sm {

Result<SafePath> safe_path(std::string_view name) {
  if (name.empty()) return fail(Code::kCorrupt, "its name is empty");
  if (name.front() == '/') return fail(Code::kCorrupt, "its name is absolute");
  if (name.size() > kMaxPathBytes) return fail(Code::kLimit, "its name is longer than 4096 bytes");
  SafePath out;
  while (!name.empty()) {
    const auto slash = name.find('/');
    const auto part = name.substr(0, slash);
    name.remove_prefix(slash == std::string_view::npos ? name.size() : slash + 1);
    if (part.empty() || part == ".") continue;
    if (part == "..") return fail(Code::kCorrupt, "its name leads outside of the image (\"..\")");
    if (part.size() > kMaxNameBytes) {
      return fail(Code::kLimit, "its name has a component longer than 255 bytes");
    }
    out.push_back(part);
  }
  return out;
}

}  // namespace sm
