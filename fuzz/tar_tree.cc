// Hostile archives from a guest's tar, unpacked as `cp` does it: nothing may appear or change
// beside the target. Byte 0 says whether the entries come under a name.
#include "runtime/client/tar_tree.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/check.h"
#include "oci/testing/text_stream.h"
#include "oci_tar_mutator.h"

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPrefix = 1;

// A folder to unpack into, with one beside it that must stay as it is.
struct Folders {
  Folders() {
    char name[] = "/tmp/sm-fuzz-tar-XXXXXX";
    SM_CHECK(::mkdtemp(name) != nullptr);
    root = name;
    fs::create_directory(root + "/in");
    fs::create_directory(root + "/in/link-target");
    fs::create_directory(root + "/secret");
    std::ofstream(root + "/secret/file") << "old";
    fs::create_symlink("../secret", root + "/in/way-out");
  }
  ~Folders() {
    std::error_code ignored;
    fs::remove_all(root, ignored);
  }
  void check() const {
    SM_CHECK(std::distance(fs::directory_iterator(root), {}) == 2);
    SM_CHECK(std::distance(fs::directory_iterator(root + "/secret"), {}) == 1);
    struct stat st {};
    SM_CHECK(::lstat((root + "/secret/file").c_str(), &st) == 0 && st.st_size == 3 &&
             st.st_nlink == 1);
  }
  std::string root;
};

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned) {
  return sm::fuzz::mutate_tar(data, size, max_size, kPrefix);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kPrefix) return 0;
  const Folders folders;
  sm::testing::TextStream stream(
      std::string(reinterpret_cast<const char*>(data) + kPrefix, size - kPrefix));
  (void)sm::unpack_tree(stream, folders.root + "/in", (data[0] & 1) != 0 ? "name" : "");
  folders.check();
  return 0;
}
