// `top`: what runs in a VM, as the agent sees it.
#include <algorithm>
#include <array>
#include <string_view>

#include "cli/vm_command.h"
#include "cli/vm_commands.h"
#include "oci/text.h"

namespace sm {

namespace {

// The agent's name of a column, and what `ps` also calls it. The agent has no others.
struct Column {
  std::string_view name;
  std::array<std::string_view, 3> aliases;
};
constexpr Column kColumns[] = {
    {"user", {"euser", "uname", ""}},
    {"uid", {"euid", "", ""}},
    {"pid", {"", "", ""}},
    {"ppid", {"", "", ""}},
    {"pgid", {"pgrp", "", ""}},
    {"sid", {"sess", "session", ""}},
    {"nice", {"ni", "", ""}},
    {"nlwp", {"thcount", "", ""}},
    {"c", {"", "", ""}},
    {"pcpu", {"%cpu", "", ""}},
    {"pmem", {"%mem", "", ""}},
    {"vsz", {"vsize", "", ""}},
    {"rss", {"rssize", "rsz", ""}},
    {"state", {"s", "", ""}},
    {"stat", {"", "", ""}},
    {"tty", {"tt", "tname", ""}},
    {"stime", {"start", "start_time", ""}},
    {"etime", {"", "", ""}},
    {"time", {"cputime", "", ""}},
    {"comm", {"ucmd", "ucomm", ""}},
    {"args", {"command", "", ""}},
    {"cmd", {"", "", ""}},
};

using Columns = std::vector<std::string>;

const Columns kFull = {"uname", "pid", "ppid", "c", "stime", "tty", "time", "cmd"};
const Columns kFullLong = {"uname", "pid", "ppid", "c", "nlwp", "stime", "tty", "time", "cmd"};
const Columns kUser = {"user", "pid",  "pcpu",  "pmem", "vsz", "rss",
                       "tty",  "stat", "stime", "time", "args"};
const Columns kShort = {"pid", "tty", "time", "comm"};

Status add_columns(Columns& out, std::string_view list) {
  for (std::size_t at = 0; at <= list.size();) {
    const auto end = std::min(list.find_first_of(", ", at), list.size());
    const auto word = list.substr(at, end - at);
    at = end + 1;
    if (word.empty()) continue;
    const auto* const found =
        std::find_if(std::begin(kColumns), std::end(kColumns), [&](const Column& column) {
          return column.name == word ||
                 std::count(column.aliases.begin(), column.aliases.end(), word) > 0;
        });
    if (found != std::end(kColumns)) {
      out.emplace_back(found->name);
      continue;
    }
    std::string names;
    for (const Column& column : kColumns) names += " " + std::string(column.name);
    return fail(Code::kInvalidArgument, "there is no column '" + printable(word) + "'",
                "these there are:" + names);
  }
  return {};
}

tl::unexpected<Error> unknown(const std::string& word) {
  return fail(Code::kUnsupported, "the option '" + printable(word) + "' of ps is not supported",
              "give columns by -o, such as -o pid,args, or -ef, -e, aux; or run the image's own: "
              "supermachine exec VM ps");
}

// The options of `ps` that people give: all processes are shown whatever they select.
Result<Columns> columns_of(const std::vector<std::string>& words) {
  Columns own, preset = kFull;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "aux" || word == "-aux" || word == "ax" || word == "axu" || word == "u") {
      preset = kUser;
      continue;
    }
    if (word.starts_with("--format=")) {
      SM_TRY_STATUS(add_columns(own, std::string_view(word).substr(9)));
      continue;
    }
    if (word.empty() || word[0] != '-') {  // as podman has it
      SM_TRY_STATUS(add_columns(own, word));
      continue;
    }
    const auto o = std::min(word.find('o'), word.size());
    const std::string_view letters = std::string_view(word).substr(1, o - 1);
    if (word.size() < 2 || letters.find_first_not_of("eAfFwL") != std::string_view::npos) {
      return unknown(word);
    }
    const bool full = letters.find_first_of("fF") != std::string_view::npos;
    if (!letters.empty()) preset = full ? kFull : kShort;
    if (full && letters.find('L') != std::string_view::npos) preset = kFullLong;
    if (o == word.size()) continue;
    if (o + 1 < word.size()) {
      SM_TRY_STATUS(add_columns(own, std::string_view(word).substr(o + 1)));
    } else if (++i < words.size()) {
      SM_TRY_STATUS(add_columns(own, words[i]));
    } else {
      return fail(Code::kInvalidArgument, "-o goes with columns", "such as -o pid,args");
    }
  }
  return own.empty() ? preset : own;
}

Result<int> top(std::vector<std::string> words) {
  const auto registry = SM_TRY(VmRegistry::open());
  const VmRecord vm = SM_TRY(registry.find(words[0]));
  words.erase(words.begin());
  auto program = SM_TRY(columns_of(words));
  program.insert(program.begin(), "processes");
  return run_agent_program(vm, std::move(program), /*input=*/false);
}

}  // namespace

void add_top(Command& app, Action& chosen) {
  Command* command = app.add_subcommand(
      "top", "Show what runs in a VM: top VM [-ef | -e | aux | -o COLUMN,... | COLUMN...]");
  command->footer(
      "The image needs no `ps`. Columns are those of ps: user uid pid ppid pgid sid nice nlwp c "
      "pcpu pmem vsz rss state stat tty stime etime time comm args cmd.");
  set_program_action(*command, chosen, [](auto words) { return top(std::move(words)); });
}

}  // namespace sm
