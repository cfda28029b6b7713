// A libsquashfs object of our own around the library's compressor.
#include "oci/squashfs_compressor.h"

#include <algorithm>
#include <memory>

namespace sm {
namespace {

// The library sees the base alone, and calls it through the functions in it.
struct Choosy : sqfs_compressor_t {
  SqfsPtr<sqfs_compressor_t> inner;
};

sqfs_compressor_t* inner_of(const sqfs_compressor_t* compressor) {
  return static_cast<const Choosy*>(compressor)->inner.get();
}

// An object of the library is its first member.
sqfs_compressor_t* compressor_of(sqfs_object_t* object) {
  return reinterpret_cast<sqfs_compressor_t*>(object);
}
const sqfs_compressor_t* compressor_of(const sqfs_object_t* object) {
  return reinterpret_cast<const sqfs_compressor_t*>(object);
}

sqfs_compressor_t* wrap(SqfsPtr<sqfs_compressor_t> inner);

void destroy(sqfs_object_t* object) { delete static_cast<Choosy*>(compressor_of(object)); }

// One for each thread of the library.
sqfs_object_t* copy(const sqfs_object_t* object) {
  auto* inner = static_cast<sqfs_compressor_t*>(sqfs_copy(inner_of(compressor_of(object))));
  return inner == nullptr ? nullptr : &wrap(SqfsPtr<sqfs_compressor_t>(inner))->base;
}

// 0 stands for "stays as it is", as most of what programs are made of does: unpacking it would cost
// the guest at every start. What shrinks to a quarter is packed, so that plain repetitions, the
// cheapest way to fill a disk from a small download, stay small. For others there are limits.
sqfs_s32 do_block(sqfs_compressor_t* base, const sqfs_u8* in, sqfs_u32 size, sqfs_u8* out,
                  sqfs_u32 room) {
  auto* inner = inner_of(base);
  const sqfs_u32 worthwhile = size / 4;
  if (worthwhile == 0) return 0;
  return inner->do_block(inner, in, size, out, std::min(room, worthwhile));
}

void get_configuration(const sqfs_compressor_t* base, sqfs_compressor_config_t* config) {
  const auto* inner = inner_of(base);
  inner->get_configuration(inner, config);
}

int write_options(sqfs_compressor_t* base, sqfs_file_t* file) {
  auto* inner = inner_of(base);
  return inner->write_options(inner, file);
}

int read_options(sqfs_compressor_t* base, sqfs_file_t* file) {
  auto* inner = inner_of(base);
  return inner->read_options(inner, file);
}

sqfs_compressor_t* wrap(SqfsPtr<sqfs_compressor_t> inner) {
  auto made = std::make_unique<Choosy>();
  made->base = {.destroy = destroy, .copy = copy};
  made->do_block = do_block;
  made->get_configuration = get_configuration;
  made->write_options = write_options;
  made->read_options = read_options;
  made->inner = std::move(inner);
  return made.release();
}

Result<SqfsPtr<sqfs_compressor_t>> library_compressor(std::uint32_t block_size, std::uint16_t flags,
                                                      const SquashfsFile& file) {
  sqfs_compressor_config_t config{};
  SM_SQFS(sqfs_compressor_config_init(&config, kSquashfsCompressor, block_size, flags),
          "compressor", file);
  sqfs_compressor_t* made = nullptr;
  SM_SQFS(sqfs_compressor_create(&config, &made), "compressor", file);
  return SqfsPtr<sqfs_compressor_t>(made);
}

}  // namespace

Result<SqfsPtr<sqfs_compressor_t>> make_compressor(std::uint32_t block_size,
                                                   const SquashfsFile& file) {
  return SqfsPtr<sqfs_compressor_t>(wrap(SM_TRY(library_compressor(block_size, 0, file))));
}

Result<SqfsPtr<sqfs_compressor_t>> make_uncompressor(std::uint32_t block_size,
                                                     const SquashfsFile& file) {
  return library_compressor(block_size, SQFS_COMP_FLAG_UNCOMPRESS, file);
}

}  // namespace sm
