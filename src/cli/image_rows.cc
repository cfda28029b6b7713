#include "cli/image_rows.h"

#include "oci/text.h"

namespace sm {

namespace {

void split_name(const std::string& name, ImageRow& row) {
  row.repository = row.tag = "<none>";
  if (name.empty()) return;
  const auto at = name.find('@');
  const auto colon = name.rfind(':');
  const bool by_digest = at != std::string::npos;
  row.full_repository = name.substr(0, by_digest ? at : colon);
  row.repository = printable(familiar_repository(row.full_repository));
  if (!by_digest) row.tag = printable(name.substr(colon + 1));
}

}  // namespace

std::string short_id(const std::string& id) {
  const auto colon = id.find(':');
  return colon == std::string::npos ? id : id.substr(colon + 1, 12);
}

std::uint64_t image_size(const ImageSource& image) {
  std::uint64_t size = image.config_text().size();
  for (const auto& layer : image.layers()) size += layer.size;
  return size;
}

Result<std::vector<ImageRow>> image_rows(const ImageStore& store) {
  std::vector<ImageRow> out;
  for (const auto& entry : SM_TRY(store.entries())) {
    ImageRow row;
    split_name(entry.name, row);
    row.digest = entry.target.digest.text();
    if (const auto image = store.open_image(entry, std::nullopt)) {
      row.id = image->id().text();
      row.created = printable(image->config().created, 40);
      row.platform = printable(image->config().platform.text(), 60);
      row.size = image_size(*image);
    }
    out.push_back(std::move(row));
  }
  return out;
}

}  // namespace sm
