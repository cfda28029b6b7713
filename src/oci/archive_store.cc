// The members of a tar file by name: one pass over the headers, then reading in place.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "oci/blob_store.h"
#include "oci/safe_path.h"
#include "oci/tar_reader.h"
#include "oci/text.h"

namespace sm {
namespace {

// Limit: docker's archives link once; a cycle ends here.
constexpr int kMaxLinks = 8;
constexpr std::uint64_t kKeepFree = 64U << 20U;

struct Member {
  std::uint64_t header = 0;  // offset in the tar file
  std::uint64_t size = 0;
  std::optional<std::string> link;  // the name it stands for
};

std::string join(const SafePath& path) {
  std::string out;
  for (const auto part : path) out += (out.empty() ? "" : "/") + std::string(part);
  return out;
}

// Where a symbolic link in the archive leads; nothing when it leads outside.
std::optional<std::string> resolve_link(const SafePath& from, std::string_view target) {
  if (target.starts_with('/')) return std::nullopt;
  SafePath at(from.begin(), from.empty() ? from.end() : from.end() - 1);
  while (!target.empty()) {
    const auto slash = target.find('/');
    const auto part = target.substr(0, slash);
    target.remove_prefix(slash == std::string_view::npos ? target.size() : slash + 1);
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      at.push_back(part);
    } else if (at.empty()) {
      return std::nullopt;
    } else {
      at.pop_back();
    }
  }
  return join(at);
}

// The data of one member, from its header on.
class MemberStream final : public ByteStream {
 public:
  static Result<ByteStreamPtr> open(FileStream file, std::uint64_t size) {
    auto stream = std::unique_ptr<MemberStream>(new MemberStream(std::move(file), size));
    stream->reader_ = SM_TRY(TarReader::create_skipping(stream->file_));
    TarEntry entry;
    if (!SM_TRY(stream->reader_->next(entry)) || entry.size != size) {
      return fail(Code::kCorrupt, "the archive changed while it was read");
    }
    return ByteStreamPtr(std::move(stream));
  }

  Result<std::size_t> read(std::span<std::byte> out) override {
    if (data_.bytes.empty() && !SM_TRY(reader_->next_data(data_))) {
      if (at_ != size_) return fail(Code::kCorrupt, "a member of the archive ends early");
      return std::size_t{0};
    }
    if (data_.offset != at_) {
      return fail(Code::kUnsupported, "a member of the archive is stored as a sparse file");
    }
    const auto count = std::min(out.size(), data_.bytes.size());
    std::copy_n(data_.bytes.begin(), count, out.begin());
    data_.bytes = data_.bytes.subspan(count);
    data_.offset += count;
    at_ += count;
    return count;
  }

 private:
  MemberStream(FileStream file, std::uint64_t size) : file_(std::move(file)), size_(size) {}
  FileStream file_;
  std::unique_ptr<TarReader> reader_;  // reads from file_
  TarData data_;
  std::uint64_t at_ = 0;
  std::uint64_t size_;
};

class ArchiveStore final : public BlobStore {
 public:
  ArchiveStore(std::shared_ptr<const UniqueFd> fd, std::uint64_t size, std::string path)
      : fd_(std::move(fd)), size_(size), path_(std::move(path)) {}

  Status read_index(const ArchiveLimits& limits) {
    FileStream file(fd_, {0, size_}, path_);
    auto reader = SM_TRY(TarReader::create_skipping(file));
    TarEntry entry;
    while (SM_TRY(reader->next(entry))) {
      auto added = add_member(entry, reader->header_offset());
      if (!added) {
        return fail(std::move(added).error().with("entry \"" + printable(entry.path) + "\""));
      }
      if (members_.size() > limits.max_members) {
        return fail(Code::kLimit,
                    "the archive has more than " + std::to_string(limits.max_members) + " members");
      }
    }
    return {};
  }

