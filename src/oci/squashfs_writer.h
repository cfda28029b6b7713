// SquashfsWriter: file data first, then a LayerTree, into one squashfs image (LZ4), through
// libsquashfs. The same calls give the same bytes. One thread at a time; it runs its own
// compression threads, which end with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "oci/layer_tree.h"

namespace sm {

struct SquashfsOptions {
  std::uint32_t block_size = 128U << 10U;
  std::uint32_t threads = 1;
  // Bytes the file system must keep free; writing fails with Code::kIo before it has less.
  std::uint64_t keep_free = 64U << 20U;
};

class SquashfsWriter {
 public:
  // Writes to `fd`, an empty regular file that stays open and unshared until the writer is gone.
  static Result<std::unique_ptr<SquashfsWriter>> create(int fd, const SquashfsOptions& options);
  ~SquashfsWriter();
  SquashfsWriter(const SquashfsWriter&) = delete;
  SquashfsWriter& operator=(const SquashfsWriter&) = delete;

  // The data of one regular file: begin, append as often as needed, end.
  Result<FileId> begin_file();
  Status append(std::span<const std::byte> bytes);
  Status append_zeros(std::uint64_t count);
  Status end_file();

  // Writes the settled tree and all tables. The last call; the result is the size of the image, a
  // multiple of 4096.
  Result<std::uint64_t> finish(const LayerTree& tree);

 private:
  struct State;
  explicit SquashfsWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace sm
