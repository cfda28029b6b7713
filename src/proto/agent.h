// The agent protocol: frames between a host program and the agent in the guest, over one vsock
// connection to guest port kPort (on the host side a unix socket bridged to it). Both sides are
// hostile to each other: lengths are limited before allocation, unknown types end the connection.
// The full description is docs/reference/agent-protocol.md. Freestanding: usable in guest/.
//
// Each connection: both sides send kHello first; the host then sends exactly one request (it need
// not wait for the agent's hello). One connection serves one request.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/wipe.h"
#include "proto/container.h"
#include "proto/names.h"

namespace sm::agent {

inline constexpr std::uint32_t kPort = 1028;
inline constexpr std::uint32_t kMagic = 0x54474153;  // "SAGT"
inline constexpr std::uint16_t kVersion = 1;
// What a version grows by: requests that an older agent does not know, which then refuses them. A
// snapshot has the agent of its day.
//   1: kSignalMain
//   2: kAttachMain
inline constexpr std::uint16_t kRevision = 2;

inline constexpr std::size_t kHeaderSize = 8;
inline constexpr std::size_t kMaxPayload = 4u << 20;  // requests carry argv and environment
inline constexpr std::size_t kMaxData = 64u << 10;    // one kData frame
// Bytes of one stream that may be under way without a kWindow grant.
inline constexpr std::uint32_t kInitialWindow = 256u << 10;
inline constexpr std::size_t kMaxWords = 64u << 10;  // argv or environment entries
inline constexpr std::size_t kMaxPath = 4096;
inline constexpr std::size_t kSeedSize = 64;

// Header: u32 payload length, u8 type, u8 stream, u16 zero. Little-endian throughout.
enum class FrameType : std::uint8_t {
  kHello = 1,      // both: Hello
  kExec = 2,       // host: ExecRequest
  kReadFile = 3,   // host: FileRequest; answer: kStarted, kData on stream 1, kDone
  kWriteFile = 4,  // host: FileRequest, then kData on stream 0 up to an empty one
  kForward = 5,   // host: u32 TCP port on the guest's loopback; after kStarted: raw bytes both ways
  kData = 6,      // both: bytes of a stream; an empty payload is its end of file
  kWindow = 7,    // both: u32 more bytes that the receiver of that stream can take
  kSignal = 8,    // host: u32 signal number for the process group
  kResize = 9,    // host: WindowSize
  kStarted = 10,  // agent: Started
  kExit = 11,     // agent: ExitReport; the last frame of an exec
  kError = 12,    // agent: ErrorReport; the last frame of any failed request
  kDone = 13,     // agent: a file request is complete
  kResume = 14,   // host: ResumeRequest
  kResumed = 15,  // agent: ResumeReport; the last frame of a resume
  // host: u32 signal number for the process group of the main workload; answer: kDone. Revision 1
  kSignalMain = 16,
  // host: nothing; the connection becomes that of the main workload, which lost its own by a
  // restore; answer: kStarted and all that follows it in an exec. Revision 2
  kAttachMain = 17,
};

// Streams of kData and kWindow: as the file descriptors of the guest process.
enum class Stream : std::uint8_t { kStdin = 0, kStdout = 1, kStderr = 2 };

struct FrameHeader {
  std::uint32_t length;
  FrameType type;
  std::uint8_t stream;
};

struct Frame {
  FrameType type;
  std::uint8_t stream;
  std::vector<std::byte> payload;
};

struct Hello {
  std::uint16_t version = kVersion;
  std::uint16_t revision = kRevision;
  std::uint32_t generation = 0;  // agent: restores since boot
};

struct WindowSize {
  std::uint16_t rows = 0;
  std::uint16_t columns = 0;
};

// A file that is in place before the command starts.
struct StagedFile {
  std::string path;  // absolute in the guest; its folder exists
  std::uint32_t mode = 0644;
  std::string content;
};

inline constexpr std::size_t kMaxStagedFiles = 1024;  // of one request
inline constexpr std::size_t kMaxCommands = 1024;     // of one request

struct ExecRequest {
  // The workload of this VM: its environment, user and folder become the defaults of later execs,
  // and when it ends and the host has closed this connection, the VM ends.
  bool main = false;
  bool tty = false;               // one pty; stderr is merged into stream 1
  bool keep_stdin = false;        // false: stdin is /dev/null
  bool create_cwd = false;        // make a missing cwd (0755, root) instead of failing
  std::vector<std::string> argv;  // argv[0] is looked up in the PATH of the final environment
  std::vector<std::string> env;   // "K=V", over the defaults (main: over the boot configuration's)
  std::string cwd;                // empty: the default
  std::string user;               // OCI form "name|uid[:group|gid]"; empty: the default
  WindowSize window;              // tty only; 0 = unknown
  std::uint64_t timeout_ms = 0;   // 0: none; at the timeout the whole process group is killed
  std::vector<StagedFile> files;  // written in this order before the command starts
  // The program outlives the connection and is nobody's any more: `started` is the last frame. Its
  // input is /dev/null. Not with tty, keep_stdin, timeout or further commands.
  bool detached = false;
  std::string output;  // detached: file that its output is appended to; empty: /dev/null
  // argv names one of the agent's own programs, which every image has; as root, in /. Only argv,
  // keep_stdin and timeout_ms say anything then.
  bool own_program = false;
  // Further commands, each started when the one before ended with status 0; same streams, time
  // limit, environment, folder and user. Not with main or tty.
  std::vector<std::vector<std::string>> chain;
  // What the machine and its programs are to be like. Only with main.
  std::optional<ContainerSettings> container;
};

struct FileRequest {
  std::string path;           // absolute in the guest
  std::uint32_t mode = 0644;  // kWriteFile: permissions of a created file
  std::uint64_t size = 0;     // kWriteFile: exact number of bytes that follow
};

struct Started {
  std::uint32_t pid = 0;   // exec: process id in the guest
  std::uint64_t size = 0;  // kReadFile: bytes that follow
};

struct ExitReport {
  bool signalled = false;  // value is a signal number instead of an exit status
  bool timed_out = false;
  std::uint32_t value = 0;
  std::uint64_t peak_rss_kib = 0;  // of all commands
  std::uint64_t duration_ns = 0;   // of all commands together
  std::uint32_t step = 0;          // which command of the chain ended it; 0 is argv
};

// What failed, so that the host can choose its exit status: 127 for kExecNotFound, 126 for
// kExecDenied, 125 for the rest.
enum class ErrorKind : std::uint8_t {
  kProtocol = 1,
  kExecNotFound = 2,
  kExecDenied = 3,
  kUser = 4,
  kWorkdir = 5,
  kFile = 6,
  kConnect = 7,
  kResource = 8,
  kBusy = 9,         // a second main workload
  kResume = 10,      // a step of a resume failed, or a request came before one that is due
  kSetting = 11,     // a container setting could not be made
  kRootDisk = 12,    // a resume could not make the given disk the root's
  kNoWorkload = 13,  // no main workload runs
};

struct ErrorReport {
  ErrorKind kind = ErrorKind::kProtocol;
  std::uint32_t errno_value = 0;
  std::string message;
};

enum class MachineIdPolicy : std::uint8_t {
  kKeep = 0,
  kReplace = 1,  // the files that the image has get the given one
  kSet = 2,      // so does /etc/machine-id when the image has none
};

// What makes a restored machine one of its own. Sent before anything else after a restore.
struct ResumeRequest {
  std::uint32_t generation = 0;             // the one that the machine must be in
  std::uint64_t wall_clock_ns = 0;          // CLOCK_REALTIME of the host when it sends this
  std::array<std::byte, kSeedSize> seed{};  // random, never used twice
  std::string hostname;                     // empty: keep
  MachineIdPolicy machine_id_policy = MachineIdPolicy::kKeep;
  std::string machine_id;        // empty with kKeep
  std::vector<std::string> env;  // over the defaults of later execs
  std::vector<std::string>
      secrets;  // the same, instead of those of an earlier resume; for programs only
  std::vector<std::string> dns;  // empty: /etc/resolv.conf stays
  std::vector<HostEntry> hosts;  // instead of those given before; empty: they stay
  // Serial of the disk that the root's changes go to from now on; empty: they stay in memory.
  std::string root_disk;

