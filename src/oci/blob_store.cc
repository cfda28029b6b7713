// The files of an image folder.
#include "oci/blob_store.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "base/file.h"
#include "oci/text.h"

namespace sm {
namespace {

class FolderStore final : public BlobStore {
 public:
  explicit FolderStore(std::string path) : path_(std::move(path)) {}

  Result<Blob> open(const std::string& name) const override {
    const auto full = path_ + "/" + name;
    // Without blocking, since a hostile folder may hold a FIFO.
    auto fd = SM_TRY(open_file(full, O_RDONLY | O_NONBLOCK | O_NOCTTY));
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) return fail_errno("stat " + printable(full), errno);
    if (!S_ISREG(info.st_mode)) {
      return fail(Code::kCorrupt, printable(full) + " is not a regular file");
    }
    const auto size = static_cast<std::uint64_t>(info.st_size);
    auto shared = std::make_shared<const UniqueFd>(std::move(fd));
    return Blob{size,
                std::make_unique<FileStream>(std::move(shared), FileStream::Range{0, size}, full)};
  }

 private:
  std::string path_;
};

}  // namespace

std::unique_ptr<BlobStore> folder_store(std::string path) {
  return std::make_unique<FolderStore>(std::move(path));
}

}  // namespace sm
