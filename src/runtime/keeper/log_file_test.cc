#include "runtime/keeper/log_file.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <filesystem>

#include "base/bytes.h"

namespace sm {
namespace {

namespace fs = std::filesystem;

class LogTest : public testing::Test {
 protected:
  LogTest() {
    char name[] = "/tmp/log-file-XXXXXX";
    dir_ = ::mkdtemp(name);
  }
  ~LogTest() override { fs::remove_all(dir_); }

  static void put(LogWriter& log, agent::Stream stream, std::string_view text) {
    log.write(stream, as_byte_span(text));
  }
  // "o.text|e+text|..."
  static std::string all(LogReader& reader) {
    std::string out;
    const auto status = reader.read([&](const LogLine& line) {
      out += line.error_stream ? "e" : "o";
      out += line.whole ? "." : "+";
      out += std::string(line.text) + "|";
    });
    EXPECT_TRUE(status);
    return out;
  }

  std::string dir_;
};

constexpr auto kOut = agent::Stream::kStdout;
constexpr auto kErr = agent::Stream::kStderr;

// Files of this process cannot grow beyond that, as on a disk that is full.
class FileLimit {
 public:
  explicit FileLimit(rlim_t bytes) {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit wanted{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &wanted);
  }
  ~FileLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }
  FileLimit(const FileLimit&) = delete;
  FileLimit& operator=(const FileLimit&) = delete;

 private:
  rlimit before_{};
};

TEST_F(LogTest, WhatIsNotTakenWholeIsNotTakenAtAll) {
  auto log = LogWriter::open(dir_);
  LogReader reader(dir_);
  put(log, kOut, "first\n");
  {
    const FileLimit full(fs::file_size(dir_ + "/log") + 30);
    put(log, kOut, std::string(100, 'x') + "\n");
  }
  put(log, kOut, "last\n");
  EXPECT_EQ(all(reader), "o.first|o.last|");
}

TEST_F(LogTest, GivesWayAndGoesOn) {
  auto log = LogWriter::open(dir_, 1000);
  LogReader reader(dir_);
  for (int i = 0; i < 12; ++i) put(log, kOut, std::string(100, 'x') + "\n");
  all(reader);
  EXPECT_TRUE(fs::exists(dir_ + "/log.1"));
  log.give_way(/*all=*/false);
  EXPECT_FALSE(fs::exists(dir_ + "/log.1"));
  log.give_way(/*all=*/true);
  EXPECT_EQ(fs::file_size(dir_ + "/log"), 0u);
  put(log, kOut, "on\n");
  EXPECT_EQ(all(reader), "o.on|");
}

TEST_F(LogTest, AFolderThatIsNotThereIsNoObstacle) {
  auto log = LogWriter::open(dir_ + "/later");
  put(log, kOut, "lost\n");
  fs::create_directory(dir_ + "/later");
  put(log, kOut, "kept\n");
  LogReader reader(dir_ + "/later");
  EXPECT_EQ(all(reader), "o.kept|");
}

TEST_F(LogTest, StreamsStayApartAndPartOfALineIsNone) {
  auto log = LogWriter::open(dir_);
  LogReader reader(dir_);
  put(log, kOut, "one\ntw");
  put(log, kErr, "oops\n");
  EXPECT_EQ(all(reader), "o.one|e.oops|");
  put(log, kOut, "o\n\n");
  EXPECT_EQ(all(reader), "o.two|o.|");
  put(log, kErr, "end");
  EXPECT_EQ(all(reader), "");
  log.finish();
  EXPECT_EQ(all(reader), "e+end|");
}

TEST_F(LogTest, LongLinesAreCut) {
  auto log = LogWriter::open(dir_);
  put(log, kOut, std::string(2 * kMaxLogText + 5, 'x') + "\n");
  std::size_t bytes = 0, lines = 0, whole = 0;
  LogReader reader(dir_);
  ASSERT_TRUE(reader.read([&](const LogLine& line) {
    bytes += line.text.size();
    ++lines;
    whole += line.whole ? 1 : 0;
  }));
  EXPECT_EQ(bytes, 2 * kMaxLogText + 5);
  EXPECT_EQ(lines, 3u);
  EXPECT_EQ(whole, 1u);
}

TEST_F(LogTest, RotatesAndTheReaderFollows) {
  auto log = LogWriter::open(dir_, 1000);
  LogReader reader(dir_);
  std::size_t seen = 0;
  for (int i = 0; i < 200; ++i) {
    put(log, kOut, "line " + std::to_string(i) + "\n");
    if (i % 7 != 0) continue;
    ASSERT_TRUE(reader.read([&](const LogLine&) { ++seen; }));
  }
  ASSERT_TRUE(reader.read([&](const LogLine&) { ++seen; }));
  EXPECT_EQ(seen, 200u);
  EXPECT_LE(fs::file_size(dir_ + "/log"), 1000u);
  EXPECT_LE(fs::file_size(dir_ + "/log.1"), 1000u);
  std::size_t left = 0;
  LogReader late(dir_);
  ASSERT_TRUE(late.read([&](const LogLine&) { ++left; }));
  EXPECT_GT(left, 20u);
  EXPECT_LT(left, 200u);
}

TEST_F(LogTest, GoesOnAfterAnEarlierStart) {
  {
    auto log = LogWriter::open(dir_);
    put(log, kOut, "a\n");
  }
  {
    auto log = LogWriter::open(dir_);
    put(log, kOut, "b\n");
  }
  LogReader reader(dir_);
  EXPECT_EQ(all(reader), "o.a|o.b|");
  EXPECT_EQ(all(reader), "");
}

TEST_F(LogTest, AMissingLogIsEmpty) {
  LogReader reader(dir_ + "/nowhere");
  EXPECT_EQ(all(reader), "");
}

TEST(LogLine, Parsing) {
  const auto line = parse_log_line("12 e+ a b ");
  ASSERT_TRUE(line);
  EXPECT_EQ(line->at_ns, 12);
  EXPECT_TRUE(line->error_stream);
  EXPECT_FALSE(line->whole);
  EXPECT_EQ(line->text, "a b ");
  EXPECT_TRUE(parse_log_line("0 o. "));
  for (const char* text : {"", "12", "x o. a", "-1 o. a", "12 x. a", "12 o- a", "12o. a", "12 o.a",
                           "99999999999999999999 o. a"}) {
    EXPECT_FALSE(parse_log_line(text)) << text;
  }
}

}  // namespace
}  // namespace sm
