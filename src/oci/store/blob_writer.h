// BlobWriter: one blob on its way into an image store. It grows in a locked partial file beside the
// store and gets its name when size and digest are right; what a dead process left is gone on with.
// One thread at a time; safe among processes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <stop_token>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/digest.h"

namespace sm {

struct BlobExpectation {
  Digest digest;
  std::uint64_t size = 0;
};

class BlobWriter {
 public:
  // The writer for a blob of the store below `root`; nothing when the store has the blob, perhaps
  // because another process finished it while this one waited for its lock. Code::kGone on a stop
  // request.
  static Result<std::optional<BlobWriter>> open(const std::string& root,
                                                const BlobExpectation& expected,
                                                const std::stop_token& stop = {});
  // For a blob whose digest is not known before; at most `limit` bytes.
  static Result<BlobWriter> open_unknown(const std::string& root, std::uint64_t limit);
  BlobWriter(BlobWriter&&) noexcept = default;
  BlobWriter& operator=(BlobWriter&&) = delete;
  BlobWriter(const BlobWriter&) = delete;
  BlobWriter& operator=(const BlobWriter&) = delete;
  // Without commit(): bytes of a known blob stay for the next attempt.
  ~BlobWriter();

  std::uint64_t offset() const { return offset_; }
  const BlobExpectation& expected() const { return expected_; }
  // Whether bytes of an earlier process are part of it.
  bool is_resumed() const { return resumed_; }

  // Code::kCorrupt beyond the stated size; Code::kIo when the disk is full.
  Status append(std::span<const std::byte> bytes);
  // Forgets all bytes.
  Status restart();
  // Verifies, syncs, gives it its name. A wrong digest is Code::kCorrupt and forgets all bytes.
  Result<BlobExpectation> commit();

 private:
  BlobWriter(UniqueFd fd, std::string root, std::string path, BlobExpectation expected, bool known)
      : fd_(std::move(fd)),
        root_(std::move(root)),
        path_(std::move(path)),
        expected_(std::move(expected)),
        known_(known),
        hasher_(expected_.digest.algorithm()) {}
  Status resume();
  Status check_space(std::size_t bytes);

  UniqueFd fd_;
  std::string root_;
  std::string path_;
  BlobExpectation expected_;
  bool known_;
  Hasher hasher_;
  std::uint64_t offset_ = 0;
  std::uint64_t until_check_ = 0;  // bytes that may come before the next look at the space
  bool resumed_ = false;
};

// "ROOT/blobs/sha256/HEX".
std::string blob_path(const std::string& root, const Digest& digest);

// Removes partial files that nobody holds.
void remove_stale_ingests(const std::string& root);

}  // namespace sm
