#include "cli/parser.h"

#include <gtest/gtest.h>

#include "cli/help.h"

namespace sm {
namespace {

using Words = std::vector<std::string>;

// A program with one command of each kind.
struct Program {
  Command app{"prog", "A program"};
  bool interactive = false, tty = false, snapshot = true, on = true;
  std::string memory = "512m", entrypoint = "none", engine = "auto";
  std::vector<std::string> env, files;
  std::size_t last = 0;
  std::optional<std::uint32_t> timeout;
  std::uint32_t cpus = 1;
  std::string called;
  bool help = false;

  Program() {
    auto* run = app.add_subcommand("run", "Run it: run [OPTIONS] IMAGE [COMMAND...]");
    run->set_help_flag("--help", "");
    run->add_flag("-i,--interactive", interactive);
    run->add_flag("-t,--tty", tty);
    run->add_flag("--no-snapshot{false}", snapshot);
    run->add_flag("--on", on);
    run->add_option("-m,--memory", memory, "Memory")->type_name("SIZE")->capture_default_str();
    run->add_option("-e,--env", env)->type_name("K=V");
    run->add_option("--entrypoint", entrypoint);
    run->add_option("--engine", engine)->type_name("ENGINE")->choices({"auto", "kvm"});
    run->add_option("-n,--last", last)->type_name("N");
    run->add_option("--timeout", timeout)->type_name("SECONDS");
    run->add_option("--cpus", cpus)->type_name("N")->range(1, 32);
    run->refuse({{"-v,--volume", "there are none", "use none"}});
    run->prefix_command();
    run->callback([this] { called = "run"; });
    auto* group = app.add_subcommand("image", "Images");
    auto* list = group->add_subcommand("ls", "List them");
    list->allow_extras();
    list->add_flag("-t,--tty", tty);
    list->callback([this] { called = "ls"; });
    auto* strict = app.add_subcommand("strict", "Takes files: strict FILE...");
    strict->add_option("FILE", files)->required();
    strict->callback([this] { called = "strict"; });
    app.add_subcommand("version", "None");
  }

