// make_layer TAR FILE: the layer of a tar file as the system keeps it on its guests' disks.
#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <span>

#include "base/file.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/byte_stream.h"
#include "oci/layer_converter.h"

namespace {

sm::Status make_layer(const char* tar, const char* file) {
  auto in = std::make_shared<const sm::UniqueFd>(SM_TRY(sm::open_file(tar, O_RDONLY)));
  struct stat status = {};
  if (::fstat(in->get(), &status) < 0) return sm::fail_errno("cannot look at the tar file", errno);
  sm::FileStream stream(in, {.offset = 0, .length = static_cast<std::uint64_t>(status.st_size)},
                        tar);
  std::array layers{sm::LayerInput{stream, tar}};
  const sm::UniqueFd out = SM_TRY(sm::open_file(file, O_RDWR | O_CREAT | O_TRUNC, 0600));
  SM_TRY(sm::convert_layers(std::span(layers), out.get(), {}));
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: make_layer TAR FILE\n", stderr);
    return 2;
  }
  if (const auto done = make_layer(argv[1], argv[2]); !done) {
    std::fprintf(stderr, "make_layer: %s\n", done.error().text().c_str());
    return 1;
  }
  return 0;
}