  Result<Blob> open(const std::string& name) const override {
    auto wanted = name;
    for (int i = 0; i < kMaxLinks; ++i) {
      const auto found = members_.find(wanted);
      if (found == members_.end()) {
        return fail(Code::kNotFound, "the archive has no member \"" + printable(wanted) + "\"");
      }
      const auto& member = found->second;
      if (member.link) {
        wanted = *member.link;
        continue;
      }
      FileStream file(fd_, {member.header, size_ - member.header}, path_);
      return Blob{member.size, SM_TRY(MemberStream::open(std::move(file), member.size))};
    }
    return fail(Code::kCorrupt, "the links of member \"" + printable(name) + "\" lead in circles");
  }

 private:
  Status add_member(const TarEntry& entry, std::uint64_t header) {
    const auto path = SM_TRY(safe_path(entry.path));
    Member member{.header = header, .size = entry.size, .link = std::nullopt};
    switch (entry.kind) {
      case TarKind::kFile:
        break;
      case TarKind::kSymlink:
        member.link = resolve_link(path, entry.link_target);
        break;
      case TarKind::kHardLink:
        member.link = resolve_link({}, entry.link_target);
        break;
      default:
        return {};  // folders and the like hold no data
    }
    const bool is_link = entry.kind != TarKind::kFile;
    if (is_link && !member.link) {
      return fail(Code::kCorrupt, "its link target \"" + printable(entry.link_target) +
                                      "\" lies outside of the archive");
    }
    members_[join(path)] = std::move(member);
    return {};
  }

  std::shared_ptr<const UniqueFd> fd_;
  std::uint64_t size_;
  std::string path_;
  std::map<std::string, Member> members_;
};

// What cannot be read in place or unpacked here.
Status refuse_other_packers(const UniqueFd& fd) {
  std::array<char, 6> head{};
  const auto got = ::pread(fd.get(), head.data(), head.size(), 0);
  const std::string_view magic(head.data(), got < 0 ? 0 : static_cast<std::size_t>(got));
  using namespace std::string_view_literals;
  const bool is_other = magic.starts_with(
                            "\xFD"
                            "7zXZ"sv) ||
                        magic.starts_with("BZh"sv) || magic.starts_with("PK\x03\x04"sv);
  if (!is_other) return {};
  return fail(Code::kUnsupported, "the archive is packed in an unsupported way",
              "unpack it to a plain tar file, or pack it with gzip or zstd");
}

Result<UniqueFd> unpack(ByteStream& stream) {
  auto fd = SM_TRY(unnamed_file(spool_folder()));
  std::vector<std::byte> buffer(1U << 20U);
  while (true) {
    const auto got = SM_TRY(stream.read(buffer));
    if (got == 0) return fd;
    struct statvfs space {};
    if (::fstatvfs(fd.get(), &space) == 0 && space.f_blocks != 0 &&
        space.f_bavail * space.f_frsize < kKeepFree) {
      return fail_errno("unpack the archive", ENOSPC);
    }
    SM_TRY_STATUS(write_all(fd.get(), std::span(buffer).first(got)));
  }
}

}  // namespace

Result<std::unique_ptr<BlobStore>> archive_store(const std::string& file,
                                                 const ArchiveLimits& limits) {
  auto fd = SM_TRY(open_file(file, O_RDONLY | O_NONBLOCK | O_NOCTTY));
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return fail_errno("stat " + printable(file), errno);
  if (!S_ISREG(info.st_mode)) {
    return fail(Code::kInvalidArgument, printable(file) + " is not a regular file",
                S_ISDIR(info.st_mode) ? "use oci: for a folder" : "");
  }
  SM_TRY_STATUS(refuse_other_packers(fd));
  auto size = static_cast<std::uint64_t>(info.st_size);
  auto shared = std::make_shared<const UniqueFd>(std::move(fd));
  auto packed = SM_TRY(
      sniff_compression(std::make_unique<FileStream>(shared, FileStream::Range{0, size}, file)));
  if (packed.first != Compression::kNone) {
    auto plain = SM_TRY(
        decompressed_stream(std::move(packed.second), packed.first, limits.max_unpacked_bytes));
    shared = std::make_shared<const UniqueFd>(SM_TRY(unpack(*plain)));
    size = SM_TRY(file_size(shared->get()));
  }
  auto store = std::make_unique<ArchiveStore>(std::move(shared), size, file);
  SM_TRY_STATUS(store->read_index(limits));
  return std::unique_ptr<BlobStore>(std::move(store));
}

}  // namespace sm
