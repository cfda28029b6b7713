#include "cli/parser.h"

#include <algorithm>

#include "cli/suggest.h"
#include "oci/text.h"

namespace sm {

namespace {

std::vector<std::string> split_names(const std::string& names) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at <= names.size();) {
    const auto comma = std::min(names.find(',', at), names.size());
    out.push_back(names.substr(at, comma - at));
    at = comma + 1;
  }
  return out;
}

std::optional<bool> truth(const std::string& text) {
  if (text == "true" || text == "1" || text == "yes" || text == "on") return true;
  if (text == "false" || text == "0" || text == "no" || text == "off") return false;
  return std::nullopt;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out += i + 1 == words.size() ? " or " : ", ";
    out += words[i];
  }
  return out;
}

bool is_within(const std::string& text, std::uint64_t least, std::uint64_t most) {
  std::uint64_t value = 0;
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  return error == std::errc() && end == last && value >= least && value <= most;
}

bool is_option(const std::string& word) { return word.size() > 1 && word[0] == '-'; }

}  // namespace

// ---- The table ---------------------------------------------------------------------------------

Option* Option::type_name(std::string name) {
  type_ = std::move(name);
  return this;
}

Option* Option::capture_default_str() {
  default_ = current_;
  return this;
}

Option* Option::required() {
  required_ = true;
  return this;
}

Option* Option::choices(std::vector<std::string> values) {
  choices_ = std::move(values);
  return this;
}

Option* Option::range(std::uint64_t least, std::uint64_t most) {
  range_ = {least, most};
  return this;
}

Command::Command(std::string name, std::string text)
    : Command(std::move(name), std::move(text), nullptr) {}

Command::Command(std::string name, std::string text, Command* parent)
    : name_(std::move(name)), text_(std::move(text)), parent_(parent) {}

Command* Command::add_subcommand(const std::string& name, const std::string& text) {
  commands_.push_back(std::unique_ptr<Command>(new Command(name, text, this)));
  return commands_.back().get();
}

Option* Command::add_value(const std::string& names, ValueSetter set, const std::string& text) {
  auto option = std::unique_ptr<Option>(new Option());
  for (const auto& name : split_names(names)) {
    if (name.starts_with("--")) {
      option->longs_.push_back(name.substr(2));
    } else if (name.starts_with("-")) {
      option->shorts_.push_back(name.substr(1));
    } else {
      option->type_ = name;
    }
  }
  if (option->type_.empty()) option->type_ = "TEXT";
  option->text_ = text;
  option->takes_value_ = true;
  option->set_ = std::move(set);
  options_.push_back(std::move(option));
  return options_.back().get();
}

Option* Command::add_option(const std::string& names, std::string& to, const std::string& text) {
  auto* option = add_value(
      names, [&to](const std::string& v) { return read(v, to); }, text);
  option->current_ = to;
  return option;
}

Option* Command::add_option(const std::string& names, std::vector<std::string>& to,
                            const std::string& text) {
  auto* option = add_value(
      names,
      [&to](const std::string& v) {
        to.push_back(v);
        return true;
      },
      text);
  option->repeats_ = true;
  return option;
}

Option* Command::add_flag(const std::string& names, bool& to, const std::string& text) {
  constexpr std::string_view kNegative = "{false}";
  const bool negative = names.ends_with(kNegative);
  auto* option = add_value(
      negative ? names.substr(0, names.size() - kNegative.size()) : names,
      [&to, negative](const std::string& v) {
        const auto value = truth(v);
        if (value) to = *value != negative;
        return value.has_value();
      },
      text);
  option->takes_value_ = false;
  return option;
}

void Command::set_help_flag(const std::string& names, const std::string&) { help_names_ = names; }

Command* Command::example(std::string line, std::string text) {
  examples_.push_back({std::move(line), std::move(text)});
  return this;
}

Command* Command::hide() {
  hidden_ = true;
  return this;
}

void Command::refuse(const std::vector<RefusedOption>& options) {
  refused_.insert(refused_.end(), options.begin(), options.end());
}

std::string Command::path() const {
  return parent_ == nullptr ? name_ : parent_->path() + " " + name_;
}

std::string Command::summary() const {
  const auto usage_at = text_.find(": " + name_ + " ");
  return usage_at == std::string::npos ? text_ : text_.substr(0, usage_at);
}

