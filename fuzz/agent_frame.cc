// Fuzzes the agent protocol: the frame parser, all decoders, and the agent's connections with their
// sessions. Nothing is executed: the code behind fork is replaced by small stand-ins below.
#include <fuzzer/FuzzedDataProvider.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "agent/child.h"
#include "agent/child_status.h"
#include "agent/kernel_controls.h"
#include "agent/server.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/event_loop.h"
#include "proto/agent.h"

namespace sm::guest {

// Stand-ins for the children. The first word of the request chooses what they do.
void run_exec_child(const ExecPlan& plan, const ChildDescriptors& descriptors) {
  take_descriptors(descriptors);
  ::setsid();
  SM_CHECK(
      agent::check_container({plan.settings, plan.machine.value_or(agent::MachineSettings{})}));
  if (plan.wait_for_release) {
    report_prepared();
    char byte = 0;
    if (::read(kChildStatusFd, &byte, 1) <= 0) ::_exit(1);
  }
  if (plan.argv[0] == "fail") fail_child(agent::ErrorKind::kExecNotFound, ENOENT, "fail");
  ::close(kChildStatusFd);
  char buffer[4096] = {};
  if (plan.argv[0] == "write") {
    for (int i = 0; i < 100 && ::write(1 + i % 2, buffer, sizeof(buffer)) > 0; ++i) {
    }
  }
  if (plan.argv[0] == "copy") {
    for (ssize_t n = 1; n > 0;) {
      n = ::read(0, buffer, sizeof(buffer));
      if (n > 0 && ::write(1, buffer, static_cast<std::size_t>(n)) < 0) break;
    }
  }
  ::_exit(plan.argv[0] == "end" ? 1 : 0);
}

void run_read_child(const std::string& path, const ChildDescriptors& descriptors) {
  take_descriptors(descriptors);
  if (path.size() % 2 == 0) fail_child(agent::ErrorKind::kFile, ENOENT, path);
  report_size(path.size());
  ::_exit(::write(1, path.data(), path.size()) < 0 ? 1 : 0);
}

void run_write_child(const agent::FileRequest&, const ChildDescriptors& descriptors) {
  take_descriptors(descriptors);
  char buffer[4096];
  while (::read(0, buffer, sizeof(buffer)) > 0) {
  }
  ::_exit(0);
}

void run_resume_child(const ResumePlan& plan, const ChildDescriptors& descriptors) {
  take_descriptors(descriptors);
  SM_CHECK(!plan.new_hostname || is_hostname(plan.hostname));
  if (plan.hostname == "fail") fail_child(agent::ErrorKind::kResume, EROFS, "fail");
  if (plan.hostname == "end") ::_exit(0);
  for (auto step = static_cast<std::uint8_t>(agent::ResumeStep::kHostname);
       step <= static_cast<std::uint8_t>(agent::ResumeStep::kGeneration); ++step) {
    report_step({static_cast<agent::ResumeStep>(step), agent::StepResult::kDone});
  }
  ::_exit(0);
}

namespace {

using agent::Stream;

// A kernel on which now and then a step fails.
class UncertainKernel final : public KernelControls {
 public:
  explicit UncertainKernel(FuzzedDataProvider& input) : input_(input) {}
  Status seed_random(std::span<const std::byte>) override { return outcome(); }
  Status set_clock(std::uint64_t) override { return outcome(); }
  Status set_hostname(const std::string&) override { return outcome(); }
  Status follow_root() override { return outcome(); }

