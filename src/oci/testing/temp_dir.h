// TempDir: a folder that vanishes with the object. For tests.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace sm::testing {

class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  // Names of what lies in it, sorted.
  std::vector<std::string> names() const;

 private:
  std::string path_;
};

}  // namespace sm::testing
