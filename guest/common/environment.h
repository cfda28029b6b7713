// Environment lists and the PATH lookup. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sm::guest {

using Words = std::vector<std::string>;

inline constexpr std::string_view kDefaultPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// `base` with the entries of `over` on top: a name that exists keeps its place, later ones win.
Words merge_environment(const Words& base, const Words& over);
// The value of a variable in a merged list.
std::optional<std::string_view> find_variable(const Words& env, std::string_view name);
// Appends "name=value" unless the name is there.
void add_default(Words& env, std::string_view name, std::string_view value);

// The paths to try for a program, in order: itself when it has a slash, else PATH's folders.
Words program_candidates(std::string_view program, std::string_view path);

}  // namespace sm::guest
