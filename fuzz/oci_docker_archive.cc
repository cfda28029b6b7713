// Hostile archives: the tar file around an image, its documents and its layers, in both layouts.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/check.h"
#include "base/file.h"
#include "oci/docker_archive.h"
#include "oci/image_source.h"
#include "oci_tar_mutator.h"

namespace {

constexpr std::uint64_t kMaxUnpacked = 1U << 20U;

void read_image(sm::Transport transport, const std::string& path) {
  const auto image = sm::ImageSource::open({transport, path, {}});
  if (!image) {
    SM_CHECK(image.error().code() != sm::Code::kInternal);
    return;
  }
  for (std::size_t i = 0; i < image->layers().size() && i < 16; ++i) {
    auto layer = image->open_layer(i, kMaxUnpacked);
    if (layer) static_cast<void>(sm::drain(**layer).has_value());
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned) {
  return sm::fuzz::mutate_tar(data, size, max_size, 0);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = sm::memory_file("archive", std::as_bytes(std::span(data, size)));
  SM_CHECK(file.has_value());
  const auto path = "/proc/self/fd/" + std::to_string(file->get());
  read_image(sm::Transport::kDockerArchive, path);
  read_image(sm::Transport::kOciArchive, path);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto images = sm::parse_docker_manifest(text)) {
    static_cast<void>(sm::choose_docker_image(*images, "busybox:latest").has_value());
  }
  return 0;
}