 private:
  Status outcome() {
    if (input_.ConsumeIntegralInRange<int>(0, 15) == 0) return fail_errno("kernel", EPERM);
    return {};
  }
  FuzzedDataProvider& input_;
};

void decode_everything(std::span<const std::byte> bytes) {
  static_cast<void>(agent::decode_hello(bytes));
  static_cast<void>(agent::decode_file(bytes));
  static_cast<void>(agent::decode_u32(bytes));
  if (const auto signal = agent::decode_signal(bytes)) {
    SM_CHECK(*signal >= 1 && *signal <= agent::kMaxSignal);
  }
  static_cast<void>(agent::decode_resize(bytes));
  static_cast<void>(agent::decode_started(bytes));
  static_cast<void>(agent::decode_exit(bytes));
  if (const auto report = agent::decode_resumed(bytes)) {
    for (const agent::StepReport& step : report->steps) {
      SM_CHECK(!agent::step_name(step.step).empty());
    }
  }
  if (const auto resume = agent::decode_resume(bytes)) {
    const auto frame = agent::encode_resume(*resume);
    SM_CHECK(
        std::equal(bytes.begin(), bytes.end(), frame.begin() + agent::kHeaderSize, frame.end()));
  }
  ByteReader container(bytes);
  if (const auto settings = agent::take_container(container); settings && container.at_end()) {
    ByteWriter again;
    agent::put_container(again, *settings);
    SM_CHECK(std::equal(bytes.begin(), bytes.end(), again.bytes().begin(), again.bytes().end()));
  }
  static_cast<void>(decode_settings(bytes));
  if (const auto error = agent::decode_error(bytes)) {
    SM_CHECK(agent::encode_error(*error).size() <= agent::kHeaderSize + 16 + 4096);
  }
  // What was decoded encodes to what decodes to the same again.
  if (const auto exec = agent::decode_exec(bytes)) {
    const auto frame = agent::encode_exec(*exec);
    const auto again = agent::decode_exec(std::span(frame).subspan(agent::kHeaderSize));
    SM_CHECK(again && again->argv == exec->argv && again->env == exec->env);
    SM_CHECK(again->chain == exec->chain && again->files.size() == exec->files.size());
    SM_CHECK(again->cwd == exec->cwd && again->user == exec->user && again->main == exec->main);
    SM_CHECK(again->container == exec->container);
    SM_CHECK(!exec->container || agent::check_container(*exec->container));
  }
}

// Container settings of every kind with some bytes changed: what is still accepted keeps the rules.
void change_container(FuzzedDataProvider& input) {
  agent::ContainerSettings all;
  all.process.capabilities = 5;
  all.process.ulimits = {{7, 1, 2}, {4, 0, agent::kUnlimited}};
  all.process.groups = {"a", "7"};
  all.machine.domainname = "d";
  all.machine.hosts = {{"10.0.0.1", "h"}};
  all.machine.dns = {"::1"};
  all.machine.dns_search = {"."};
  all.machine.dns_options = {"o:1"};
  all.machine.tmpfs = {{"/t", 1, "size=1m"}};
  all.machine.sysctls = {{"k/x", "1"}};
  ByteWriter writer;
  agent::put_container(writer, all);
  std::vector<std::byte> bytes = writer.release();
  while (input.remaining_bytes() != 0) {
    const auto at = input.ConsumeIntegralInRange<std::size_t>(0, bytes.size() - 1);
    bytes[at] = std::byte{input.ConsumeIntegral<std::uint8_t>()};
    ByteReader reader(bytes);
    const auto settings = agent::take_container(reader);
    SM_CHECK(!settings || agent::check_container(*settings));
  }
  decode_everything(bytes);
}

void parse_in_pieces(FuzzedDataProvider& input) {
  agent::FrameParser parser;
  std::size_t fed = 0, taken = 0;
  while (input.remaining_bytes() > 0) {
    const auto piece =
        input.ConsumeBytes<std::uint8_t>(input.ConsumeIntegralInRange<std::size_t>(1, 1000));
    parser.feed(std::as_bytes(std::span(piece)));
    fed += piece.size();
    for (;;) {
      auto frame = parser.next();
      if (!frame) return;
      if (!*frame) break;
      taken += agent::kHeaderSize + (*frame)->payload.size();
      SM_CHECK(taken <= fed);
      decode_everything((*frame)->payload);
    }
  }
  SM_CHECK(parser.take_rest().size() == fed - taken);
}

// A host that talks to a server of its own in the same thread.
class Machine {
 public:
  explicit Machine(FuzzedDataProvider& input) : input_(input), loop_(*EventLoop::create()) {
    auto ends = *make_link();
    init_ = std::move(ends.init);
    ServerOptions options;
    options.max_connections = 4;
    options.request_timeout = options.close_timeout = options.connect_timeout =
        input.ConsumeBool() ? Duration{1} : Duration{std::chrono::seconds(60)};
    options.generation = [this] { return generation_; };
    options.kernel = std::make_unique<UncertainKernel>(input);
    server_ = std::make_unique<Server>(*loop_, std::move(ends.agent), std::move(options));
  }
  ~Machine() {
    hosts_.clear();
    for (int i = 0; i < 4; ++i) turn();
  }

  void run() {
    for (int steps = 0; steps < 200 && input_.remaining_bytes() != 0; ++steps) {
      step(input_.ConsumeIntegralInRange<int>(0, 19));
      SM_CHECK(server_->connections() <= 4 + 1);
      drain_link();
    }
  }

 private:
  void turn() { loop_->run_once(Deadline::after(std::chrono::milliseconds(1))); }

