#include "runtime/health_check.h"

#include <gtest/gtest.h>

namespace sm {
namespace {

using namespace std::chrono_literals;
using Words = std::vector<std::string>;

TEST(Durations, sums_of_units) {
  EXPECT_EQ(parse_duration("0"), Duration{});
  EXPECT_EQ(parse_duration("300ms"), 300ms);
  EXPECT_EQ(parse_duration("1m30s"), 90s);
  EXPECT_EQ(parse_duration("1.5h"), 90min);
  EXPECT_EQ(parse_duration("7us5ns"), 7005ns);
  for (const char* bad : {"", "5", "s", "1d", "-1s", "1s ", "1e3s", "nan", "infs", "1..5s", "1sm",
                          "99999999999h", "0x1s"}) {
    EXPECT_EQ(parse_duration(bad), std::nullopt) << bad;
  }
}

ImageConfig image_with(Words test) {
  ImageConfig out;
  out.healthcheck = Healthcheck{.test = std::move(test)};
  return out;
}

TEST(HealthChecks, come_from_the_image) {
  ImageConfig image = image_with({"CMD-SHELL", "curl -f localhost"});
  image.healthcheck->interval_ns = 5'000'000'000;
  image.healthcheck->retries = 7;
  const auto check = resolve_health({}, image).value();
  ASSERT_TRUE(check);
  EXPECT_EQ(check->argv, (Words{"/bin/sh", "-c", "curl -f localhost"}));
  EXPECT_EQ(check->interval, 5s);
  EXPECT_EQ(check->timeout, 30s);
  EXPECT_EQ(check->retries, 7u);
  EXPECT_EQ(resolve_health({}, image_with({"CMD", "a", "b"})).value()->argv, (Words{"a", "b"}));
  for (const Words& none : {Words{"NONE"}, Words{}, Words{"CMD"}, Words{"OTHER", "x"}}) {
    EXPECT_FALSE(resolve_health({}, image_with(none)).value());
  }
  EXPECT_FALSE(resolve_health({}, ImageConfig()).value());
}

TEST(HealthChecks, options_win) {
  HealthFlags flags{.command = "test -e /ok",
                    .interval = "1s",
                    .timeout = "200ms",
                    .start_period = "2m",
                    .retries = 1,
                    .none = false};
  const auto check = resolve_health(flags, image_with({"CMD", "a"})).value();
  EXPECT_EQ(check->argv, (Words{"/bin/sh", "-c", "test -e /ok"}));
  EXPECT_EQ(check->interval, 1s);
  EXPECT_EQ(check->timeout, 200ms);
  EXPECT_EQ(check->start_period, 2min);
  EXPECT_EQ(check->retries, 1u);
  EXPECT_FALSE(resolve_health({.none = true}, image_with({"CMD", "a"})).value());
  // Tuned, but there is nothing to tune.
  EXPECT_FALSE(resolve_health({.interval = "1s"}, ImageConfig()).value());
}

TEST(HealthChecks, wrong_options_are_named) {
  const auto error = [](const HealthFlags& flags) {
    const auto check = resolve_health(flags, ImageConfig());
    return check ? std::string() : check.error().text();
  };
  EXPECT_NE(error({.interval = "x"}).find("--health-interval x"), std::string::npos);
  EXPECT_NE(error({.timeout = "1ns"}).find("--health-timeout"), std::string::npos);
  EXPECT_NE(error({.start_period = "-1s"}).find("--health-start-period"), std::string::npos);
  EXPECT_NE(error({.command = "x", .none = true}).find("--no-healthcheck"), std::string::npos);
  EXPECT_EQ(error({.command = "x", .interval = "0"}), "");
}

TEST(HealthTallies, count_failures_in_a_row) {
  HealthTally tally({.argv = {"x"}, .retries = 2});
  EXPECT_EQ(tally.health(), Health::kStarting);
  EXPECT_EQ(tally.add(false, 1s), Health::kStarting);
  EXPECT_EQ(tally.add(true, 2s), Health::kHealthy);
  EXPECT_EQ(tally.add(false, 3s), Health::kHealthy);
  EXPECT_EQ(tally.add(false, 4s), Health::kUnhealthy);
  EXPECT_EQ(tally.failures(), 2u);
  EXPECT_EQ(tally.add(true, 5s), Health::kHealthy);
  EXPECT_EQ(tally.failures(), 0u);
}

TEST(HealthTallies, failures_while_it_starts_do_not_count) {
  HealthTally tally({.argv = {"x"}, .start_period = 10s, .retries = 1});
  EXPECT_EQ(tally.add(false, 9s), Health::kStarting);
  EXPECT_EQ(tally.add(false, 10s), Health::kUnhealthy);
  HealthTally early({.argv = {"x"}, .start_period = 10s, .retries = 1});
  EXPECT_EQ(early.add(true, 1s), Health::kHealthy);
  EXPECT_EQ(early.add(false, 2s), Health::kUnhealthy);  // it had started
}

}  // namespace
}  // namespace sm
