// Temporary folders for tests.
#include "oci/testing/temp_dir.h"

#include <algorithm>
#include <cstdlib>

#include "base/check.h"

namespace sm::testing {

TempDir::TempDir() {
  std::string pattern = std::filesystem::temp_directory_path() / "sm-oci-XXXXXX";
  SM_CHECK(::mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> TempDir::names() const {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    out.push_back(entry.path().filename());
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace sm::testing
