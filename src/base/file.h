// Files and descriptors with errors as values: the wrappers every other folder uses instead of raw
// calls. Any thread. All descriptors are close-on-exec. EINTR is retried here and nowhere else.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace sm {

// open(2) with O_CLOEXEC added. The error names the path.
Result<UniqueFd> open_file(const std::string& path, int flags, mode_t mode = 0600);

// Reads a whole regular file of at most `limit` bytes; larger is Code::kLimit.
Result<std::string> read_file(const std::string& path, std::size_t limit);

// Writes all bytes to a blocking descriptor.
Status write_all(int fd, std::span<const std::byte> bytes);
// Reads exactly out.size() bytes; early end of file is Code::kGone.
Status read_exact(int fd, std::span<std::byte> out);

// Writes `path` so that readers see the old or the new content, never half: temporary name in the
// same folder, fsync, rename, fsync of the folder.
Status write_file_atomic(const std::string& path, std::string_view content, mode_t mode = 0644);

// Size of a regular file or block device, in bytes.
Result<std::uint64_t> file_size(int fd);

// mkdir -p with the given mode for what is created.
Status make_dirs(const std::string& path, mode_t mode = 0755);

// An anonymous in-memory file holding `content`, offset 0, close-on-exec.
Result<UniqueFd> memory_file(const std::string& name, std::span<const std::byte> content);

// A file on the disk without a name in `folder`, gone with its last descriptor.
Result<UniqueFd> unnamed_file(const std::string& folder);
// Where large ones belong: TMPDIR or /var/tmp, since /tmp may lie in memory.
std::string spool_folder();

// Sets or clears O_NONBLOCK.
Status set_nonblocking(int fd, bool on);

}  // namespace sm
