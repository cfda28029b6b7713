#include "runtime/worker_report.h"

#include <sys/wait.h>

#include <cctype>

#include "base/file.h"

namespace sm {

namespace {
constexpr std::size_t kLines = 12;
}

std::string last_lines(const std::string& path) {
  auto text = read_file(path, 4u << 20);
  if (!text) return {};
  for (char& c : *text) {
    if (c != '\n' && std::isprint(static_cast<unsigned char>(c)) == 0) c = c == '\r' ? ' ' : '?';
  }
  while (!text->empty() && std::isspace(static_cast<unsigned char>(text->back())) != 0) {
    text->pop_back();
  }
  std::size_t at = text->size();
  for (std::size_t n = 0; n < kLines && at != std::string::npos && at > 0; ++n) {
    at = text->rfind('\n', at - 1);
  }
  return at == std::string::npos || at == 0 ? *text : text->substr(at + 1);
}

Error explain_worker_end(int wait_status, const std::string& worker_log,
                         const std::string& console_log) {
  const std::string console = last_lines(console_log);
  const std::string last_words = console.empty() ? "" : "the guest's console said:\n" + console;
  if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0) {
    return Error(Code::kGone, "the VM was switched off from inside before the command had ended",
                 last_words);
  }
  const std::string how = WIFSIGNALED(wait_status)
                              ? "was killed by signal " + std::to_string(WTERMSIG(wait_status))
                              : "ended with status " + std::to_string(WEXITSTATUS(wait_status));
  const std::string log = last_lines(worker_log);
  return Error(Code::kGone, "the VM's worker process " + how + " before the command had ended",
               (log.empty() ? "" : "it said:\n" + log + "\n") + last_words);
}

}  // namespace sm