  Result<Command*> parse(const Words& words) { return app.parse(words, help); }
  std::string error(const Words& words) {
    const auto parsed = parse(words);
    return parsed ? "" : parsed.error().text();
  }
};

TEST(Parser, NumbersOutsideARangeAreRefused) {
  Program p;
  EXPECT_TRUE(p.parse({"run", "--cpus", "32"}));
  EXPECT_EQ(p.cpus, 32u);
  for (const char* bad : {"0", "33", "-1", "x", "", "2x", "99999999999999999999"}) {
    EXPECT_NE(p.error({"run", "--cpus", bad}).find("from 1 to 32"), std::string::npos) << bad;
  }
}

TEST(Parser, OptionsEndAtTheFirstWord) {
  Program p;
  const auto command =
      p.parse({"run", "-it", "-m", "1g", "--env=A=1=2", "-eB", "image", "-x", "--", "--help"});
  ASSERT_TRUE(command) << command.error().text();
  EXPECT_EQ(p.called, "run");
  EXPECT_TRUE(p.interactive && p.tty);
  EXPECT_EQ(p.memory, "1g");
  EXPECT_EQ(p.env, (Words{"A=1=2", "B"}));
  EXPECT_EQ((*command)->remaining(), (Words{"image", "-x", "--", "--help"}));
}

TEST(Parser, Values) {
  Program p;
  ASSERT_TRUE(p.parse({"run", "-m1g", "-m=2g", "--entrypoint", "", "--last", "3", "--timeout=4",
                       "--no-snapshot", "--on=false", "--engine", "kvm", "-itm", "3g", "x"}));
  EXPECT_EQ(p.memory, "3g");  // the last one counts
  EXPECT_EQ(p.entrypoint, "");
  EXPECT_EQ(p.last, 3U);
  EXPECT_EQ(p.timeout, 4U);
  EXPECT_FALSE(p.snapshot);
  EXPECT_FALSE(p.on);
  EXPECT_EQ(p.engine, "kvm");
  const auto* memory = p.app.find("run")->find_option("-m");
  ASSERT_NE(memory, nullptr);
  EXPECT_EQ(memory->results(), (Words{"1g", "2g", "3g"}));
  EXPECT_EQ(memory->default_text(), "512m");
}

TEST(Parser, ADoubleDashEndsOptions) {
  Program p;
  const auto command = p.parse({"image", "ls", "a", "-t", "--", "-t"});
  ASSERT_TRUE(command);
  EXPECT_EQ((*command)->remaining(), (Words{"a", "--", "-t"}));
  EXPECT_EQ((*command)->path(), "prog image ls");
}

TEST(Parser, PositionalArguments) {
  Program p;
  ASSERT_TRUE(p.parse({"strict", "a", "--", "-b"}));
  EXPECT_EQ(p.files, (Words{"a", "-b"}));
  EXPECT_EQ(Program().error({"strict"}),
            "too few arguments: FILE is missing (see `prog strict --help`)");
  EXPECT_EQ(Program().error({"version", "x"}),
            "too many arguments: 'x' (see `prog version --help`)");
}

TEST(Parser, Help) {
  for (const Words& words : std::vector<Words>{{"--help"},
                                               {"-h"},
                                               {"run", "--help"},
                                               {"image", "--help"},
                                               {"image", "ls", "-th"},
                                               {"strict", "-h"}}) {
    Program p;
    EXPECT_TRUE(p.parse(words));
    EXPECT_TRUE(p.help);
    EXPECT_EQ(p.called, "");
  }
  EXPECT_NE(Program().error({"run", "-h"}), "");  // not help there
}

TEST(Parser, MistakesAreNamed) {
  EXPECT_EQ(Program().error({}), "no command given (see `prog --help`)");
  EXPECT_EQ(Program().error({"rnu"}),
            "there is no command 'rnu' (did you mean `prog run`? Else see `prog --help`)");
  EXPECT_EQ(Program().error({"image", "lss"}),
            "there is no command 'lss' in `prog image` (did you mean `prog image ls`? Else see "
            "`prog image --help`)");
  EXPECT_EQ(Program().error({"image"}), "no command given (see `prog image --help`)");
  EXPECT_NE(Program()
                .error({"run", "--memroy", "1g"})
                .find("unknown option --memroy (did you mean --memory?"),
            std::string::npos);
  EXPECT_NE(Program().error({"run", "--xyzzy=1"}).find("unknown option --xyzzy (see"),
            std::string::npos);
  EXPECT_NE(Program().error({"run", "-ix"}).find("unknown option -x"), std::string::npos);
  EXPECT_NE(Program().error({"run", "-m"}).find("-m needs a value: SIZE"), std::string::npos);
  EXPECT_NE(Program().error({"run", "--memory"}).find("--memory needs a value: SIZE"),
            std::string::npos);
  for (const char* bad : {"x", "", "1x", "-1", "99999999999999999999999999"}) {
    EXPECT_NE(Program().error({"run", "--last", bad}).find("is not usable: it takes N"),
              std::string::npos)
        << bad;
  }
  EXPECT_NE(Program().error({"run", "--on=perhaps"}).find("it takes true or false"),
            std::string::npos);
  EXPECT_EQ(Program().error({"run", "--engine", "steam"}),
            "--engine steam: there is no such ENGINE (use auto or kvm)");
  EXPECT_NE(Program().error({"--nothing"}), "");
}

TEST(Parser, DockersOptionsAreRefusedByName) {
  for (const Words& words :
       std::vector<Words>{{"run", "-v", "a:b"}, {"run", "-va:b"}, {"run", "-iv", "a:b"}}) {
    EXPECT_EQ(Program().error(words),
              "Docker's -v is not supported by `run`: there are none (use none)");
  }
  Program p;
  const auto parsed = p.parse({"run", "--volume=a:b", "image"});
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code(), Code::kUnsupported);
}

TEST(Parser, UsageStandsInTheText) {
  Program p;
  EXPECT_EQ(p.app.find("run")->summary(), "Run it");
  EXPECT_EQ(p.app.find("run")->usage(), "[OPTIONS] IMAGE [COMMAND...]");
  EXPECT_EQ(p.app.find("image")->usage(), "COMMAND");
  EXPECT_EQ(p.app.find("version")->usage(), "[OPTIONS]");
  EXPECT_EQ(p.app.find("strict")->usage(), "[OPTIONS] FILE...");
}

TEST(Help, ShowsTheTable) {
  Program p;
  p.app.find("run")->example("prog run x", "runs x");
  p.app.find("run")->footer("About it.");
  const auto text = help_text(*p.app.find("run"));
  for (const char* part :
       {"Run it\n", "Usage: prog run [OPTIONS] IMAGE", "-m, --memory SIZE", "(default: 512m)",
        "      --help", "\nAbout it.\n", "\nExamples:\n  # runs x\n  prog run x\n"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << text;
  }
}

}  // namespace
}  // namespace sm
