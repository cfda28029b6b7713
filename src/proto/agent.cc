#include "proto/agent.h"

#include <algorithm>

#include "base/bytes.h"

namespace sm::agent {

namespace {

// Bits of ExecRequest's flags word.
constexpr std::uint32_t kFlagMain = 1, kFlagTty = 2, kFlagStdin = 4, kFlagCreateCwd = 8,
                        kFlagContainer = 16, kFlagDetached = 256, kFlagOwnProgram = 512;
constexpr std::uint32_t kFlagRootDisk = 1;  // of a resume
constexpr std::uint32_t kAllFlags = kFlagMain | kFlagTty | kFlagStdin | kFlagCreateCwd |
                                    kFlagContainer | kFlagDetached | kFlagOwnProgram;
constexpr std::size_t kMaxMessage = 4096;
// The largest CLOCK_REALTIME in nanoseconds that the kernel can count.
constexpr std::uint64_t kMaxClock = 0x7fff'ffff'ffff'ffff;

std::vector<std::byte> frame(FrameType type, std::uint8_t stream,
                             std::span<const std::byte> payload) {
  ByteWriter w;
  w.bytes().reserve(kHeaderSize + payload.size());
  w.put(static_cast<std::uint32_t>(payload.size()));
  w.put(static_cast<std::uint8_t>(type));
  w.put(stream);
  w.put(std::uint16_t{0});
  w.put_bytes(payload);
  return w.release();
}

std::vector<std::byte> frame(FrameType type, ByteWriter payload) {
  return frame(type, 0, payload.bytes());
}

void put_words(ByteWriter& w, const std::vector<std::string>& words) {
  w.put(static_cast<std::uint32_t>(words.size()));
  for (const std::string& word : words) w.put_string(word);
}

bool take_words(ByteReader& r, std::vector<std::string>& out) {
  const auto count = r.take<std::uint32_t>();
  // Each word needs four bytes at least, so a count beyond the payload allocates nothing.
  if (!count || *count > kMaxWords || *count > r.rest().size() / 4) return false;
  out.reserve(*count);
  for (std::uint32_t i = 0; i < *count; ++i) {
    const auto word = r.take_string(kMaxPayload);
    if (!word || word->find('\0') != std::string_view::npos) return false;
    out.emplace_back(*word);
  }
  return true;
}

void put_files(ByteWriter& w, const std::vector<StagedFile>& files) {
  w.put(static_cast<std::uint32_t>(files.size()));
  for (const StagedFile& file : files) {
    w.put_string(file.path);
    w.put(file.mode);
    w.put_string(file.content);
  }
}

tl::unexpected<Error> malformed(const char* what) {
  return fail(Code::kCorrupt, std::string("agent protocol: malformed ") + what);
}

bool take_path(ByteReader& r, std::string& out) {
  const auto text = r.take_string(kMaxPath);
  if (!text || text->find('\0') != std::string_view::npos) return false;
  out = *text;
  return true;
}

bool take_hosts(ByteReader& r, std::vector<HostEntry>& out) {
  const auto count = r.take<std::uint32_t>();
  if (!count || *count > kMaxHostEntries) return false;
  for (std::uint32_t i = 0; i < *count; ++i) {
    const auto address = r.take_string(kMaxHostName);
    const auto name = r.take_string(kMaxHostName);
    if (!name) return false;
    out.push_back({std::string(*address), std::string(*name)});
  }
  return true;
}

bool is_file_target(std::string_view path, std::uint32_t mode) {
  return !path.empty() && path[0] == '/' && mode <= 07777;
}

bool take_files(ByteReader& r, std::vector<StagedFile>& out) {
  const auto count = r.take<std::uint32_t>();
  if (!count || *count > kMaxStagedFiles) return false;
  for (std::uint32_t i = 0; i < *count; ++i) {
    StagedFile file;
    if (!take_path(r, file.path)) return false;
    const auto mode = r.take<std::uint32_t>();
    const auto content = r.take_string(kMaxPayload);
    if (!content || !is_file_target(file.path, *mode)) return false;
    file.mode = *mode;
    file.content = *content;
    out.push_back(std::move(file));
  }
  return true;
}

bool take_chain(ByteReader& r, std::vector<std::vector<std::string>>& out) {
  const auto count = r.take<std::uint32_t>();
  if (!count || *count > kMaxCommands) return false;
  for (std::uint32_t i = 0; i < *count; ++i) {
    std::vector<std::string> command;
    if (!take_words(r, command) || command.empty()) return false;
    out.push_back(std::move(command));
  }
  return true;
}

// Nobody is there to type, to end it or to see how it went.
Status check_detached(const ExecRequest& q) {
  const bool attached = q.tty || q.keep_stdin || q.timeout_ms != 0 || !q.chain.empty();
  const bool absolute = q.output.empty() || q.output[0] == '/';
  if (!q.detached || (!attached && absolute)) return {};
  return fail(Code::kCorrupt, "agent protocol: a detached exec with input, timeout or chain");
}

std::size_t words_size(const std::vector<std::string>& words) {
  std::size_t size = 4;
  for (const std::string& word : words) size += 4 + word.size();
  return size;
}

std::size_t resume_size(const ResumeRequest& q) {
  std::size_t size = 64 + kSeedSize + q.root_disk.size() + q.hostname.size() + q.machine_id.size();
  for (const auto* words : {&q.env, &q.secrets, &q.dns}) size += words_size(*words);
  for (const HostEntry& entry : q.hosts) size += 8 + entry.address.size() + entry.name.size();
  return size;
}

}  // namespace

std::vector<std::byte> encode_hello(const Hello& hello) {
  ByteWriter w;
  w.put(kMagic);
  w.put(hello.version);
  w.put(hello.revision);
  w.put(hello.generation);
  return frame(FrameType::kHello, std::move(w));
}

Result<Hello> decode_hello(std::span<const std::byte> payload) {
  ByteReader r(payload);
  const auto magic = r.take<std::uint32_t>();
  const auto version = r.take<std::uint16_t>();
  const auto revision = r.take<std::uint16_t>();
  const auto generation = r.take<std::uint32_t>();
  if (!r.at_end() || *magic != kMagic) return malformed("hello");
  if (*version != kVersion) {
    return fail(Code::kUnsupported, "agent protocol: the peer speaks version " +
                                        std::to_string(*version) + ", this program version " +
                                        std::to_string(kVersion));
  }
  return Hello{*version, *revision, *generation};
}

std::vector<std::byte> encode_exec(const ExecRequest& q) {
  ByteWriter w;
  w.put((q.main ? kFlagMain : 0u) | (q.tty ? kFlagTty : 0u) | (q.keep_stdin ? kFlagStdin : 0u) |
        (q.create_cwd ? kFlagCreateCwd : 0u) | (q.container ? kFlagContainer : 0u) |
        (q.detached ? kFlagDetached : 0u) | (q.own_program ? kFlagOwnProgram : 0u));
  w.put(q.window.rows);
  w.put(q.window.columns);
  w.put(q.timeout_ms);
  put_words(w, q.argv);
  put_words(w, q.env);
  w.put_string(q.cwd);
  w.put_string(q.user);
  put_files(w, q.files);
  w.put(static_cast<std::uint32_t>(q.chain.size()));
  for (const auto& command : q.chain) put_words(w, command);
  if (q.container) put_container(w, *q.container);
  // Only then: the agent of an older snapshot knows neither flag nor text.
  if (q.detached) w.put_string(q.output);
  return frame(FrameType::kExec, std::move(w));
}

Result<ExecRequest> decode_exec(std::span<const std::byte> payload) {
  ByteReader r(payload);
  ExecRequest q;
  const auto flags = r.take<std::uint32_t>();
  const auto rows = r.take<std::uint16_t>();
  const auto columns = r.take<std::uint16_t>();
  const auto timeout = r.take<std::uint64_t>();
  if (!timeout || (*flags & ~kAllFlags) != 0) return malformed("exec request");
  q.main = (*flags & kFlagMain) != 0;
  q.tty = (*flags & kFlagTty) != 0;
  q.keep_stdin = (*flags & kFlagStdin) != 0;
  q.create_cwd = (*flags & kFlagCreateCwd) != 0;
  q.window = {*rows, *columns};
  q.timeout_ms = *timeout;
  if (!take_words(r, q.argv) || !take_words(r, q.env)) return malformed("exec request");
  if (!take_path(r, q.cwd) || !take_path(r, q.user)) return malformed("exec request");
  if (!take_files(r, q.files) || !take_chain(r, q.chain)) return malformed("exec request");
  if ((*flags & kFlagContainer) != 0) {
    if (!q.main) return malformed("exec request: container settings without a main workload");
    q.container = SM_TRY(take_container(r));
  }
  q.detached = (*flags & kFlagDetached) != 0;
  q.own_program = (*flags & kFlagOwnProgram) != 0;
  if (q.detached && !take_path(r, q.output)) return malformed("exec request");
  if (!r.at_end()) return malformed("exec request");
  SM_TRY_STATUS(check_detached(q));
  if (q.argv.empty()) return malformed("exec request: no program");
  if (q.own_program && (q.main || q.tty || q.detached || !q.chain.empty() || !q.files.empty())) {
    return malformed("exec request: a program of the agent with what goes with others only");
  }
  if (!q.chain.empty() && (q.main || q.tty)) {
    return malformed("exec request: further commands of a main workload or on a terminal");
  }
  for (const std::string& entry : q.env) {
    if (entry.find('=') == std::string::npos) return malformed("exec request: environment");
  }
  return q;
}

std::vector<std::byte> encode_file(FrameType type, const FileRequest& request) {
  ByteWriter w;
  w.put_string(request.path);
  w.put(request.mode);
  w.put(request.size);
  return frame(type, std::move(w));
}

Result<FileRequest> decode_file(std::span<const std::byte> payload) {
  ByteReader r(payload);
  FileRequest q;
  if (!take_path(r, q.path)) return malformed("file request");
  const auto mode = r.take<std::uint32_t>();
  const auto size = r.take<std::uint64_t>();
  if (!r.at_end() || !is_file_target(q.path, *mode)) {
    return malformed("file request");
  }
  q.mode = *mode;
  q.size = *size;
  return q;
}

std::vector<std::byte> encode_forward(std::uint32_t port) {
  ByteWriter w;
  w.put(port);
  return frame(FrameType::kForward, std::move(w));
}

std::vector<std::byte> encode_data(Stream stream, std::span<const std::byte> bytes) {
  return frame(FrameType::kData, static_cast<std::uint8_t>(stream), bytes);
}

std::vector<std::byte> encode_window(Stream stream, std::uint32_t bytes) {
  ByteWriter w;
  w.put(bytes);
  return frame(FrameType::kWindow, static_cast<std::uint8_t>(stream), w.bytes());
}

std::vector<std::byte> encode_signal(std::uint32_t signal) {
  ByteWriter w;
  w.put(signal);
  return frame(FrameType::kSignal, std::move(w));
}

std::vector<std::byte> encode_attach_main() { return frame(FrameType::kAttachMain, {}); }

std::vector<std::byte> encode_signal_main(std::uint32_t signal) {
  ByteWriter w;
  w.put(signal);
  return frame(FrameType::kSignalMain, std::move(w));
}

Result<std::uint32_t> decode_u32(std::span<const std::byte> payload) {
  ByteReader r(payload);
  const auto value = r.take<std::uint32_t>();
  if (!r.at_end()) return malformed("number");
  return *value;
}

Result<std::uint32_t> decode_signal(std::span<const std::byte> payload) {
  const std::uint32_t signal = SM_TRY(decode_u32(payload));
  if (signal >= 1 && signal <= kMaxSignal) return signal;
  return fail(Code::kCorrupt, "agent protocol: no such signal");
}

std::vector<std::byte> encode_resize(const WindowSize& size) {
  ByteWriter w;
  w.put(size.rows);
  w.put(size.columns);
  return frame(FrameType::kResize, std::move(w));
}

Result<WindowSize> decode_resize(std::span<const std::byte> payload) {
  ByteReader r(payload);
  const auto rows = r.take<std::uint16_t>();
  const auto columns = r.take<std::uint16_t>();
  if (!r.at_end()) return malformed("window size");
  return WindowSize{*rows, *columns};
}

std::vector<std::byte> encode_started(const Started& started) {
  ByteWriter w;
  w.put(started.pid);
  w.put(started.size);
  return frame(FrameType::kStarted, std::move(w));
}

Result<Started> decode_started(std::span<const std::byte> payload) {
  ByteReader r(payload);
  const auto pid = r.take<std::uint32_t>();
  const auto size = r.take<std::uint64_t>();
  if (!r.at_end()) return malformed("start report");
  return Started{*pid, *size};
}

std::vector<std::byte> encode_exit(const ExitReport& report) {
  ByteWriter w;
  w.put((report.signalled ? 1u : 0u) | (report.timed_out ? 2u : 0u));
  w.put(report.value);
  w.put(report.peak_rss_kib);
  w.put(report.duration_ns);
  w.put(report.step);
  return frame(FrameType::kExit, std::move(w));
}

Result<ExitReport> decode_exit(std::span<const std::byte> payload) {
  ByteReader r(payload);
  const auto flags = r.take<std::uint32_t>();
  const auto value = r.take<std::uint32_t>();
  const auto peak = r.take<std::uint64_t>();
  const auto duration = r.take<std::uint64_t>();
  const auto step = r.take<std::uint32_t>();
  if (!r.at_end() || *flags > 3 || *value > 255 || *step > kMaxCommands) {
    return malformed("exit report");
  }
  return ExitReport{(*flags & 1) != 0, (*flags & 2) != 0, *value, *peak, *duration, *step};
}

std::vector<std::byte> encode_error(const ErrorReport& report) {
  ByteWriter w;
  w.put(static_cast<std::uint8_t>(report.kind));
  w.put(report.errno_value);
  w.put_string(std::string_view(report.message).substr(0, kMaxMessage));
  return frame(FrameType::kError, std::move(w));
}

Result<ErrorReport> decode_error(std::span<const std::byte> payload) {
  ByteReader r(payload);
  const auto kind = r.take<std::uint8_t>();
  const auto errno_value = r.take<std::uint32_t>();
  const auto message = r.take_string(kMaxMessage);
  if (!r.at_end() || *kind < 1 || *kind > static_cast<std::uint8_t>(ErrorKind::kNoWorkload)) {
    return malformed("error report");
  }
  return ErrorReport{static_cast<ErrorKind>(*kind), *errno_value, std::string(*message)};
}

std::vector<std::byte> encode_done() { return frame(FrameType::kDone, 0, {}); }

ResumeRequest::~ResumeRequest() {
  wipe(seed);
  wipe(secrets);
}

std::string_view step_name(ResumeStep step) {
  constexpr std::array<std::string_view, kResumeSteps> kNames = {
      "random numbers", "clock",      "hostname",   "hosts file",
      "resolver",       "machine id", "generation", "environment"};
  return kNames[static_cast<std::size_t>(step) - 1];
}

Status check_resume(const ResumeRequest& q) {
  const auto bad = [](const char* what) {
    return fail(Code::kInvalidArgument, std::string("resume request: ") + what);
  };
  if (q.wall_clock_ns == 0 || q.wall_clock_ns > kMaxClock) return bad("no such time");
  if (!q.hostname.empty() && !is_hostname(q.hostname)) {
    return bad("the hostname must be 1 to 64 letters, digits, '.', '-', '_'");
  }
  const bool keep_id = q.machine_id_policy == MachineIdPolicy::kKeep;
  if (keep_id ? !q.machine_id.empty() : !is_machine_id(q.machine_id)) {
    return bad("the machine id must be 32 lower-case hexadecimal digits, not all zero");
  }
  for (const auto* words : {&q.env, &q.secrets}) {
    if (words->size() > kMaxWords ||
        !std::all_of(words->begin(), words->end(), is_environment_entry)) {
      return bad("environment and secrets must be at most 65536 times NAME=VALUE without NUL");
    }
  }
  if (q.dns.size() > kMaxNameServers || !std::all_of(q.dns.begin(), q.dns.end(), is_ip_address)) {
    return bad("name servers must be at most 16 IPv4 or IPv6 addresses");
  }
  if (q.hosts.size() > kMaxHostEntries ||
      !std::all_of(q.hosts.begin(), q.hosts.end(), is_host_entry)) {
    return bad("hosts must be at most 1024 pairs of an address and a name");
  }
  if (!q.root_disk.empty() && !is_disk_serial(q.root_disk)) {
    return bad("a disk's serial must be 1 to 20 letters, digits, '.', '_', '-'");
  }
  return {};
}

std::vector<std::byte> encode_resume(const ResumeRequest& q) {
  ByteWriter w;
  // One block of the heap, so that growing leaves no copy behind.
  w.bytes().reserve(resume_size(q));
  w.put(q.root_disk.empty() ? 0u : kFlagRootDisk);
  w.put(q.generation);
  w.put(q.wall_clock_ns);
  w.put_bytes(q.seed);
  w.put_string(q.hostname);
  w.put(static_cast<std::uint8_t>(q.machine_id_policy));
  w.put_string(q.machine_id);
  put_words(w, q.env);
  put_words(w, q.secrets);
  put_words(w, q.dns);
  w.put(static_cast<std::uint32_t>(q.hosts.size()));
  for (const HostEntry& entry : q.hosts) {
    w.put_string(entry.address);
    w.put_string(entry.name);
  }
  if (!q.root_disk.empty()) w.put_string(q.root_disk);
  auto out = frame(FrameType::kResume, 0, w.bytes());
  wipe(w.bytes());
  return out;
}

Result<ResumeRequest> decode_resume(std::span<const std::byte> payload) {
  ByteReader r(payload);
  ResumeRequest q;
  const auto flags = r.take<std::uint32_t>();
  const auto generation = r.take<std::uint32_t>();
  const auto clock = r.take<std::uint64_t>();
  const auto seed = r.take_bytes(kSeedSize);
  const auto hostname = r.take_string(kMaxHostname);
  const auto policy = r.take<std::uint8_t>();
  const auto machine_id = r.take_string(kMaxHostname);
  if (!machine_id || (*flags & ~kFlagRootDisk) != 0 ||
      *policy > static_cast<std::uint8_t>(MachineIdPolicy::kSet)) {
    return malformed("resume request");
  }
  q.generation = *generation;
  q.wall_clock_ns = *clock;
  std::copy(seed->begin(), seed->end(), q.seed.begin());
  q.hostname = *hostname;
  q.machine_id_policy = static_cast<MachineIdPolicy>(*policy);
  q.machine_id = *machine_id;
  if (!take_words(r, q.env) || !take_words(r, q.secrets) || !take_words(r, q.dns) ||
      !take_hosts(r, q.hosts)) {
    return malformed("resume request");
  }
  if ((*flags & kFlagRootDisk) != 0) {
    const auto serial = r.take_string(kMaxHostname);
    if (!serial || serial->empty()) return malformed("resume request");
    q.root_disk = *serial;
  }
  if (!r.at_end()) return malformed("resume request");
  SM_TRY_STATUS(check_resume(q));
  return q;
}

std::vector<std::byte> encode_resumed(const ResumeReport& report) {
  ByteWriter w;
  w.put(report.generation);
  w.put(static_cast<std::uint32_t>(report.steps.size()));
  for (const StepReport& step : report.steps) {
    w.put(static_cast<std::uint8_t>(step.step));
    w.put(static_cast<std::uint8_t>(step.result));
  }
  return frame(FrameType::kResumed, std::move(w));
}

Result<ResumeReport> decode_resumed(std::span<const std::byte> payload) {
  ByteReader r(payload);
  ResumeReport report;
  const auto generation = r.take<std::uint32_t>();
  const auto count = r.take<std::uint32_t>();
  if (!count || *count != kResumeSteps) return malformed("resume report");
  report.generation = *generation;
  for (std::uint8_t number = 1; number <= kResumeSteps; ++number) {
    const auto step = r.take<std::uint8_t>();
    const auto result = r.take<std::uint8_t>();
    if (!result || *step != number || *result < 1 ||
        *result > static_cast<std::uint8_t>(StepResult::kSkipped)) {
      return malformed("resume report");
    }
    report.steps.push_back({static_cast<ResumeStep>(*step), static_cast<StepResult>(*result)});
  }
  if (!r.at_end()) return malformed("resume report");
  return report;
}

void FrameParser::feed(std::span<const std::byte> bytes) {
  // Drop what was consumed before growing, so that the buffer stays near one frame's size.
  if (start_ > 0) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(start_));
    start_ = 0;
  }
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

