// What a capture writes and what a mapping of it shows.
#include "vmm/snapshot/memory_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include "vmm/memory/addr_map.h"

namespace sm {
namespace {

constexpr std::uint64_t kPage = addr_map::kPageSize;
constexpr std::uint64_t kBytes = 4u << 20;

UniqueFd empty_image(std::uint64_t bytes = kBytes) {
  UniqueFd file(::memfd_create("image", MFD_CLOEXEC));
  EXPECT_EQ(::ftruncate(file.get(), static_cast<off_t>(bytes)), 0);
  return file;
}

UniqueFd copy_of(const UniqueFd& file) { return UniqueFd(::dup(file.get())); }

std::unique_ptr<GuestMemory> map(const UniqueFd& file, std::vector<MemoryLayer> more = {}) {
  std::vector<MemoryLayer> layers;
  layers.push_back({copy_of(file), {}});
  for (MemoryLayer& layer : more) layers.push_back(std::move(layer));
  auto memory = GuestMemory::create_from(kBytes, std::move(layers));
  EXPECT_TRUE(memory) << memory.error().text();
  return memory ? *std::move(memory) : nullptr;
}

void put(GuestMemory& memory, std::uint64_t page, std::uint64_t value) {
  ASSERT_TRUE(memory.write_object(GuestPhysAddr(page * kPage + 8), value));
}
std::uint64_t get(const GuestMemory& memory, std::uint64_t page) {
  return memory.read_object<std::uint64_t>(GuestPhysAddr(page * kPage + 8)).value();
}

const MemoryWriter& writer() {
  static const MemoryWriter writer = MemoryWriter::create().value();
  return writer;
}

struct Written {
  std::vector<PageRange> pages;
  std::uint64_t bytes = 0;
};
Result<Written> write_changed(const GuestMemory& memory, int file) {
  Written written{.pages = SM_TRY(writer().changed_pages(memory))};
  written.bytes = SM_TRY(write_pages(memory, written.pages, file));
  return written;
}
Result<Written> write_all(const GuestMemory& memory, int file) {
  SM_TRY_STATUS(write_layers(memory, file));
  return write_changed(memory, file);
}

TEST(MemoryWriter, only_what_is_not_zero_takes_space) {
  auto memory = GuestMemory::create(kBytes).value();
  put(*memory, 3, 33);
  put(*memory, 900, 99);
  put(*memory, 500, 0);  // touched and zero
  const UniqueFd file = empty_image();
  const auto written = write_all(*memory, file.get());
  ASSERT_TRUE(written) << written.error().text();
  EXPECT_EQ(written->bytes, 2 * kPage);
  struct stat info {};
  ASSERT_EQ(::fstat(file.get(), &info), 0);
  EXPECT_EQ(info.st_blocks * 512, static_cast<off_t>(2 * kPage));
  const auto copy = map(file);
  EXPECT_EQ(get(*copy, 3), 33u);
  EXPECT_EQ(get(*copy, 900), 99u);
  EXPECT_EQ(get(*copy, 500), 0u);
  EXPECT_EQ(get(*copy, 0), 0u);
}

TEST(MemoryWriter, copies_do_not_see_each_others_writes) {
  auto memory = GuestMemory::create(kBytes).value();
  put(*memory, 3, 33);
  const UniqueFd file = empty_image();
  ASSERT_TRUE(write_all(*memory, file.get()));
  const auto one = map(file), two = map(file);
  put(*one, 3, 1);
  put(*two, 3, 2);
  EXPECT_EQ(get(*one, 3), 1u);
  EXPECT_EQ(get(*two, 3), 2u);
  EXPECT_EQ(get(*map(file), 3), 33u);
}

TEST(MemoryWriter, a_diff_holds_the_written_pages_and_nothing_else) {
  auto memory = GuestMemory::create(kBytes).value();
  for (std::uint64_t page = 0; page < 100; ++page) put(*memory, page, page + 1);
  const UniqueFd base = empty_image();
  ASSERT_TRUE(write_all(*memory, base.get()));
  auto restored = map(base);
  for (std::uint64_t page = 0; page < 100; ++page) EXPECT_EQ(get(*restored, page), page + 1);
  put(*restored, 7, 700);
  put(*restored, 8, 0);  // zero now, not in the base
  put(*restored, 1000, 5);
  const UniqueFd diff = empty_image();
  const auto written = write_changed(*restored, diff.get());
  ASSERT_TRUE(written);
  EXPECT_EQ(written->pages, (std::vector<PageRange>{{7, 2}, {1000, 1}}));
  EXPECT_EQ(written->bytes, 2 * kPage);

  std::vector<MemoryLayer> layers;
  layers.push_back({copy_of(diff), written->pages});
  auto second = map(base, std::move(layers));
  EXPECT_EQ(get(*second, 6), 7u);
  EXPECT_EQ(get(*second, 7), 700u);
  EXPECT_EQ(get(*second, 8), 0u);
  EXPECT_EQ(get(*second, 1000), 5u);

  // A whole snapshot of a machine that was made from two layers.
  put(*second, 9, 0);
  put(*second, 10, 1010);
  const UniqueFd whole = empty_image();
  ASSERT_TRUE(write_all(*second, whole.get()));
  const auto third = map(whole);
  EXPECT_EQ(get(*third, 6), 7u);
  EXPECT_EQ(get(*third, 7), 700u);
  EXPECT_EQ(get(*third, 8), 0u);
  EXPECT_EQ(get(*third, 9), 0u);
  EXPECT_EQ(get(*third, 10), 1010u);
  EXPECT_EQ(get(*third, 99), 100u);
}

TEST(MemoryWriter, long_changed_ranges_are_mapped) {
  auto memory = GuestMemory::create(kBytes).value();
  put(*memory, 0, 1);
  const UniqueFd base = empty_image();
  ASSERT_TRUE(write_all(*memory, base.get()));
  auto restored = map(base);
  for (std::uint64_t page = 100; page < 500; ++page) put(*restored, page, page);
  const UniqueFd diff = empty_image();
  const auto written = write_changed(*restored, diff.get()).value();
  std::vector<MemoryLayer> layers;
  layers.push_back({copy_of(diff), written.pages});
  auto second = map(base, std::move(layers));
  for (std::uint64_t page = 100; page < 500; ++page) EXPECT_EQ(get(*second, page), page);
  EXPECT_EQ(get(*second, 0), 1u);
  // Nothing of it is the new machine's own yet.
  const UniqueFd nothing = empty_image();
  EXPECT_TRUE(write_changed(*second, nothing.get()).value().pages.empty());
}

TEST(MemoryWriter, both_regions_are_written) {
  constexpr std::uint64_t kLarge = addr_map::kLowRamEnd + (1u << 20);
  auto memory = GuestMemory::create(kLarge).value();
  ASSERT_TRUE(memory->write_object(GuestPhysAddr(addr_map::kLowRamEnd - 8), std::uint64_t{1}));
  ASSERT_TRUE(memory->write_object(GuestPhysAddr(addr_map::kHighRamStart), std::uint64_t{2}));
  const UniqueFd file = empty_image(kLarge);
  EXPECT_EQ(write_all(*memory, file.get()).value().bytes, 2 * kPage);
  std::vector<MemoryLayer> layers;
  layers.push_back({copy_of(file), {}});
  const auto copy = GuestMemory::create_from(kLarge, std::move(layers)).value();
  EXPECT_EQ(copy->read_object<std::uint64_t>(GuestPhysAddr(addr_map::kLowRamEnd - 8)).value(), 1u);
  EXPECT_EQ(copy->read_object<std::uint64_t>(GuestPhysAddr(addr_map::kHighRamStart)).value(), 2u);
}

TEST(MemoryWriter, an_image_of_another_size_is_refused) {
  std::vector<MemoryLayer> layers;
  layers.push_back({empty_image(kBytes / 2), {}});
  EXPECT_EQ(GuestMemory::create_from(kBytes, std::move(layers)).error().code(), Code::kCorrupt);
}

TEST(MemoryWriter, changed_pages_outside_of_memory_are_refused) {
  std::vector<MemoryLayer> layers;
  layers.push_back({empty_image(), {}});
  layers.push_back({empty_image(), {{kBytes / kPage - 1, 2}}});
  EXPECT_EQ(GuestMemory::create_from(kBytes, std::move(layers)).error().code(), Code::kCorrupt);
}

TEST(MemoryWriter, a_child_writes_what_was_there_when_it_started) {
  auto memory = GuestMemory::create(kBytes).value();
  for (std::uint64_t page = 0; page < 1000; ++page) put(*memory, page, page + 1);
  const UniqueFd file = empty_image();
  const auto pages = writer().changed_pages(*memory).value();
  auto child = MemoryWriterProcess::start(*memory, pages, file.get()).value();
  for (std::uint64_t page = 0; page < 1000; ++page) put(*memory, page, 5);
  EXPECT_EQ(child.finish().value(), 1000 * kPage);
  const auto copy = map(file);
  for (std::uint64_t page = 0; page < 1000; ++page) EXPECT_EQ(get(*copy, page), page + 1);
}

TEST(MemoryWriter, a_childs_error_is_told) {
  auto memory = GuestMemory::create(kBytes).value();
  put(*memory, 1, 1);
  const UniqueFd read_only(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const auto pages = writer().changed_pages(*memory).value();
  auto child = MemoryWriterProcess::start(*memory, pages, read_only.get()).value();
  const auto written = child.finish();
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code(), Code::kIo) << written.error().text();
}

TEST(MemoryWriter, a_child_that_nobody_waits_for_ends) {
  auto memory = GuestMemory::create(kBytes).value();
  put(*memory, 1, 1);
  const UniqueFd file = empty_image();
  { const auto child = MemoryWriterProcess::start(*memory, {}, file.get()).value(); }
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
}

}  // namespace
}  // namespace sm
