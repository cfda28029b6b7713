// Programs in a VM: ExecBuilder says what to run, ExecChild is one that runs, ExecOutcome what came
// of it.
#pragma once

#include <supermachine/error.h>
#include <supermachine/export.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace supermachine {

// How a program ended.
struct ExecStatus {
  int code = 0;            // exit status; 128+n when signal n ended it
  int signal = 0;          // the signal that ended it, or 0
  bool timed_out = false;  // it was killed at its timeout
  std::uint32_t step = 0;  // of a chain: the command that ended it, 0 is the first
  std::uint64_t peak_rss_kib = 0;
  std::chrono::nanoseconds duration{0};  // as the guest measured it

  bool success() const { return code == 0 && !timed_out; }
};

struct ExecOutcome : ExecStatus {
  std::string out;  // standard output; on a terminal, everything
  std::string err;
};

struct WindowSize {
  std::uint16_t rows = 0;
  std::uint16_t columns = 0;
};

// A program that runs. Its destruction kills it. Functions may be called from any thread, at a time
// one read of each stream, one write, and any number of the others. An output that nobody reads
// stops the program once 256 KiB wait, like a pipe; so read both, or use ExecBuilder::output().
class SUPERMACHINE_API ExecChild {
 public:
  ~ExecChild();
  ExecChild(ExecChild&&) noexcept;
  ExecChild& operator=(ExecChild&&) noexcept;

  std::uint32_t pid() const;  // in the guest

  // 1 to `max` bytes; empty at the end of the stream.
  Result<std::string> read_stdout(std::size_t max = 65536);
  Result<std::string> read_stderr(std::size_t max = 65536);
  void read_stdout_async(std::size_t max, std::function<void(Result<std::string>)> done);
  void read_stderr_async(std::size_t max, std::function<void(Result<std::string>)> done);
  // Returns when the guest has room for all of it. Only with ExecBuilder::keep_stdin().
  Result<void> write_stdin(std::string_view bytes);
  void write_stdin_async(std::string_view bytes, std::function<void(Result<void>)> done);
  Result<void> close_stdin();

  // The program's end. May be called again.
  Result<ExecStatus> wait();
  void wait_async(std::function<void(Result<ExecStatus>)> done);
  // To the program's process group; nothing happens when it has ended.
  Result<void> signal(int number);
  Result<void> resize(WindowSize size);

  struct Impl;

 private:
  friend class ExecBuilder;
  explicit ExecChild(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// One thread at a time. The builder may be used again. Environment, in rising order: the image's,
// that of the VM's configuration, env() here. Errors of what is started: kExecNotFound,
// kExecDenied, kInvalidArgument (user, folder), kIo (a staged file), kLimit, kVmGone, kTimeout.
class SUPERMACHINE_API ExecBuilder {
 public:
  ~ExecBuilder();
  ExecBuilder(ExecBuilder&&) noexcept;
  ExecBuilder& operator=(ExecBuilder&&) noexcept;

  // The program, looked up in the guest's PATH, and its arguments: any bytes but NUL.
  ExecBuilder& argv(std::vector<std::string> words);
  ExecBuilder& env(const std::string& name, const std::string& value);
  ExecBuilder& cwd(const std::string& path);   // absolute; default: the image's
  ExecBuilder& user(const std::string& user);  // "name|uid[:group|gid]"; default: the image's
  // A terminal instead of pipes; everything comes on standard output.
  ExecBuilder& tty(bool on = true);
  ExecBuilder& window(WindowSize size);
  // The program and all it started are killed when it is over. Zero: none.
  ExecBuilder& timeout(std::chrono::milliseconds limit);
  // Standard input, to its end. Default: /dev/null.
  ExecBuilder& stdin_bytes(std::string bytes);
  // For spawn(): standard input is what ExecChild::write_stdin() sends.
  ExecBuilder& keep_stdin(bool on = true);
  // A file that is written before the program starts, in the same round trip; may be called for
  // several. The folder exists; `path` is absolute; the mode is for a new file. Files, words and
  // environment together: 4 MiB.
  ExecBuilder& stage_file(const std::string& path, std::string content, std::uint32_t mode = 0644);
  // A further command, started when the one before ended with status 0, in the same round trip, on
  // the same streams, under the same timeout. Not on a terminal, not for a workload.
  ExecBuilder& chain(std::vector<std::string> words);
  // For output(): at most so many bytes of each stream, or the program is killed and the result is
  // kLimit. Default 16 MiB.
  ExecBuilder& output_limit(std::size_t bytes);

  // Starts it; returns when it runs.
  Result<ExecChild> spawn();
  void spawn_async(std::function<void(Result<ExecChild>)> done);
  // Runs it to its end and collects what it prints.
  Result<ExecOutcome> output();
  void output_async(std::function<void(Result<ExecOutcome>)> done);

  // Starts it and leaves it to itself; its id in the guest. It has no input, its output is appended
  // to the guest's file `output` (absolute, opened as its user) or dropped, and it goes on in VMs
  // that are started from a snapshot of this one. A workload still ends its VM when it ends. Not
  // with tty(), input, timeout() or chain().
  Result<std::uint32_t> detach(const std::string& output = {});
  void detach_async(const std::string& output, std::function<void(Result<std::uint32_t>)> done);

  struct Impl;

 private:
  friend class Vm;
  explicit ExecBuilder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace supermachine