std::string Command::usage() const {
  if (is_group()) return "COMMAND";
  const auto usage_at = text_.find(": " + name_ + " ");
  std::string out = usage_at == std::string::npos ? "" : text_.substr(usage_at + name_.size() + 3);
  if (out.find("[OPTIONS]") == std::string::npos)
    out = out.empty() ? "[OPTIONS]" : "[OPTIONS] " + out;
  return out;
}

std::vector<Command*> Command::get_subcommands() const {
  std::vector<Command*> out;
  for (const auto& command : commands_) out.push_back(command.get());
  return out;
}

Command* Command::find(std::string_view name) const {
  for (const auto& command : commands_) {
    if (command->name_ == name) return command.get();
  }
  return nullptr;
}

std::vector<Option*> Command::get_options() const {
  std::vector<Option*> out;
  for (const auto& option : options_) out.push_back(option.get());
  return out;
}

Option* Command::find_option(std::string_view name) const {
  const bool is_long = name.starts_with("--");
  if (!is_long && !name.starts_with("-")) return nullptr;
  name.remove_prefix(is_long ? 2 : 1);
  for (const auto& option : options_) {
    const auto& names = is_long ? option->longs_ : option->shorts_;
    if (std::find(names.begin(), names.end(), name) != names.end()) return option.get();
  }
  return nullptr;
}

Command* Command::named_by(const std::vector<std::string>& words) {
  Command* at = this;
  for (const auto& word : words) {
    Command* next = at->find(word);
    if (next == nullptr) break;
    at = next;
  }
  return at;
}

// ---- Errors ------------------------------------------------------------------------------------

std::string Command::see_help() const { return "see `" + path() + " --help`"; }

Error Command::unknown_option(const std::string& name) const {
  for (const RefusedOption& refused : refused_) {
    const auto names = split_names(std::string(refused.names));
    if (std::find(names.begin(), names.end(), name) == names.end()) continue;
    std::string cause = "Docker's " + name + " is not supported by `" + name_ + "`";
    if (!refused.reason.empty()) cause += ": " + std::string(refused.reason);
    return Error(Code::kUnsupported, cause,
                 refused.remedy.empty() ? see_help() : std::string(refused.remedy));
  }
  std::vector<std::string> known = {"--help"};
  for (const auto& option : options_) {
    for (const auto& long_name : option->longs_) known.push_back("--" + long_name);
  }
  const auto meant = name.starts_with("--") ? nearest_word(name, known) : std::string();
  std::string remedy = see_help();
  if (prefix_)
    remedy += "; options stand before the " + std::string(name_ == "run" ? "image" : "other words");
  return Error(Code::kInvalidArgument, "unknown option " + printable(name),
               meant.empty() ? remedy : "did you mean " + meant + "? Else " + remedy);
}

Error Command::unknown_command(const std::string& word) const {
  std::vector<std::string> known;
  for (const auto& command : commands_) {
    if (!command->hidden_) known.push_back(command->name_);
  }
  const auto meant = nearest_word(word, known);
  const auto place = parent_ == nullptr ? std::string() : " in `" + path() + "`";
  return Error(Code::kInvalidArgument, "there is no command '" + printable(word) + "'" + place,
               meant.empty() ? see_help()
                             : "did you mean `" + path() + " " + meant + "`? Else " + see_help());
}

// ---- Parsing -----------------------------------------------------------------------------------

bool Command::is_help(std::string_view name) const {
  const auto names = split_names(help_names_);
  return std::find(names.begin(), names.end(), name) != names.end();
}

Status Command::take(Option& option, const std::string& name, const std::string& value) {
  const auto& choices = option.choices_;
  if (!choices.empty() && std::find(choices.begin(), choices.end(), value) == choices.end()) {
    return fail(Code::kInvalidArgument,
                name + " " + printable(value) + ": there is no such " + option.type_,
                "use " + joined(choices));
  }
  if (option.range_ && !is_within(value, option.range_->first, option.range_->second)) {
    return fail(Code::kInvalidArgument, name + " " + printable(value) + " is not usable",
                "use a number from " + std::to_string(option.range_->first) + " to " +
                    std::to_string(option.range_->second));
  }
  if (!option.set_(value)) {
    return fail(Code::kInvalidArgument,
                name + " " + printable(value) + " is not usable: it takes " +
                    (option.takes_value_ ? option.type_ : "true or false"),
                see_help());
  }
  option.results_.push_back(value);
  return {};
}

