#include "common/user_db.h"

#include <gtest/gtest.h>

namespace sm::guest {
namespace {

constexpr std::string_view kPasswd =
    "root:x:0:0:root:/root:/bin/sh\n"
    "app:x:1000:1001:App,,,:/home/app:/bin/false\n"
    "bare:x:1002:1002\n"
    "nobody:x:65534:65534::/nonexistent:/bin/false\n";
constexpr std::string_view kGroup =
    "root:x:0:\n"
    "wheel:x:10:root,app\n"
    "app:x:1001:\n"
    "docker:x:999:other,app,third\n"
    "trick:x:50:xapp,appx\n";

UserIds resolved(std::string_view spec) {
  auto ids = resolve_user(spec, kPasswd, kGroup);
  EXPECT_TRUE(ids.has_value()) << spec;
  return ids ? *ids : UserIds{};
}

TEST(ResolveUser, EmptyIsRootWithItsGroups) {
  const UserIds ids = resolved("");
  EXPECT_EQ(ids.uid, 0u);
  EXPECT_EQ(ids.gid, 0u);
  EXPECT_EQ(ids.home, "/root");
  EXPECT_EQ(ids.groups, (std::vector<gid_t>{0, 10}));
}

TEST(ResolveUser, NameTakesEverythingFromItsEntry) {
  const UserIds ids = resolved("app");
  EXPECT_EQ(ids.uid, 1000u);
  EXPECT_EQ(ids.gid, 1001u);
  EXPECT_EQ(ids.home, "/home/app");
  EXPECT_EQ(ids.groups, (std::vector<gid_t>{1001, 10, 999}));
}

TEST(ResolveUser, NumberWithEntryIsThatUser) { EXPECT_EQ(resolved("1000").groups.size(), 3u); }

TEST(ResolveUser, NumberWithoutEntryHasGroupZero) {
  const UserIds ids = resolved("4242");
  EXPECT_EQ(ids.uid, 4242u);
  EXPECT_EQ(ids.gid, 0u);
  EXPECT_EQ(ids.home, "/");
  EXPECT_EQ(ids.groups, (std::vector<gid_t>{0}));
}

TEST(ResolveUser, ExplicitGroupReplacesAllOthers) {
  EXPECT_EQ(resolved("app:wheel").gid, 10u);
  EXPECT_EQ(resolved("app:wheel").groups, (std::vector<gid_t>{10}));
  EXPECT_EQ(resolved("app:777").gid, 777u);
  EXPECT_EQ(resolved("5:6").gid, 6u);
  EXPECT_EQ(resolved(":999").uid, 0u);
  EXPECT_EQ(resolved(":999").gid, 999u);
}

TEST(ResolveUser, TrailingColonMeansNoGroupGiven) { EXPECT_EQ(resolved("app:").gid, 1001u); }

TEST(ResolveUser, EntryWithoutHomeHasTheRootFolder) { EXPECT_EQ(resolved("bare").home, "/"); }

TEST(ResolveUser, UnknownNamesAreErrors) {
  const auto user = resolve_user("ghost", kPasswd, kGroup);
  ASSERT_FALSE(user.has_value());
  EXPECT_EQ(user.error().cause(), "unable to find user ghost: no matching entries in passwd file");
  const auto group = resolve_user("app:ghosts", kPasswd, kGroup);
  ASSERT_FALSE(group.has_value());
  EXPECT_EQ(group.error().cause(),
            "unable to find group ghosts: no matching entries in group file");
}

TEST(ResolveUser, NumbersOutOfRangeAreErrors) {
  for (const char* spec : {"2147483648", "99999999999999999999", "0:4294967295", "-1", "1 "}) {
    EXPECT_FALSE(resolve_user(spec, kPasswd, kGroup).has_value()) << spec;
  }
}

TEST(ResolveUser, MalformedLinesNeverGiveRoot) {
  const std::string_view passwd =
      "evil:x::0:::\nevil:x:abc:0:::\nevil\n:x:0:0::/:\nevil:x:-5:0:::\nevil:x:4294967296:0:::\n";
  EXPECT_FALSE(resolve_user("evil", passwd, "").has_value());
  EXPECT_FALSE(resolve_user("u:g", "u:x:5:5::/:", "g:x::\ng\ng:x:zz:\n").has_value());
}

TEST(ResolveUser, LinesWithNulAreNoEntries) {
  const std::string passwd = std::string("app\0:x:0:0::/:\n", 15) + "app:x:7:8::/seven:\n";
  const auto ids = resolve_user("app", passwd, "");
  ASSERT_TRUE(ids.has_value());
  EXPECT_EQ(ids->uid, 7u);
}

TEST(ResolveUser, WindowsLineEndsAndMissingLastNewlineAreFine) {
  const auto ids = resolve_user("b", "a:x:1:1::/a:\r\nb:x:2:3::/b:/bin/sh", "");
  ASSERT_TRUE(ids.has_value());
  EXPECT_EQ(ids->home, "/b");
}

TEST(ResolveUser, HugeMemberListIsSearchedToItsEnd) {
  std::string group = "big:x:77:";
  for (int i = 0; i < 200000; ++i) group += "member" + std::to_string(i) + ",";
  group += "app\n";
  const auto ids = resolve_user("app", kPasswd, group);
  ASSERT_TRUE(ids.has_value());
  EXPECT_EQ(ids->groups, (std::vector<gid_t>{1001, 77}));
}

TEST(ResolveUser, MoreGroupsThanTheKernelTakesAreCut) {
  std::string group;
  for (int i = 1; i <= 70000; ++i)
    group += "g" + std::to_string(i) + ":x:" + std::to_string(i) + ":app\n";
  const auto ids = resolve_user("app", kPasswd, group);
  ASSERT_TRUE(ids.has_value());
  EXPECT_EQ(ids->groups.size(), 65536u);
}

TEST(AddGroups, NamesAndNumbersJoinTheOthersOnce) {
  UserIds ids = resolve_user("4321:99", "", "").value();
  ASSERT_TRUE(add_groups(ids, {"audio", "7", "99", "audio"}, "audio:x:29:\n").has_value());
  EXPECT_EQ(ids.gid, 99u);
  EXPECT_EQ(ids.groups, (std::vector<gid_t>{99, 29, 7}));
}

TEST(AddGroups, UnknownNameIsAnError) {
  UserIds ids = resolve_user("0", "", "").value();
  EXPECT_EQ(add_groups(ids, {"video"}, "audio:x:29:\n").error().code(), Code::kNotFound);
  EXPECT_EQ(add_groups(ids, {"99999999999"}, "").error().code(), Code::kNotFound);
}

TEST(UserNames, TheFirstOfEachNumberCountsAndMalformedLinesDoNot) {
  const auto names = user_names(
      "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\nbroken:x::1\n:x:7:7::/"
      ":\nweb:x:33:33::/:");
  EXPECT_EQ(names, (std::map<uid_t, std::string>{{0, "root"}, {33, "web"}}));
}

}  // namespace
}  // namespace sm::guest
