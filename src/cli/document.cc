#include "cli/document.h"

#include <algorithm>

#include "cli/help.h"

namespace sm {

namespace {

constexpr const char* kDate = "2026-11-27";  // of the manuals; mandoc asks for one

// troff: "-" would become a hyphen that no shell understands, "\" begins a request.
std::string troff(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '-') {
      out += "\\-";
    } else if (c == '\\') {
      out += "\\e";
    } else if (c == '\'' && (out.empty() || out.back() == '\n')) {
      out += "\\(aq";
    } else if (c == '.' && (out.empty() || out.back() == '\n')) {
      out += "\\&.";
    } else if (c == '~') {
      out += "\\(ti";
    } else if (c == '`') {
      out += "\\(ga";
    } else {
      out += c;
    }
  }
  return out;
}

// An argument of a macro.
std::string quoted(const std::string& text) { return "\"" + troff(text) + "\""; }

// Words as they stand, line by line.
std::string verbatim(const std::string& text) {
  return ".nf\n" + troff(text) + (text.ends_with("\n") ? "" : "\n") + ".fi\n";
}

std::string footer_of(const Command& command) {
  std::string out = command.get_footer();
  while (out.ends_with("\n")) out.pop_back();
  return out;
}

std::string help_row(const Command& command) {
  const auto& names = command.help_names();
  const auto comma = names.find(',');
  return comma == std::string::npos ? names
                                    : names.substr(0, comma) + ", " + names.substr(comma + 1);
}

std::string cell(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '|' ? "\\|" : std::string(1, c);
  return out;
}

// "`-m`, `--memory SIZE`"
std::string code_title(const std::string& title) { return "`" + cell(title) + "`"; }

std::string anchor(const Command& command) {
  std::string out = command.path();
  std::replace(out.begin(), out.end(), ' ', '-');
  return out;
}

std::string markdown_section(const Command& command) {
  std::string out = "## " + command.path() + "\n\n" + command.summary() + ".\n\n";
  out += "```\n" + command.path() + " " + command.usage() + "\n```\n\n";
  if (command.is_group()) {
    out += "| command | |\n|---|---|\n";
    for (const Command* child : shown_commands(command)) {
      out += "| [`" + child->get_name() + "`](#" + anchor(*child) + ") | " +
             cell(child->summary()) + " |\n";
    }
    out += "\n";
  }
  out += "| option | |\n|---|---|\n";
  for (const Option* option : command.get_options()) {
    out += "| " + code_title(option_title(*option)) + " | " + cell(option_text(*option)) + " |\n";
  }
  out += "| `" + help_row(command) + "` | Print help and exit |\n";
  if (!command.get_footer().empty()) out += "\n```text\n" + footer_of(command) + "\n```\n";
  if (command.is_group() || command.examples().empty()) return out;
  out += "\nExamples:\n\n```sh\n";
  for (const Example& example : command.examples()) {
    if (!example.text.empty()) out += "# " + example.text + "\n";
    out += example.line + "\n";
  }
  return out + "```\n";
}

}  // namespace

std::vector<const Command*> all_commands(const Command& root) {
  std::vector<const Command*> out = {&root};
  for (const Command* child : shown_commands(root)) {
    const auto below = all_commands(*child);
    out.insert(out.end(), below.begin(), below.end());
  }
  return out;
}

std::string man_name(const Command& command) {
  std::string out = command.path();
  std::replace(out.begin(), out.end(), ' ', '-');
  return out;
}

std::string man_page(const Command& command) {
  std::string out = ".TH " + quoted(man_name(command)) + " 1 \"" + std::string(kDate) + "\" " +
                    quoted("supermachine " SM_VERSION) + "\n";
  out += ".SH NAME\n" + troff(man_name(command)) + " \\- " + troff(command.summary()) + "\n";
  out += ".SH SYNOPSIS\n.B " + troff(command.path()) + "\n" + troff(command.usage()) + "\n";
  if (command.is_group()) {
    out += ".SH COMMANDS\n";
    for (const Command* child : shown_commands(command)) {
      out += ".TP\n.BR " + quoted(man_name(*child)) + " (1)\n" + troff(child->summary()) + "\n";
    }
  }
  out += ".SH OPTIONS\n";
  for (const Option* option : command.get_options()) {
    out += ".TP\n.B " + quoted(option_title(*option)) + "\n" + troff(option_text(*option)) + "\n";
  }
  out += ".TP\n.B " + quoted(help_row(command)) + "\nPrint help and exit\n";
  if (!command.get_footer().empty()) out += ".SH NOTES\n" + verbatim(footer_of(command));
  const auto examples = shown_examples(command);
  if (!examples.empty()) out += ".SH EXAMPLES\n";
  for (const Example& example : examples) {
    if (!example.text.empty())
      out += ".TP\n" + troff(example.text) + "\n";
    else
      out += ".TP\n\\&\n";
    out += ".B " + quoted(example.line) + "\n";
  }
  const Command* above = command.parent();
  if (above != nullptr) out += ".SH SEE ALSO\n.BR " + quoted(man_name(*above)) + " (1)\n";
  return out;
}

std::string markdown_reference(const Command& root) {
  std::string out =
      "# Commands\n\n<!-- Written by `supermachine __document markdown FILE`; change the program "
      "instead. -->\n\n"
      "The exit status of every failure of supermachine itself is 125; that of `run` else the "
      "command's. An error is "
      "two lines on standard\nerror, cause and remedy; with `--format json` it is one line, an "
      "object with `code`, "
      "`cause` and `remedy`, where `code` is one of\n`invalid-argument`, `not-found`, "
      "`permission`, `corrupt`, "
      "`limit`, `unsupported`, `io`, `timeout`, `gone`, `guest`, `internal`.\nColours are for "
      "terminals only, and not "
      "used when `NO_COLOR` is set.\n";
  for (const Command* command : all_commands(root)) out += "\n" + markdown_section(*command);
  return out;
}

}  // namespace sm
