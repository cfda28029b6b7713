#include "common/environment.h"

#include <unordered_map>

namespace sm::guest {

namespace {
std::string_view name_of(std::string_view entry) { return entry.substr(0, entry.find('=')); }
}  // namespace

Words merge_environment(const Words& base, const Words& over) {
  // Each entry is copied once, into its final place: some are secrets, and a copy that is
  // overwritten later would stay in the heap.
  std::vector<const std::string*> chosen;
  std::unordered_map<std::string_view, std::size_t> places;
  for (const Words* list : {&base, &over}) {
    for (const std::string& entry : *list) {
      const auto [at, is_new] = places.try_emplace(name_of(entry), chosen.size());
      if (is_new) {
        chosen.push_back(&entry);
      } else {
        chosen[at->second] = &entry;
      }
    }
  }
  Words merged;
  merged.reserve(chosen.size());
  for (const std::string* entry : chosen) merged.push_back(*entry);
  return merged;
}

std::optional<std::string_view> find_variable(const Words& env, std::string_view name) {
  for (const std::string& entry : env) {
    if (entry.size() > name.size() && entry[name.size()] == '=' && name_of(entry) == name) {
      return std::string_view(entry).substr(name.size() + 1);
    }
  }
  return std::nullopt;
}

void add_default(Words& env, std::string_view name, std::string_view value) {
  if (find_variable(env, name)) return;
  env.push_back(std::string(name) + "=" + std::string(value));
}

Words program_candidates(std::string_view program, std::string_view path) {
  if (program.empty()) return {};
  if (program.find('/') != std::string_view::npos) return {std::string(program)};
  Words candidates;
  for (;;) {
    const auto colon = path.find(':');
    const std::string_view folder = path.substr(0, colon);
    candidates.push_back((folder.empty() ? "." : std::string(folder)) + "/" + std::string(program));
    if (colon == std::string_view::npos) return candidates;
    path.remove_prefix(colon + 1);
  }
}

}  // namespace sm::guest