Status Command::parse_long(const Words& words, std::size_t& at, bool& help) {
  const std::string& word = words[at];
  const auto equals = word.find('=');
  const std::string name = word.substr(0, equals);
  if (is_help(name) && equals == std::string::npos) {
    help = true;
    return {};
  }
  Option* option = find_option(name);
  if (option == nullptr) return fail(unknown_option(name));
  if (equals != std::string::npos) return take(*option, name, word.substr(equals + 1));
  if (!option->takes_value_) return take(*option, name, "true");
  if (at + 1 == words.size()) {
    return fail(Code::kInvalidArgument, name + " needs a value: " + option->type_, see_help());
  }
  return take(*option, name, words[++at]);
}

Status Command::parse_short(const Words& words, std::size_t& at, bool& help) {
  const std::string word = words[at];
  for (std::size_t i = 1; i < word.size(); ++i) {
    const std::string name = {'-', word[i]};
    if (is_help(name)) {
      help = true;
      return {};
    }
    Option* option = find_option(name);
    if (option == nullptr) return fail(unknown_option(name));
    if (!option->takes_value_) {
      SM_TRY_STATUS(take(*option, name, "true"));
      continue;
    }
    // The rest of the word, or the next one. Docker takes "-m=1g", too.
    if (i + 1 < word.size())
      return take(*option, name, word.substr(word[i + 1] == '=' ? i + 2 : i + 1));
    if (at + 1 == words.size()) {
      return fail(Code::kInvalidArgument, name + " needs a value: " + option->type_, see_help());
    }
    return take(*option, name, words[++at]);
  }
  return {};
}

Status Command::place_words() {
  // Positional arguments of the table, in their order; a repeating one takes the rest.
  for (const auto& option : options_) {
    if (!option->positional()) continue;
    while (!remaining_.empty()) {
      const std::string word = remaining_.front();
      remaining_.erase(remaining_.begin());
      if (word == "--") continue;
      SM_TRY_STATUS(take(*option, option->type_, word));
      if (!option->repeats_) break;
    }
  }
  for (const auto& option : options_) {
    if (!option->required_ || option->count() > 0) continue;
    const auto name = option->positional()     ? option->type_
                      : option->longs_.empty() ? "-" + option->shorts_[0]
                                               : "--" + option->longs_[0];
    return fail(Code::kInvalidArgument, "too few arguments: " + name + " is missing", see_help());
  }
  if (extras_ || remaining_.empty()) return {};
  return fail(Code::kInvalidArgument, "too many arguments: '" + printable(remaining_[0]) + "'",
              see_help());
}

Status Command::parse_options(const Words& words, std::size_t at, bool& help) {
  const auto from = [&](std::size_t i) { return words.begin() + static_cast<std::ptrdiff_t>(i); };
  for (; at < words.size(); ++at) {
    const std::string& word = words[at];
    if (word == "--" || (prefix_ && !is_option(word))) {
      remaining_.insert(remaining_.end(), from(at), words.end());
      break;
    }
    if (!is_option(word)) {
      remaining_.push_back(word);
      continue;
    }
    SM_TRY_STATUS(word.starts_with("--") ? parse_long(words, at, help)
                                         : parse_short(words, at, help));
    if (help) return {};
  }
  return place_words();
}

Result<Command*> Command::parse(const std::vector<std::string>& words, bool& help) {
  Command* leaf = this;
  std::size_t at = 0;
  while (leaf->is_group()) {
    if (at == words.size()) {
      return fail(Code::kInvalidArgument, "no command given", leaf->see_help());
    }
    if (is_option(words[at])) {
      SM_TRY_STATUS(leaf->parse_options({words[at]}, 0, help));
      if (help) return leaf;
      ++at;
      continue;
    }
    Command* next = leaf->find(words[at]);
    if (next == nullptr) return fail(leaf->unknown_command(words[at]));
    leaf = next;
    ++at;
  }
  SM_TRY_STATUS(leaf->parse_options(words, at, help));
  if (!help && leaf->done_) leaf->done_();
  return leaf;
}

}  // namespace sm
