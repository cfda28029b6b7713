// Writes the golden snapshot of the format that this version of the program writes:
//   make_golden DIRECTORY
// For a new format, into a new directory; what is there already is never written again.
#include <unistd.h>

#include <cstdio>

#include "snapshot_compat/golden.h"
#include "vmm/snapshot/snapshot_dir.h"

namespace sm {
namespace {

Status make(const std::string& path) {
  auto writer = SM_TRY(SnapshotWriter::create(path, golden::kMemoryBytes, false));
  for (const auto& [page, bytes] : golden::pages()) {
    const auto at = static_cast<off_t>(page * bytes.size());
    if (::pwrite(writer->memory_fd(), bytes.data(), bytes.size(), at) !=
        static_cast<ssize_t>(bytes.size())) {
      return fail_errno("write a page", errno);
    }
  }
  return writer->commit(golden::manifest(), golden::state());
}

}  // namespace
}  // namespace sm

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_golden DIRECTORY\n");
    return 2;
  }
  const auto status = sm::make(argv[1]);
  if (!status) std::fprintf(stderr, "make_golden: %s\n", status.error().text().c_str());
  return status ? 0 : 1;
}