  ResumeRequest() = default;
  ResumeRequest(const ResumeRequest&) = default;
  ResumeRequest(ResumeRequest&&) = default;
  ResumeRequest& operator=(const ResumeRequest&) = default;
  ResumeRequest& operator=(ResumeRequest&&) = default;
  // Seed and secrets do not stay behind in memory.
  ~ResumeRequest();
};

// In the order in which they are done.
enum class ResumeStep : std::uint8_t {
  kRandom = 1,
  kClock = 2,
  kHostname = 3,    // the kernel's and /etc/hostname
  kHosts = 4,       // /etc/hosts
  kResolver = 5,    // /etc/resolv.conf
  kMachineId = 6,   // /etc/machine-id, /var/lib/dbus/machine-id
  kGeneration = 7,  // /run/supermachine/generation
  kEnvironment = 8,
};
inline constexpr std::size_t kResumeSteps = 8;
std::string_view step_name(ResumeStep step);

enum class StepResult : std::uint8_t {
  kDone = 1,
  kKept = 2,     // nothing was asked for, or nothing is there to change
  kSkipped = 3,  // the image does not allow it and nothing depends on it
};

struct StepReport {
  ResumeStep step = ResumeStep::kRandom;
  StepResult result = StepResult::kDone;
};

struct ResumeReport {
  std::uint32_t generation = 0;
  std::vector<StepReport> steps;  // each one once, in order
};

inline constexpr std::uint32_t kMaxSignal = 64;

// The rules of the page for one request: kInvalidArgument names the field.
Status check_resume(const ResumeRequest& request);

// Encoders give a whole frame, header included.
std::vector<std::byte> encode_hello(const Hello& hello);
std::vector<std::byte> encode_exec(const ExecRequest& request);
std::vector<std::byte> encode_file(FrameType type, const FileRequest& request);
std::vector<std::byte> encode_forward(std::uint32_t port);
std::vector<std::byte> encode_data(Stream stream, std::span<const std::byte> bytes);
std::vector<std::byte> encode_window(Stream stream, std::uint32_t bytes);
std::vector<std::byte> encode_signal(std::uint32_t signal);
std::vector<std::byte> encode_signal_main(std::uint32_t signal);
std::vector<std::byte> encode_attach_main();
std::vector<std::byte> encode_resize(const WindowSize& size);
std::vector<std::byte> encode_started(const Started& started);
std::vector<std::byte> encode_exit(const ExitReport& report);
std::vector<std::byte> encode_error(const ErrorReport& report);
std::vector<std::byte> encode_done();
// Holds the secrets: wipe() it after use.
std::vector<std::byte> encode_resume(const ResumeRequest& request);
std::vector<std::byte> encode_resumed(const ResumeReport& report);

// Decoders take a payload; all of it must be used. kCorrupt or kLimit when it is not as described.
Result<Hello> decode_hello(std::span<const std::byte> payload);
Result<ExecRequest> decode_exec(std::span<const std::byte> payload);
Result<FileRequest> decode_file(std::span<const std::byte> payload);
Result<std::uint32_t> decode_u32(std::span<const std::byte> payload);
// 1 to kMaxSignal. For kSignal and kSignalMain.
Result<std::uint32_t> decode_signal(std::span<const std::byte> payload);
Result<WindowSize> decode_resize(std::span<const std::byte> payload);
Result<Started> decode_started(std::span<const std::byte> payload);
Result<ExitReport> decode_exit(std::span<const std::byte> payload);
Result<ErrorReport> decode_error(std::span<const std::byte> payload);
Result<ResumeRequest> decode_resume(std::span<const std::byte> payload);
Result<ResumeReport> decode_resumed(std::span<const std::byte> payload);

// Cuts a byte stream into frames. Holds at most one frame's bytes beyond what was fed, and leaves
// nothing of them behind: some carry secrets.
class FrameParser {
 public:
  // Appends received bytes.
  void feed(std::span<const std::byte> bytes);
  // The next whole frame, nothing when more bytes are needed, or an error after which the stream is
  // lost.
  Result<std::optional<Frame>> next();
  // Bytes that were fed and are not part of a returned frame (after kForward: raw bytes).
  std::vector<std::byte> take_rest();

 private:
  SecretBytes buffer_;
  std::size_t start_ = 0;
};

}  // namespace sm::agent
