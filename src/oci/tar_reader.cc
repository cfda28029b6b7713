// libarchive's tar reader behind a value interface.
#include "oci/tar_reader.h"

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "oci/text.h"

namespace sm {
namespace {

constexpr std::size_t kReadBuffer = 256U << 10U;

// libarchive converts PAX names to the thread's character set. In the "C" locale it hands the raw
// bytes through, whatever locale the program runs in.
class ScopedCLocale {
 public:
  explicit ScopedCLocale(locale_t locale) : before_(::uselocale(locale)) {}
  ~ScopedCLocale() { ::uselocale(before_); }
  ScopedCLocale(const ScopedCLocale&) = delete;
  ScopedCLocale& operator=(const ScopedCLocale&) = delete;

 private:
  locale_t before_;
};

TarKind kind_of(archive_entry* entry) {
  if (archive_entry_hardlink(entry) != nullptr) return TarKind::kHardLink;
  switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
      return TarKind::kFile;
    case AE_IFDIR:
      return TarKind::kDirectory;
    case AE_IFLNK:
      return TarKind::kSymlink;
    case AE_IFCHR:
      return TarKind::kCharDevice;
    case AE_IFBLK:
      return TarKind::kBlockDevice;
    case AE_IFIFO:
      return TarKind::kFifo;
    default:
      return TarKind::kOther;
  }
}

std::string text_or_empty(const char* text) { return text == nullptr ? std::string() : text; }

void read_xattrs(archive_entry* entry, TarEntry& out) {
  archive_entry_xattr_reset(entry);
  const char* name = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
    if (name == nullptr) continue;
    // Later ones win: libarchive's own writer stores each attribute twice.
    out.xattrs[name] = std::string(static_cast<const char*>(value), value == nullptr ? 0 : size);
  }
}

void read_entry(archive_entry* entry, TarEntry& out) {
  out = TarEntry{};
  out.path = text_or_empty(archive_entry_pathname(entry));
  out.kind = kind_of(entry);
  if (out.kind == TarKind::kHardLink)
    out.link_target = text_or_empty(archive_entry_hardlink(entry));
  if (out.kind == TarKind::kSymlink) out.link_target = text_or_empty(archive_entry_symlink(entry));
  out.mode = static_cast<std::uint32_t>(archive_entry_perm(entry)) & 07777U;
  out.uid = archive_entry_uid(entry);
  out.gid = archive_entry_gid(entry);
  out.mtime = archive_entry_mtime(entry);
  const auto size = archive_entry_size(entry);
  out.size = size < 0 ? 0 : static_cast<std::uint64_t>(size);
  out.device_major = archive_entry_rdevmajor(entry);
  out.device_minor = archive_entry_rdevminor(entry);
  out.has_acl = archive_entry_acl_types(entry) != 0;
  read_xattrs(entry, out);
}

}  // namespace

struct TarReader::State {
  explicit State(ByteStream& from) : stream(from), buffer(kReadBuffer) {}
  ~State() {
    if (archive_handle != nullptr) archive_read_free(archive_handle);
    if (c_locale != locale_t{}) ::freelocale(c_locale);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  static la_ssize_t read_callback(archive* handle, void* self, const void** out) {
    auto& state = *static_cast<State*>(self);
    auto got = state.stream.read(state.buffer);
    if (!got) {
      state.stream_error = std::move(got).error();
      archive_set_error(handle, EIO, "stream");
      return -1;
    }
    *out = state.buffer.data();
    return static_cast<la_ssize_t>(*got);
  }

  static la_int64_t skip_callback(archive*, void* self, la_int64_t count) {
    auto* file = static_cast<State*>(self)->skippable;
    if (file == nullptr || count <= 0) return 0;
    return static_cast<la_int64_t>(file->skip(static_cast<std::uint64_t>(count)));
  }

  // The error behind a libarchive status.
  tl::unexpected<Error> failure() {
    if (stream_error)
      return tl::unexpected<Error>(std::exchange(stream_error, std::nullopt).value());
    const auto text = text_or_empty(archive_error_string(archive_handle));
    const auto code =
        text.find("too large") != std::string::npos || text.find("Too many") != std::string::npos
            ? Code::kLimit
            : Code::kCorrupt;
    return fail(code, "its tar stream is damaged: " + printable(text));
  }

  ByteStream& stream;
  FileStream* skippable = nullptr;
  std::vector<std::byte> buffer;
  archive* archive_handle = nullptr;
  locale_t c_locale{};
  std::optional<Error> stream_error;
};

TarReader::TarReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
TarReader::~TarReader() {
  ScopedCLocale locale(state_->c_locale);
  archive_read_free(std::exchange(state_->archive_handle, nullptr));
}

Result<std::unique_ptr<TarReader>> TarReader::create(ByteStream& stream) {
  return start(std::make_unique<State>(stream));
}

Result<std::unique_ptr<TarReader>> TarReader::create_skipping(FileStream& stream) {
  auto state = std::make_unique<State>(stream);
  state->skippable = &stream;
  return start(std::move(state));
}

Result<std::unique_ptr<TarReader>> TarReader::start(std::unique_ptr<State> state) {
  state->c_locale = ::newlocale(LC_ALL_MASK, "C", locale_t{});
  state->archive_handle = archive_read_new();
  if (state->c_locale == locale_t{} || state->archive_handle == nullptr) {
    return fail(Code::kInternal, "cannot set up the tar reader");
  }
  ScopedCLocale locale(state->c_locale);
  auto* handle = state->archive_handle;
  // The format is stated, never guessed.
  if (archive_read_support_format_tar(handle) != ARCHIVE_OK ||
      archive_read_set_callback_data(handle, state.get()) != ARCHIVE_OK ||
      archive_read_set_read_callback(handle, &State::read_callback) != ARCHIVE_OK ||
      archive_read_set_skip_callback(handle, &State::skip_callback) != ARCHIVE_OK ||
      archive_read_open1(handle) != ARCHIVE_OK) {
    return state->failure();
  }
  return std::unique_ptr<TarReader>(new TarReader(std::move(state)));
}

Result<bool> TarReader::next(TarEntry& out) {
  ScopedCLocale locale(state_->c_locale);
  archive_entry* entry = nullptr;
  const int status = archive_read_next_header(state_->archive_handle, &entry);
  if (status == ARCHIVE_EOF) return false;
  if (status == ARCHIVE_WARN) {
    // The only harmless warning: a name that is not ASCII came through as raw bytes.
    const auto text = text_or_empty(archive_error_string(state_->archive_handle));
    if (!text.ends_with("to current locale.")) return state_->failure();
  } else if (status != ARCHIVE_OK) {
    return state_->failure();
  }
  read_entry(entry, out);
  return true;
}

Result<bool> TarReader::next_data(TarData& out) {
  ScopedCLocale locale(state_->c_locale);
  while (true) {
    const void* block = nullptr;
    std::size_t size = 0;
    la_int64_t offset = 0;
    const int status = archive_read_data_block(state_->archive_handle, &block, &size, &offset);
    if (status == ARCHIVE_EOF) return false;
    if (status != ARCHIVE_OK) return state_->failure();
    if (offset < 0) return fail(Code::kCorrupt, "its tar stream has a negative data offset");
    if (size == 0) continue;
    out = {static_cast<std::uint64_t>(offset),
           std::span(static_cast<const std::byte*>(block), size)};
    return true;
  }
}

std::uint64_t TarReader::header_offset() const {
  const auto offset = archive_read_header_position(state_->archive_handle);
  return offset < 0 ? 0 : static_cast<std::uint64_t>(offset);
}

}  // namespace sm
