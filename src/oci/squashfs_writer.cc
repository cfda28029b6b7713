// The data half of a squashfs image, and its superblock.
#include "oci/squashfs_writer.h"

#include <sqfs/block_processor.h>
#include <sqfs/block_writer.h>
#include <sqfs/compressor.h>
#include <sqfs/frag_table.h>
#include <sqfs/super.h>

#include <algorithm>
#include <array>
#include <deque>
#include <vector>

#include "base/check.h"
#include "base/checked.h"
#include "oci/squashfs_compressor.h"
#include "oci/squashfs_tree.h"

namespace sm {
namespace {

constexpr std::size_t kDeviceBlock = 4096;
// Limit: inodes of files are named by 32 bits; the tree's own limit is far below.
constexpr std::size_t kMaxFiles = 0xFFFFFFF0;

}  // namespace

struct SquashfsWriter::State {
  State(int fd, std::uint64_t keep_free) : file(fd, keep_free) {}
  ~State() {
    // After an error blocks may still be under way; the library forgets to free those. Each round
    // takes at least one of them out of the queue, which is bounded.
    for (std::uint32_t i = 0; processor && i < max_backlog; ++i) {
      if (sqfs_block_processor_sync(processor.get()) == 0) break;
    }
    // The processor's threads use what stands above it; it goes first.
    processor.reset();
    for (auto* inode : inodes) sqfs_free(inode);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  SquashfsFile file;
  sqfs_super_t super{};
  SqfsPtr<sqfs_compressor_t> compressor;
  SqfsPtr<sqfs_compressor_t> uncompressor;
  SqfsPtr<sqfs_block_writer_t> blocks;
  SqfsPtr<sqfs_frag_table_t> fragments;
  SqfsPtr<sqfs_block_processor_t> processor;
  std::uint32_t max_backlog = 0;
  // The library keeps the address of each pointer until the data is written: a deque never moves.
  std::deque<sqfs_inode_generic_t*> inodes;
};

SquashfsWriter::SquashfsWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
SquashfsWriter::~SquashfsWriter() = default;

Result<std::unique_ptr<SquashfsWriter>> SquashfsWriter::create(int fd,
                                                               const SquashfsOptions& options) {
  auto state = std::make_unique<State>(fd, options.keep_free);
  auto& file = state->file;
  // Time 0: the image must depend on nothing but the layer.
  SM_SQFS(sqfs_super_init(&state->super, options.block_size, 0, kSquashfsCompressor), "superblock",
          file);
  SM_SQFS(sqfs_super_write(&state->super, file.handle()), "superblock", file);
  state->compressor = SM_TRY(make_compressor(options.block_size, file));
  state->uncompressor = SM_TRY(make_uncompressor(options.block_size, file));
  const int written = state->compressor->write_options(state->compressor.get(), file.handle());
  if (written < 0) return squashfs_failure("compressor", written, file);
  if (written > 0) {
    state->super.flags = static_cast<sqfs_u16>(state->super.flags | SQFS_FLAG_COMPRESSOR_OPTIONS);
  }
  state->blocks.reset(sqfs_block_writer_create(file.handle(), kDeviceBlock, 0));
  state->fragments.reset(sqfs_frag_table_create(0));
  if (!state->blocks || !state->fragments) {
    return fail(Code::kIo, "out of memory for the layer's blocks");
  }
  sqfs_block_processor_desc_t desc{};
  desc.size = sizeof(desc);
  desc.max_block_size = options.block_size;
  desc.num_workers = std::max(options.threads, 1U);
  desc.max_backlog = desc.num_workers * 10;
  state->max_backlog = desc.max_backlog;
  desc.cmp = state->compressor.get();
  desc.wr = state->blocks.get();
  desc.tbl = state->fragments.get();
  // With these two, equal hashes are never taken for equal data.
  desc.file = file.handle();
  desc.uncmp = state->uncompressor.get();
  sqfs_block_processor_t* processor = nullptr;
  SM_SQFS(sqfs_block_processor_create_ex(&desc, &processor), "block processor", file);
  state->processor.reset(processor);
  return std::unique_ptr<SquashfsWriter>(new SquashfsWriter(std::move(state)));
}

Result<FileId> SquashfsWriter::begin_file() {
  auto& inodes = state_->inodes;
  if (inodes.size() >= kMaxFiles) return fail(Code::kLimit, "there are too many files");
  inodes.push_back(nullptr);
  SM_SQFS(sqfs_block_processor_begin_file(state_->processor.get(), &inodes.back(), nullptr, 0),
          "file data", state_->file);
  return static_cast<FileId>(inodes.size() - 1);
}

Status SquashfsWriter::append(std::span<const std::byte> bytes) {
  SM_SQFS(sqfs_block_processor_append(state_->processor.get(), bytes.data(), bytes.size()),
          "file data", state_->file);
  return {};
}

Status SquashfsWriter::append_zeros(std::uint64_t count) {
  static constexpr std::array<std::byte, 64U << 10U> kZeros{};
  while (count > 0) {
    const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(count, kZeros.size()));
    SM_TRY_STATUS(append(std::span(kZeros).first(part)));
    count -= part;
  }
  return {};
}

Status SquashfsWriter::end_file() {
  SM_SQFS(sqfs_block_processor_end_file(state_->processor.get()), "file data", state_->file);
  return {};
}

Result<std::uint64_t> SquashfsWriter::finish(const LayerTree& tree) {
  auto& file = state_->file;
  SM_SQFS(sqfs_block_processor_finish(state_->processor.get()), "file data", file);
  std::vector<SqfsInode> files;
  files.reserve(state_->inodes.size());
  for (auto*& inode : state_->inodes) files.emplace_back(std::exchange(inode, nullptr));
  SquashfsTree writer(tree, files, file, state_->compressor.get());
  SM_TRY_STATUS(writer.write(state_->super, state_->fragments.get()));
  state_->super.bytes_used = file.size();
  SM_SQFS(sqfs_super_write(&state_->super, file.handle()), "superblock", file);
  // Block devices have whole sectors; the kernel reads whole pages.
  const auto padded = align_up(file.size(), kDeviceBlock);
  SM_CHECK(padded.has_value());
  auto* handle = file.handle();
  SM_SQFS(handle->truncate(handle, *padded), "padding", file);
  return *padded;
}

}  // namespace sm