  void drain_link() {
    for (;;) {
      const auto message = receive_link(init_.get());
      SM_CHECK(message.has_value());
      if (!*message) return;
      SM_CHECK((*message)->type == LinkType::kWorkloadStart ||
               ((*message)->type == LinkType::kWorkloadExit && (*message)->value <= 255));
    }
  }
  void connect() {
    int fds[2];
    SM_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
    hosts_.emplace_back(fds[0]);
    if (hosts_.size() > 6) hosts_.erase(hosts_.begin());
    server_->adopt(UniqueFd(fds[1]));
    if (input_.ConsumeIntegralInRange<int>(0, 7) != 0) send(agent::encode_hello({}));
  }
  void send(std::span<const std::byte> bytes) {
    if (hosts_.empty()) return;
    // Mostly the newest connection, which is the one in the middle of something.
    const bool newest = input_.ConsumeIntegralInRange<int>(0, 3) != 0;
    const auto at = newest ? hosts_.size() - 1
                           : input_.ConsumeIntegralInRange<std::size_t>(0, hosts_.size() - 1);
    if (::send(hosts_[at].get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) return;
  }
  void send_exec() {
    agent::ExecRequest request;
    request.argv = {input_.PickValueInArray<std::string>({"fail", "write", "copy", "end"})};
    request.main = input_.ConsumeIntegralInRange<int>(0, 3) == 0;
    request.detached = input_.ConsumeIntegralInRange<int>(0, 7) == 0;
    if (request.detached) return send(agent::encode_exec(request));
    request.tty = input_.ConsumeIntegralInRange<int>(0, 7) == 0;
    request.keep_stdin = input_.ConsumeBool();
    if (!request.main && !request.tty) {
      request.chain.assign(input_.ConsumeIntegralInRange<std::size_t>(0, 3), request.argv);
    }
    if (input_.ConsumeIntegralInRange<int>(0, 3) == 0) {
      agent::ContainerSettings& settings = request.container.emplace();
      settings.process.groups = {input_.ConsumeRandomLengthString(4)};
      settings.process.oom_score_adj = input_.ConsumeIntegralInRange<int>(-1001, 1001);
      settings.machine.tmpfs = {{"/" + input_.ConsumeRandomLengthString(4), 0, ""}};
    }
    request.timeout_ms = input_.ConsumeIntegralInRange<std::uint64_t>(0, 3);
    send(agent::encode_exec(request));
  }
  void send_file() {
    const auto type =
        input_.ConsumeBool() ? agent::FrameType::kReadFile : agent::FrameType::kWriteFile;
    send(agent::encode_file(type, {.path = "/" + input_.ConsumeRandomLengthString(8),
                                   .size = input_.ConsumeIntegralInRange<std::uint64_t>(0, 9)}));
  }
  void send_resume() {
    agent::ResumeRequest request;
    request.generation = input_.ConsumeIntegralInRange<int>(0, 7) == 0 ? 99 : generation_;
    request.wall_clock_ns = 1;
    request.hostname =
        input_.PickValueInArray<std::string>({"", "fail", "end", "name", "bad name"});
    request.secrets = {"S=" + std::string(input_.ConsumeIntegralInRange<std::size_t>(0, 99), 'x')};
    send(agent::encode_resume(request));
  }
  Stream stream() { return static_cast<Stream>(input_.ConsumeIntegralInRange<int>(0, 3)); }

  void step(int what) {
    switch (what) {
      case 0:
      case 1:
        return connect();
      case 2:
      case 3:
        return send_exec();
      case 4:
        return send_file();
      case 5:
        return send(agent::encode_forward(input_.ConsumeIntegralInRange<std::uint32_t>(0, 1)));
      case 6:
        return send(agent::encode_data(
            stream(),
            std::vector<std::byte>(input_.ConsumeIntegralInRange<std::size_t>(0, 70000))));
      case 7:
        return send(agent::encode_window(stream(), input_.ConsumeIntegral<std::uint32_t>()));
      case 8:
        return send(agent::encode_signal(input_.ConsumeIntegralInRange<std::uint32_t>(0, 66)));
      case 9:
        return send(agent::encode_resize({input_.ConsumeIntegral<std::uint16_t>(), 80}));
      case 10: {
        const auto bytes = input_.ConsumeBytes<std::uint8_t>(20);
        return send(std::as_bytes(std::span(bytes)));
      }
      case 11:
        if (!hosts_.empty()) hosts_.pop_back();
        return;
      case 12: {
        char buffer[65536];
        if (!hosts_.empty() && ::recv(hosts_.back().get(), buffer, sizeof(buffer), 0) < 0) return;
        return;
      }
      case 13: {
        const auto type = input_.ConsumeBool() ? LinkType::kRelease : LinkType::kSignal;
        return static_cast<void>(send_link(init_.get(), {type, SIGTERM}));
      }
      case 14:
        return send_resume();
      case 15:
        // As a restore does, but for the connections that it resets.
        if (input_.ConsumeIntegralInRange<int>(0, 3) == 0) ++generation_;
        return;
      case 16:
        return send(agent::encode_signal_main(input_.ConsumeIntegralInRange<std::uint32_t>(0, 66)));
      case 17:
        return send(agent::encode_attach_main());
      default:
        return turn();
    }
  }

  FuzzedDataProvider& input_;
  std::uint32_t generation_ = 0;
  std::unique_ptr<EventLoop> loop_;
  UniqueFd init_;
  std::unique_ptr<Server> server_;
  std::vector<UniqueFd> hosts_;
};

}  // namespace
}  // namespace sm::guest

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool prepared = [] {
    // As the agent's main does: a closed peer is an error value, not a signal.
    ::signal(SIGPIPE, SIG_IGN);
    return true;
  }();
  static_cast<void>(prepared);
  FuzzedDataProvider input(data, size);
  switch (input.ConsumeIntegralInRange<int>(0, 15)) {
    case 0:
      sm::guest::Machine(input).run();
      break;
    case 1:
    case 2:
      sm::guest::change_container(input);
      break;
    default:
      sm::guest::parse_in_pieces(input);
  }
  return 0;
}
