// Partial blobs: "ROOT/ingest/sha256-HEX.partial" for known ones, "new-XXXXXX.partial" for others.
#include "oci/store/blob_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <vector>

#include "base/file.h"
#include "oci/locked_file.h"
#include "oci/text.h"

namespace sm {
namespace {

constexpr std::string_view kPartialSuffix = ".partial";
// The host goes on working.
constexpr std::uint64_t kKeepFree = 64U << 20U;
constexpr std::uint64_t kCheckEvery = 16U << 20U;

std::string ingest_folder(const std::string& root) { return root + "/ingest"; }

bool is_there(const std::string& root, const BlobExpectation& expected) {
  struct stat info {};
  return ::lstat(blob_path(root, expected.digest).c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
         static_cast<std::uint64_t>(info.st_size) == expected.size;
}

}  // namespace

std::string blob_path(const std::string& root, const Digest& digest) {
  return root + "/blobs/" + std::string(digest.algorithm_name()) + "/" + digest.hex();
}

void remove_stale_ingests(const std::string& root) {
  remove_unlocked(ingest_folder(root), kPartialSuffix);
}

Result<std::optional<BlobWriter>> BlobWriter::open(const std::string& root,
                                                   const BlobExpectation& expected,
                                                   const std::stop_token& stop) {
  if (is_there(root, expected)) return std::optional<BlobWriter>();
  auto path = ingest_folder(root) + "/" + std::string(expected.digest.algorithm_name()) + "-" +
              expected.digest.hex() + std::string(kPartialSuffix);
  auto fd = SM_TRY(lock_file(path, LockKind::kExclusive, stop));
  BlobWriter writer(std::move(fd), root, std::move(path), expected, true);
  if (is_there(root, expected)) {
    ::unlink(writer.path_.c_str());
    return std::optional<BlobWriter>();
  }
  SM_TRY_STATUS(writer.resume());
  return std::optional<BlobWriter>(std::move(writer));
}

Result<BlobWriter> BlobWriter::open_unknown(const std::string& root, std::uint64_t limit) {
  std::string path = ingest_folder(root) + "/new-XXXXXX" + std::string(kPartialSuffix);
  UniqueFd fd(::mkostemps(path.data(), static_cast<int>(kPartialSuffix.size()), O_CLOEXEC));
  if (!fd.valid()) return fail_errno("create " + printable(path), errno);
  // Between the two calls somebody who cleans up may have it: then it fails, and nothing is lost.
  if (!try_lock(fd.get(), LockKind::kExclusive) || !is_same_file(fd.get(), path)) {
    return fail(Code::kIo, printable(path) + " was taken away", "try again");
  }
  return BlobWriter(std::move(fd), root, std::move(path), {Hasher::of({}), limit}, false);
}

BlobWriter::~BlobWriter() {
  if (fd_.valid() && !(known_ && offset_ > 0)) ::unlink(path_.c_str());
}

// Takes over what lies in the file.
Status BlobWriter::resume() {
  const auto size = SM_TRY(file_size(fd_.get()));
  if (size == 0) return {};
  if (size > expected_.size) return restart();
  std::vector<std::byte> buffer(1U << 20U);
  while (offset_ < size) {
    const ssize_t got = ::read(fd_.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("read " + printable(path_), errno);
    if (got == 0) break;
    const auto count = static_cast<std::size_t>(got);
    hasher_.update(std::span(buffer).first(count));
    offset_ += count;
  }
  resumed_ = true;
  return {};
}

Status BlobWriter::check_space(std::size_t bytes) {
  if (until_check_ >= bytes) {
    until_check_ -= bytes;
    return {};
  }
  struct statvfs space {};
  if (::fstatvfs(fd_.get(), &space) == 0 && space.f_blocks != 0 &&
      space.f_bavail * space.f_frsize < kKeepFree + bytes) {
    return fail(Code::kIo, "no space left on the disk of " + printable(root_),
                "make room, for example with `supermachine image prune`");
  }
  until_check_ = kCheckEvery;
  return {};
}

Status BlobWriter::append(std::span<const std::byte> bytes) {
  if (bytes.size() > expected_.size - offset_) {
    if (!known_)
      return fail(Code::kLimit,
                  "a blob has more than " + std::to_string(expected_.size) + " bytes");
    return fail(Code::kCorrupt, "blob " + expected_.digest.text() + " has more than the " +
                                    std::to_string(expected_.size) + " bytes that are stated");
  }
  SM_TRY_STATUS(check_space(bytes.size()));
  auto written = write_all(fd_.get(), bytes);
  if (!written) {
    // The file's end is unknown now.
    static_cast<void>(restart());
    return fail(
        std::move(written).error().with(printable(path_)).or_remedy("make room on the disk"));
  }
  hasher_.update(bytes);
  offset_ += bytes.size();
  return {};
}

Status BlobWriter::restart() {
  if (::ftruncate(fd_.get(), 0) != 0) return fail_errno("truncate " + printable(path_), errno);
  if (::lseek(fd_.get(), 0, SEEK_SET) != 0) return fail_errno("seek " + printable(path_), errno);
  hasher_ = Hasher(expected_.digest.algorithm());
  offset_ = 0;
  resumed_ = false;
  return {};
}

Result<BlobExpectation> BlobWriter::commit() {
  const auto digest = hasher_.finish();
  const bool wrong = known_ && (digest != expected_.digest || offset_ != expected_.size);
  if (wrong) {
    const auto size = offset_;
    SM_TRY_STATUS(restart());
    return fail(Code::kCorrupt, "blob " + expected_.digest.text() +
                                    " does not match its digest: what came has " +
                                    std::to_string(size) + " bytes and " + digest.text());
  }
  const BlobExpectation result{digest, offset_};
  const auto to = blob_path(root_, digest);
  if (::fsync(fd_.get()) != 0) return fail_errno("write " + printable(path_), errno);
  if (::rename(path_.c_str(), to.c_str()) != 0)
    return fail_errno("rename " + printable(path_), errno);
  fd_.reset();
  auto folder = SM_TRY(open_file(to.substr(0, to.rfind('/')), O_RDONLY | O_DIRECTORY));
  if (::fsync(folder.get()) != 0) return fail_errno("write " + printable(to), errno);
  return result;
}

}  // namespace sm