Result<std::optional<Frame>> FrameParser::next() {
  const auto available = std::span<const std::byte>(buffer_).subspan(start_);
  if (available.size() < kHeaderSize) return std::nullopt;
  ByteReader r(available);
  const auto length = *r.take<std::uint32_t>();
  const auto type = *r.take<std::uint8_t>();
  const auto stream = *r.take<std::uint8_t>();
  const auto reserved = *r.take<std::uint16_t>();
  if (type < 1 || type > static_cast<std::uint8_t>(FrameType::kAttachMain) || stream > 2 ||
      reserved != 0) {
    return malformed("frame header");
  }
  const auto kind = static_cast<FrameType>(type);
  if (length > (kind == FrameType::kData ? kMaxData : kMaxPayload)) {
    return fail(Code::kLimit, "agent protocol: a frame of " + std::to_string(length) + " bytes");
  }
  const auto payload = r.take_bytes(length);
  if (!payload) return std::nullopt;
  start_ += kHeaderSize + length;
  return Frame{kind, stream, {payload->begin(), payload->end()}};
}

std::vector<std::byte> FrameParser::take_rest() {
  std::vector<std::byte> rest(buffer_.begin() + static_cast<std::ptrdiff_t>(start_), buffer_.end());
  buffer_.clear();
  start_ = 0;
  return rest;
}

}  // namespace sm::agent
