#include "cli/help.h"

#include <fmt/format.h>

namespace sm {

namespace {

constexpr std::size_t kTitle = 30;  // columns of an option's names
constexpr std::size_t kLine = 100;  // columns of a line

// Breaks `text` at blanks; all lines but the first begin at column `indent`.
std::string wrapped(const std::string& text, std::size_t indent) {
  std::string out, line;
  std::size_t at = 0;
  while (at < text.size()) {
    const auto blank = std::min(text.find(' ', at), text.size());
    const auto word = text.substr(at, blank - at);
    if (!line.empty() && indent + line.size() + 1 + word.size() > kLine) {
      out += line + "\n" + std::string(indent, ' ');
      line.clear();
    }
    if (!line.empty()) line += ' ';
    line += word;
    at = blank + 1;
  }
  return out + line;
}

std::string row(const std::string& title, const std::string& text) {
  std::string out = "  " + title;
  if (out.size() + 1 > kTitle + 2) {
    out += "\n" + std::string(kTitle + 2, ' ');
  } else {
    out.resize(kTitle + 2, ' ');
  }
  return out + wrapped(text, kTitle + 2) + "\n";
}

std::string spaced(const std::string& names) {
  const auto comma = names.find(',');
  return comma == std::string::npos ? "    " + names
                                    : names.substr(0, comma) + ", " + names.substr(comma + 1);
}

}  // namespace

std::string option_title(const Option& option) {
  std::string out;
  for (const auto& name : option.get_snames()) out += (out.empty() ? "-" : ", -") + name;
  for (const auto& name : option.get_lnames()) out += (out.empty() ? "--" : ", --") + name;
  if (!option.takes_value()) return out;
  return out + (out.empty() ? "" : " ") + option.get_type_name() +
         (option.positional() && option.repeats() ? "..." : "");
}

std::string option_text(const Option& option) {
  std::string out = option.get_description();
  if (!option.default_text().empty()) out += " (default: " + option.default_text() + ")";
  if (option.repeats() && !option.positional()) out += " (may be given several times)";
  return out;
}

std::vector<const Command*> shown_commands(const Command& command) {
  std::vector<const Command*> out;
  for (const Command* child : command.get_subcommands()) {
    if (!child->hidden()) out.push_back(child);
  }
  return out;
}

std::vector<Example> shown_examples(const Command& command) {
  if (!command.is_group() || !command.examples().empty()) return command.examples();
  std::vector<Example> out;
  for (const Command* child : shown_commands(command)) {
    const auto examples = shown_examples(*child);
    if (!examples.empty()) out.push_back(examples.front());
  }
  return out;
}

std::string help_text(const Command& command) {
  std::string out =
      command.summary() + "\n\nUsage: " + command.path() + " " + command.usage() + "\n";
  if (command.is_group()) {
    out += "\nCommands:\n";
    for (const Command* child : shown_commands(command))
      out += row(child->get_name(), child->summary());
  }
  out += "\nOptions:\n";
  for (const Option* option : command.get_options()) {
    const bool only_long = option->get_snames().empty() && !option->positional();
    out += row((only_long ? "    " : "") + option_title(*option), option_text(*option));
  }
  out += row(spaced(command.help_names()), "Print this help and exit");
  if (!command.get_footer().empty()) {
    out += "\n" + command.get_footer();
    if (!out.ends_with("\n")) out += "\n";
  }
  const auto examples = shown_examples(command);
  if (!examples.empty()) out += "\nExamples:\n";
  for (const Example& example : examples) {
    if (!example.text.empty()) out += "  # " + example.text + "\n";
    out += "  " + example.line + "\n";
  }
  return out;
}

}  // namespace sm
