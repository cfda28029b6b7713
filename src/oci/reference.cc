// Parsing of image references.
#include "oci/reference.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "oci/text.h"

namespace sm {
namespace {

struct TransportRow {
  std::string_view prefix;
  Transport transport;
};
constexpr std::array kTransports = {
    TransportRow{"oci:", Transport::kOciLayout},
    TransportRow{"oci-archive:", Transport::kOciArchive},
    TransportRow{"docker-archive:", Transport::kDockerArchive},
};

constexpr std::string_view kForms =
    "use oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME[:TAG]]";

// Limit: PATH_MAX for the path and the longest reference registries accept, with room to spare.
constexpr std::size_t kMaxReference = 8192;

std::string_view prefix_of(Transport transport) {
  for (const auto& row : kTransports) {
    if (row.transport == transport) return row.prefix;
  }
  return {};
}

// Transports of other tools: not ours, and no registry names either.
constexpr std::array<std::string_view, 7> kForeignTransports = {
    "docker-daemon:", "containers-storage:", "dir:", "ostree:", "sif:", "tarball:", "atomic:"};

tl::unexpected<Error> no_transport(std::string_view text, PathProbe probe) {
  for (const auto prefix : kForeignTransports) {
    if (!text.starts_with(prefix)) continue;
    return fail(Code::kUnsupported, "the transport of \"" + printable(text) + "\" is not supported",
                std::string(kForms));
  }
  if (probe(std::string(text))) {
    return fail(
        Code::kInvalidArgument,
        "\"" + printable(text) + "\" exists here, but what kind of image it is must be said",
        std::string(kForms));
  }
  return fail(Code::kUnsupported,
              "\"" + printable(text) + "\" names an image of a registry, not one that lies here",
              std::string(kForms));
}

// Where the path ends: at the end of the text or at a colon.
std::size_t split_path(std::string_view rest, PathProbe probe) {
  auto end = rest.size();
  while (true) {
    if (probe(std::string(rest.substr(0, end)))) return end;
    const auto colon = end == 0 ? std::string_view::npos : rest.rfind(':', end - 1);
    if (colon == std::string_view::npos || colon == 0) break;
    end = colon;
  }
  const auto first = rest.find(':');
  return first == std::string_view::npos ? rest.size() : first;
}

}  // namespace

bool path_exists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0;
}

std::string ImageReference::text() const {
  std::string out(prefix_of(transport));
  out += path;
  if (!tag.empty()) out += ":" + tag;
  return out;
}

bool is_local_reference(std::string_view text) {
  const auto begins = [&](std::string_view prefix) { return text.starts_with(prefix); };
  return std::any_of(kForeignTransports.begin(), kForeignTransports.end(), begins) ||
         std::any_of(kTransports.begin(), kTransports.end(),
                     [&](const TransportRow& row) { return begins(row.prefix); }) ||
         begins("/") || begins("./") || begins("../");
}

Result<ImageReference> parse_reference(std::string_view text, PathProbe probe) {
  if (text.empty())
    return fail(Code::kInvalidArgument, "the image reference is empty", std::string(kForms));
  if (text.size() > kMaxReference || text.find('\0') != std::string_view::npos) {
    return fail(Code::kInvalidArgument,
                "the image reference \"" + printable(text, 40) + "\" is not valid",
                std::string(kForms));
  }
  for (const auto& row : kTransports) {
    if (!text.starts_with(row.prefix)) continue;
    const auto rest = text.substr(row.prefix.size());
    const auto end = split_path(rest, probe);
    ImageReference reference{row.transport, std::string(rest.substr(0, end)),
                             end < rest.size() ? std::string(rest.substr(end + 1)) : std::string()};
    if (reference.path.empty()) {
      return fail(Code::kInvalidArgument, "\"" + printable(text) + "\" names no path",
                  std::string(kForms));
    }
    if (end < rest.size() && reference.tag.empty()) {
      return fail(Code::kInvalidArgument, "\"" + printable(text) + "\" ends in an empty tag",
                  std::string(kForms));
    }
    return reference;
  }
  return no_transport(text, probe);
}

}  // namespace sm
