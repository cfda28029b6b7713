#include "runtime/worker/trace_file.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace sm {
namespace {

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class TraceFileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "trace-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string path() const { return directory_ + "/t"; }

 private:
  std::string directory_;
};

TEST_F(TraceFileTest, keeps_the_newest_lines_in_two_files) {
  auto trace = TraceFile::create(path(), 20);
  ASSERT_TRUE(trace) << trace.error().text();
  for (int i = 1000; i < 1011; ++i) (*trace)->line(std::to_string(i));
  trace->reset();
  EXPECT_EQ(text_of(path() + ".1"), "1004\n1005\n1006\n1007\n");
  EXPECT_EQ(text_of(path()), "1008\n1009\n1010\n\n--- older steps follow ---\n");
}

TEST_F(TraceFileTest, a_place_that_cannot_be_written_is_named) {
  const auto trace = TraceFile::create(path() + "/no/such/place");
  ASSERT_FALSE(trace);
  EXPECT_EQ(trace.error().cause().rfind("--trace", 0), 0u) << trace.error().cause();
}

}  // namespace
}  // namespace sm
