#include "common/environment.h"

#include <gtest/gtest.h>

namespace sm::guest {
namespace {

TEST(MergeEnvironment, LaterEntriesWinInTheirFirstPlace) {
  EXPECT_EQ(merge_environment({"A=1", "B=2", "A=3"}, {"B=4", "C=5"}), (Words{"A=3", "B=4", "C=5"}));
}

TEST(MergeEnvironment, ValuesMayHoldAnything) {
  EXPECT_EQ(merge_environment({"A=x=y"}, {"A=\n\"\\ \t=", "AA=1"}),
            (Words{"A=\n\"\\ \t=", "AA=1"}));
}

TEST(MergeEnvironment, ManyEntriesDoNotTakeQuadraticTime) {
  Words base, over;
  for (int i = 0; i < 60000; ++i) {
    base.push_back("NAME" + std::to_string(i) + "=old");
    over.push_back("NAME" + std::to_string(i) + "=new");
  }
  const Words merged = merge_environment(base, over);
  ASSERT_EQ(merged.size(), base.size());
  EXPECT_EQ(merged.back(), "NAME59999=new");
}

TEST(FindVariable, MatchesWholeNamesOnly) {
  const Words env = {"PATHS=no", "PATH=yes", "EMPTY="};
  EXPECT_EQ(find_variable(env, "PATH"), "yes");
  EXPECT_EQ(find_variable(env, "EMPTY"), "");
  EXPECT_EQ(find_variable(env, "PAT"), std::nullopt);
}

TEST(AddDefault, KeepsWhatIsThereEvenWhenEmpty) {
  Words env = {"HOME="};
  add_default(env, "HOME", "/root");
  add_default(env, "TERM", "xterm");
  EXPECT_EQ(env, (Words{"HOME=", "TERM=xterm"}));
}

TEST(ProgramCandidates, SlashMeansNoSearch) {
  EXPECT_EQ(program_candidates("/bin/sh", "/a:/b"), (Words{"/bin/sh"}));
  EXPECT_EQ(program_candidates("./x", "/a"), (Words{"./x"}));
}

TEST(ProgramCandidates, FollowsThePathAndItsEmptyParts) {
  EXPECT_EQ(program_candidates("x", "/a::/b:"), (Words{"/a/x", "./x", "/b/x", "./x"}));
  EXPECT_EQ(program_candidates("x", ""), (Words{"./x"}));
  EXPECT_TRUE(program_candidates("", "/a").empty());
}

}  // namespace
}  // namespace sm::guest
