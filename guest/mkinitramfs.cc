// Build tool: writes the guest's base initramfs, a newc cpio archive with /init, /agent and a
// console node. The same inputs give the same bytes.
// Usage: mkinitramfs OUT INIT AGENT

#include <sys/stat.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/file.h"

namespace {

struct Entry {
  std::string_view name;
  std::uint32_t mode = 0;
  std::string_view content = {};
  std::uint32_t links = 1;
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
};

class Archive {
 public:
  void add(const Entry& entry) {
    const bool trailer = entry.name == "TRAILER!!!";
    out_ += "070701";
    number(trailer ? 0 : next_inode_++);
    number(entry.mode);
    for (int i = 0; i < 2; ++i) number(0);  // owner
    number(entry.links);
    number(0);  // time
    number(static_cast<std::uint32_t>(entry.content.size()));
    for (int i = 0; i < 2; ++i) number(0);  // device that holds the file
    number(entry.device_major);
    number(entry.device_minor);
    number(static_cast<std::uint32_t>(entry.name.size() + 1));
    number(0);  // no checksum in this format
    out_ += entry.name;
    out_ += '\0';
    pad();
    out_ += entry.content;
    pad();
  }
  const std::string& bytes() const { return out_; }

 private:
  void number(std::uint32_t value) {
    char text[9];
    std::snprintf(text, sizeof(text), "%08x", value);
    out_ += text;
  }
  void pad() { out_.append((4 - out_.size() % 4) % 4, '\0'); }

  std::string out_;
  std::uint32_t next_inode_ = 1;
};

sm::Status write_archive(const char* out, const char* init, const char* agent) {
  constexpr std::size_t kMaxProgram = 64u << 20;
  const std::string init_bytes = SM_TRY(sm::read_file(init, kMaxProgram));
  const std::string agent_bytes = SM_TRY(sm::read_file(agent, kMaxProgram));
  Archive archive;
  archive.add({.name = "dev", .mode = S_IFDIR | 0755, .links = 2});
  archive.add(
      {.name = "dev/console", .mode = S_IFCHR | 0600, .device_major = 5, .device_minor = 1});
  archive.add({.name = "init", .mode = S_IFREG | 0755, .content = init_bytes});
  archive.add({.name = "agent", .mode = S_IFREG | 0755, .content = agent_bytes});
  archive.add({.name = "TRAILER!!!"});
  return sm::write_file_atomic(out, archive.bytes());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("usage: mkinitramfs OUT INIT AGENT\n", stderr);
    return 2;
  }
  if (const auto status = write_archive(argv[1], argv[2], argv[3]); !status) {
    std::fprintf(stderr, "mkinitramfs: %s\n", status.error().text().c_str());
    return 1;
  }
  return 0;
}
