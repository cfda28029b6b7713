// Every command says what it does and how: a new one without help fails here.
#include <gtest/gtest.h>

#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/docker_flags.h"
#include "cli/document.h"
#include "cli/help.h"

namespace sm {
namespace {

struct Table : testing::Test {
  Command app{"supermachine", "Run images"};
  Action chosen;
  void SetUp() override { add_commands(app, chosen); }

  std::vector<std::string> completed(const std::vector<std::string>& words) {
    const auto list = [](const std::string& what) {
      return what == "IMAGE" || what == "NAME|ID"
                 ? std::vector<std::string>{"busybox:latest", "debian:12"}
                 : std::vector<std::string>();
    };
    std::vector<std::string> out;
    for (const auto& word : complete(app, words, list).words) out.push_back(word.word);
    return out;
  }
};

using Words = std::vector<std::string>;

TEST_F(Table, EveryCommandHasHelpAnExampleAndAManual) {
  for (const Command* command : all_commands(app)) {
    SCOPED_TRACE(command->path());
    EXPECT_FALSE(command->summary().empty());
    EXPECT_EQ(command->summary().find(": " + command->get_name()), std::string::npos);
    EXPECT_FALSE(shown_examples(*command).empty()) << "add one in examples.cc, or with example()";
    for (const auto& example : shown_examples(*command)) {
      EXPECT_NE(example.line.find("supermachine "), std::string::npos) << example.line;
    }
    for (const Option* option : command->get_options())
      EXPECT_FALSE(option->get_description().empty());
    const auto help = help_text(*command);
    EXPECT_NE(help.find("Examples:"), std::string::npos);
    EXPECT_EQ(help.find("Examples:"), help.rfind("Examples:"))
        << "the footer has examples of its own";
    const auto page = man_page(*command);
    for (const char* part : {".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", ".SH EXAMPLES"})
      EXPECT_NE(page.find(part), std::string::npos) << part;
    EXPECT_NE(markdown_reference(app).find("## " + command->path() + "\n"), std::string::npos);
  }
}

TEST_F(Table, RefusedOptionsHaveAReasonAndARemedy) {
  for (const auto& refused : refused_run_options()) {
    EXPECT_FALSE(refused.reason.empty()) << refused.names;
    EXPECT_FALSE(refused.remedy.empty()) << refused.names;
    const std::string name(refused.names.substr(0, refused.names.find(',')));
    if (app.find("run")->find_option(name) != nullptr) continue;  // exists by now
    bool help = false;
    const auto parsed = app.parse({"run", name, "x", "image"}, help);
    ASSERT_FALSE(parsed) << name;
    EXPECT_EQ(parsed.error().code(), Code::kUnsupported) << name;
    EXPECT_NE(parsed.error().cause().find(name), std::string::npos);
  }
}

TEST_F(Table, Completion) {
  EXPECT_EQ(completed({"ru"}), (Words{"run"}));
  EXPECT_EQ(completed({"image", "pru"}), (Words{"prune"}));
  EXPECT_EQ(completed({"run", "--mem"}), (Words{"--memory"}));
  EXPECT_EQ(completed({"run", "--engine", ""}), (Words{"auto", "kvm", "soft"}));
  EXPECT_EQ(completed({"run", "--engine=k"}), (Words{"--engine=kvm"}));
  EXPECT_EQ(completed({"run", "-it", "--pull", "al"}), (Words{"always"}));
  EXPECT_EQ(completed({"run", "-m", "1g", "deb"}), (Words{"debian:12"}));
  EXPECT_EQ(completed({"run", "debian:12", "--mem"}), (Words{}));  // the command's own options
  EXPECT_EQ(completed({"tag", "bus"}), (Words{"busybox:latest"}));
  EXPECT_EQ(completed({"tag", "busybox:latest", ""}), (Words{}));
  EXPECT_EQ(completed({"rmi", "busybox:latest", "d"}), (Words{"debian:12"}));
  EXPECT_EQ(completed({"images", "--format", "j"}), (Words{"json"}));
  EXPECT_EQ(completed({"save", "--format", "o"}), (Words{"oci-archive"}));
  EXPECT_EQ(completed({"completion", "z"}), (Words{"zsh"}));
  EXPECT_EQ(completed({"nonsense", "x"}), (Words{}));
  EXPECT_EQ(complete(app, {"load", "-i", ""}, [](const auto&) { return Words(); }).paths,
            Paths::kFiles);
  for (const auto& word : completed({""})) EXPECT_FALSE(word.starts_with("__")) << word;
}

TEST_F(Table, ScriptsExist) {
  for (const char* shell : {"bash", "zsh", "fish"}) EXPECT_NE(completion_script(shell), "");
  EXPECT_EQ(completion_script("csh"), "");
}

}  // namespace
}  // namespace sm
