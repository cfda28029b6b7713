#include "cli/completion.h"

#include <algorithm>
#include <utility>

#include "cli/help.h"

namespace sm {

namespace {

// Values of options by their type's name, where the option has no choices. First fit counts.
struct TypeValues {
  const char* command;  // nullptr: all
  const char* type;
  std::vector<std::string> values;
};

const std::vector<TypeValues>& type_values() {
  static const std::vector<TypeValues> kValues = {
      {"save", "FORMAT", {"docker-archive", "oci-archive"}},
      {nullptr, "FORMAT", {"json", "table"}},
      {"run", "POLICY", {"missing", "always", "never"}},
      {"create", "POLICY", {"missing", "always", "never"}},
      {nullptr, "OS/ARCH[/VARIANT]", {"linux/amd64", "linux/arm64"}},
  };
  return kValues;
}

void offer(Completions& out, const std::string& typed, std::string word, std::string text = {}) {
  if (word.starts_with(typed)) out.words.push_back({std::move(word), std::move(text)});
}

// "FILE", "[COMMAND...]" -> "FILE", "COMMAND"; the last one that ends with "..." repeats.
std::vector<std::string> placeholders(const std::string& usage, bool& repeats) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < usage.size();) {
    const auto blank = std::min(usage.find(' ', at), usage.size());
    std::string word = usage.substr(at, blank - at);
    at = blank + 1;
    if (word == "[OPTIONS]" || word.empty() || word[0] == '-') continue;
    repeats = word.find("...") != std::string::npos;
    std::erase_if(word, [](char c) { return c == '.'; });
    if (word.starts_with('[')) word = word.substr(1, word.size() - (word.ends_with(']') ? 2 : 1));
    out.push_back(std::move(word));
  }
  return out;
}

void offer_values(Completions& out, const Command& command, const Option& option,
                  const std::string& typed, const std::string& before, const WordLister& list) {
  std::vector<std::string> values = option.choices();
  const auto& type = option.get_type_name();
  for (const auto& known : type_values()) {
    if (!values.empty()) break;
    const bool fits = known.command == nullptr || command.get_name() == known.command;
    if (fits && type == known.type) values = known.values;
  }
  if (values.empty()) values = list(type);
  for (const auto& value : values) {
    if (value.starts_with(typed)) out.words.push_back({before + value, ""});
  }
  if (!values.empty()) return;
  if (type.find("FILE") != std::string::npos) out.paths = Paths::kFiles;
  if (type.find("DIR") != std::string::npos) out.paths = Paths::kFolders;
}

void offer_options(Completions& out, const Command& command, const std::string& typed) {
  for (const Option* option : command.get_options()) {
    for (const auto& name : option->get_lnames())
      offer(out, typed, "--" + name, option_text(*option));
    if (!typed.starts_with("--")) {
      for (const auto& name : option->get_snames())
        offer(out, typed, "-" + name, option_text(*option));
    }
  }
  offer(out, typed, "--help", "Print help and exit");
}

