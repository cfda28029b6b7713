// ImageReference: where a local image lies, as the user wrote it. Parsing looks at the file system
// only to find out where a path with colons ends. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sm {

enum class Transport : std::uint8_t {
  kOciLayout,      // oci:DIR[:TAG]
  kOciArchive,     // oci-archive:FILE[:TAG]
  kDockerArchive,  // docker-archive:FILE[:NAME[:TAG]]
};

struct ImageReference {
  Transport transport{};
  std::string path;
  std::string tag;  // empty: the only image there

  // The reference in its text form.
  std::string text() const;
};

// Whether the text is one of these forms, right or wrong; else it is a name. Forms of other tools
// and paths are taken for them too: parse_reference() explains what is wrong.
bool is_local_reference(std::string_view text);

// Whether something exists at a path; replaced in tests.
using PathProbe = bool (*)(const std::string& path);
bool path_exists(const std::string& path);

// The longest prefix of the part after the transport that exists is the path; the rest after a
// colon is the tag. When nothing exists, the first colon separates.
Result<ImageReference> parse_reference(std::string_view text, PathProbe probe = &path_exists);

}  // namespace sm
