#include "init/console.h"

#include <unistd.h>

#include <string>

namespace sm::guest {

void console_line(std::string_view text) {
  std::string line = "supermachine-init: ";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    line += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  line += '\n';
  // The console is the last resort: there is nobody to tell about a failed write.
  if (::write(STDERR_FILENO, line.data(), line.size()) < 0) return;
}

}  // namespace sm::guest