void offer_argument(Completions& out, const Command& command, std::size_t index,
                    const std::string& typed, const WordLister& list) {
  bool repeats = false;
  const auto names = placeholders(command.usage(), repeats);
  if (names.empty() || (index >= names.size() && !repeats)) return;
  const auto& name = names[std::min(index, names.size() - 1)];
  const auto words = list(name);
  for (const auto& word : words) offer(out, typed, word);
  // "bash|zsh|fish" stands for itself.
  const bool literal =
      std::none_of(name.begin(), name.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  for (std::size_t at = 0; literal && at < name.size();) {
    const auto bar = std::min(name.find('|', at), name.size());
    offer(out, typed, name.substr(at, bar - at));
    at = bar + 1;
  }
  if (name.find("FILE") != std::string::npos) out.paths = Paths::kFiles;
}

// What the words before the one being typed mean to a command.
struct Place {
  std::size_t arguments = 0;
  bool options_ended = false;
  const Option* waiting = nullptr;  // the last word is an option that has no value yet
};

// The option that a word leaves without its value.
const Option* waiting_option(const Command& command, const std::string& word) {
  if (word.starts_with("--")) {
    const Option* option = command.find_option(word);
    return option != nullptr && option->takes_value() ? option : nullptr;
  }
  for (std::size_t i = 1; i < word.size(); ++i) {
    const Option* option = command.find_option(std::string{'-', word[i]});
    if (option == nullptr) return nullptr;
    if (option->takes_value()) return i + 1 == word.size() ? option : nullptr;
  }
  return nullptr;
}

void step(Place& place, const Command& command, const std::string& word) {
  if (std::exchange(place.waiting, nullptr) != nullptr) return;
  if (!place.options_ended && word == "--") {
    place.options_ended = true;
  } else if (!place.options_ended && word.size() > 1 && word[0] == '-') {
    place.waiting = waiting_option(command, word);
  } else {
    ++place.arguments;
    place.options_ended = place.options_ended || command.ends_options_early();
  }
}

constexpr const char* kBash = R"(# bash completion for supermachine
_supermachine() {
  local i word kind list prefix="" words=()
  # Bash splits at "=" and ":"; names of images and options hold both.
  for ((i = 1; i <= COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if ((${#words[@]})) && [[ $word == [=:]* || ${words[-1]} == *[=:] ]] && [[ ${COMP_WORDS[i - 1]} != "" ]]; then
      words[-1]+=$word
    else
      words+=("$word")
    fi
  done
  word=${COMP_WORDS[COMP_CWORD]}
  prefix=${words[-1]}
  [[ $word == [=:] ]] || prefix=${prefix%"$word"}
  COMPREPLY=()
  list=$("${COMP_WORDS[0]}" __complete -- "${words[@]}" 2>/dev/null) || return
  kind=${list##*$'\n'}
  while IFS=$'\t' read -r word _; do
    [[ $word == :* ]] || COMPREPLY+=("${word#"$prefix"}")
  done <<<"$list"
  word=${words[-1]#"$prefix"}
  case $kind in
    :files) mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$word"); compopt -o filenames 2>/dev/null ;;
    :folders) mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -d -- "$word"); compopt -o filenames 2>/dev/null ;;
  esac
}
complete -F _supermachine supermachine
)";

constexpr const char* kZsh = R"(#compdef supermachine
# zsh completion for supermachine
_supermachine() {
  local list kind line word text
  local -a found
  list=$("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null) || return 1
  kind=${list##*$'\n'}
  for line in "${(@f)list}"; do
    [[ $line == :* ]] && continue
    word=${line%%$'\t'*}
    text=${line#*$'\t'}
    [[ $text == "$word" ]] && text=""
    found+=("${word//:/\\:}${text:+:$text}")
  done
  (($#found)) && _describe -V 'supermachine' found
  case $kind in
    :files) _files ;;
    :folders) _files -/ ;;
  esac
}
if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then
  _supermachine "$@"
else
  compdef _supermachine supermachine
fi
)";

constexpr const char* kFish = R"(# fish completion for supermachine
function __supermachine_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    set -l list ($program __complete -- $words "$current" 2>/dev/null)
    for line in $list
        if not string match -q ':*' -- $line
            echo $line
        end
    end
    switch "$list[-1]"
        case ':files'
            __fish_complete_path "$current"
        case ':folders'
            __fish_complete_directories "$current" ''
    end
end
complete -c supermachine -f -a '(__supermachine_complete)'
)";

}  // namespace

Completions complete(Command& root, const std::vector<std::string>& words, const WordLister& list) {
  Completions out;
  const std::string typed = words.empty() ? "" : words.back();
  const Command* command = &root;
  Place place;
  for (std::size_t i = 0; i + 1 < words.size(); ++i) {
    if (!command->is_group()) {
      step(place, *command, words[i]);
    } else if (!words[i].starts_with("-")) {
      command = command->find(words[i]);
      if (command == nullptr) return out;
    }
  }
  if (place.waiting != nullptr) {
    offer_values(out, *command, *place.waiting, typed, "", list);
    return out;
  }
  if (!place.options_ended && typed.starts_with("-")) {
    const auto equals = typed.find('=');
    const Option* option =
        equals == std::string::npos ? nullptr : command->find_option(typed.substr(0, equals));
    if (option != nullptr && option->takes_value()) {
      offer_values(out, *command, *option, typed.substr(equals + 1), typed.substr(0, equals + 1),
                   list);
    } else {
      offer_options(out, *command, typed);
    }
    return out;
  }
  for (const Command* child : shown_commands(*command))
    offer(out, typed, child->get_name(), child->summary());
  if (!command->is_group()) offer_argument(out, *command, place.arguments, typed, list);
  return out;
}

std::string completion_script(const std::string& shell) {
  if (shell == "bash") return kBash;
  if (shell == "zsh") return kZsh;
  return shell == "fish" ? kFish : "";
}

}  // namespace sm
