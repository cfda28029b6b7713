// Reading folders.
#include "oci/folder.h"

#include <dirent.h>

#include <memory>

namespace sm {

std::vector<std::string> folder_names(const std::string& path) {
  struct CloseDir {
    void operator()(DIR* dir) const { ::closedir(dir); }
  };
  std::vector<std::string> out;
  const std::unique_ptr<DIR, CloseDir> dir(::opendir(path.c_str()));
  if (!dir) return out;
  while (const auto* entry = ::readdir(dir.get())) {
    std::string name = entry->d_name;
    if (name != "." && name != "..") out.push_back(std::move(name));
  }
  return out;
}

}  // namespace sm
