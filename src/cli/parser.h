// The command line's option table and its parser. Help, completion, manuals and the
// reference are made from the table.
//
// Commands and options live as long as the root. One thread.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace sm {

class Command;

// What a value is made of; false: it does not fit.
using ValueSetter = std::function<bool(const std::string& value)>;

class Option {
 public:
  // What help calls the value, such as "FILE".
  Option* type_name(std::string name);
  // Help shows what the variable holds now as the default.
  Option* capture_default_str();
  Option* required();
  // All other values are refused. Completion offers them.
  Option* choices(std::vector<std::string> values);
  // Whole numbers outside are refused.
  Option* range(std::uint64_t least, std::uint64_t most);
  // Names without their dashes. A positional argument has none of either, but a type name.
  const std::vector<std::string>& get_lnames() const { return longs_; }
  const std::vector<std::string>& get_snames() const { return shorts_; }
  const std::string& get_description() const { return text_; }
  const std::string& get_type_name() const { return type_; }
  const std::string& default_text() const { return default_; }
  const std::vector<std::string>& choices() const { return choices_; }
  bool takes_value() const { return takes_value_; }
  bool repeats() const { return repeats_; }  // each occurrence gives one more value
  bool is_required() const { return required_; }
  bool positional() const { return longs_.empty() && shorts_.empty(); }

  // What the user typed: how often, and which values ("true" or "false" of a flag).
  std::size_t count() const { return results_.size(); }
  const std::vector<std::string>& results() const { return results_; }

 private:
  friend class Command;
  Option() = default;

  std::vector<std::string> longs_, shorts_;
  std::string text_, type_, default_, current_;
  std::vector<std::string> choices_;
  std::optional<std::pair<std::uint64_t, std::uint64_t>> range_;
  bool takes_value_ = false;
  bool repeats_ = false;
  bool required_ = false;
  ValueSetter set_;
  std::vector<std::string> results_;
};

// An option of Docker's that does not exist here, and what to say about it.
struct RefusedOption {
  std::string_view names;   // "-v,--volume"
  std::string_view reason;  // "", or a sentence that follows "Docker's --volume is not supported: "
  std::string_view remedy;
};

struct Example {
  std::string line;  // a command for the shell
  std::string text;  // what it does
};

class Command {
 public:
  // The root.
  Command(std::string name, std::string text);
  ~Command() = default;
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;
  Command(Command&&) = delete;
  Command& operator=(Command&&) = delete;

  // ---- What commands say about themselves ----

  // `text` is "What it does", or "What it does: NAME [OPTIONS] ARGUMENT..." with its own name.
  Command* add_subcommand(const std::string& name, const std::string& text);

  Option* add_option(const std::string& names, std::string& to, const std::string& text = {});
  Option* add_option(const std::string& names, std::vector<std::string>& to,
                     const std::string& text = {});
  template <std::integral Number>
  Option* add_option(const std::string& names, Number& to, const std::string& text = {}) {
    auto* option = add_value(
        names, [&to](const std::string& v) { return read(v, to); }, text);
    set_current(*option, std::to_string(to));
    return option;
  }
  template <typename Value>
  Option* add_option(const std::string& names, std::optional<Value>& to,
                     const std::string& text = {}) {
    return add_value(
        names,
        [&to](const std::string& v) {
          Value value{};
          if (!read(v, value)) return false;
          to = std::move(value);
          return true;
        },
        text);
  }
  // "--no-thing{false}" makes it false.
  Option* add_flag(const std::string& names, bool& to, const std::string& text = {});
  // Instead of -h,--help.
  void set_help_flag(const std::string& names, const std::string& text);

  // Text below the options, in paragraphs.
  void footer(std::string text) { footer_ = std::move(text); }
  Command* example(std::string line, std::string text = {});
  // Not in help, completion and manuals.
  Command* hide();
  // Options of Docker's that are refused by name.
  void refuse(const std::vector<RefusedOption>& options);

  // Options may stand anywhere; words that belong to none are in remaining(), a "--" among them.
  void allow_extras() { extras_ = true; }
  // The first word that belongs to no option ends the options; it and all others are in
  // remaining(), from a "--" on if one stood before them.
  void prefix_command() { extras_ = prefix_ = true; }
  // Has commands of its own; one of them must be given.
  void require_subcommand(int) {}
  // Called when the command was parsed.
  void callback(std::function<void()> done) { done_ = std::move(done); }

  // ---- The table ----

  const std::string& get_name() const { return name_; }
  // "supermachine image ls"
  std::string path() const;
  std::string summary() const;
  // "[OPTIONS] NAME|ID..."
  std::string usage() const;
  const std::string& get_footer() const { return footer_; }
  const std::vector<Example>& examples() const { return examples_; }
  const std::vector<RefusedOption>& refused() const { return refused_; }
  bool hidden() const { return hidden_; }
  bool is_group() const { return !commands_.empty(); }
  bool ends_options_early() const { return prefix_; }
  const Command* parent() const { return parent_; }
  // In the order of their addition, hidden ones among them.
  std::vector<Command*> get_subcommands() const;
  // nullptr: there is none of that name.
  Command* find(std::string_view name) const;
  std::vector<Option*> get_options() const;
  // The name with its dashes; nullptr: there is no such option. For help there is none in the
  // table.
  Option* find_option(std::string_view name) const;
  // "-h,--help" or "--help"
  const std::string& help_names() const { return help_names_; }

  // ---- Parsing ----

  // The root's. `words` are those after the program's name. kInvalidArgument, kUnsupported. Calls
  // the callback of the command that was asked for, which is returned; instead of that sets `help`
  // when the user asked for it.
  Result<Command*> parse(const std::vector<std::string>& words, bool& help);
  // The command that words name, as far as they go.
  Command* named_by(const std::vector<std::string>& words);
  // After parse().
  const std::vector<std::string>& remaining() const { return remaining_; }

 private:
  Command(std::string name, std::string text, Command* parent);

  static bool read(const std::string& text, std::string& to) {
    to = text;
    return true;
  }
  template <std::integral Number>
  static bool read(const std::string& text, Number& to) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), to);
    return error == std::errc() && end == text.data() + text.size();
  }
  Option* add_value(const std::string& names, ValueSetter set, const std::string& text);
  static void set_current(Option& option, std::string value) { option.current_ = std::move(value); }

  using Words = std::vector<std::string>;
  Status parse_options(const Words& words, std::size_t at, bool& help);
  Status parse_long(const Words& words, std::size_t& at, bool& help);
  Status parse_short(const Words& words, std::size_t& at, bool& help);
  Status take(Option& option, const std::string& name, const std::string& value);
  Status place_words();
  bool is_help(std::string_view name) const;
  Error unknown_option(const std::string& name) const;
  Error unknown_command(const std::string& word) const;
  std::string see_help() const;

  std::string name_, text_, footer_, help_names_ = "-h,--help";
  Command* parent_ = nullptr;
  std::vector<std::unique_ptr<Command>> commands_;
  std::vector<std::unique_ptr<Option>> options_;
  std::vector<Example> examples_;
  std::vector<RefusedOption> refused_;
  std::function<void()> done_;
  std::vector<std::string> remaining_;
  bool hidden_ = false;
  bool extras_ = false;
  bool prefix_ = false;
};

}  // namespace sm
