#include <supermachine/exec.h>

#include <algorithm>
#include <utility>

#include "api/errors.h"
#include "api/vm_impl.h"
#include "base/bytes.h"
#include "runtime/client/detached_exec.h"
#include "runtime/run_options.h"

namespace supermachine {

namespace {

using sm::agent::ExecRequest;
using sm::agent::Stream;

bool has_nul(const std::string& text) { return text.find('\0') != std::string::npos; }

tl::unexpected<sm::Error> invalid(const std::string& cause, const std::string& remedy) {
  return sm::fail(sm::Code::kInvalidArgument, cause, remedy);
}

// What the guest's agent would refuse as a broken message.
sm::Status check_words(const std::vector<std::string>& words) {
  if (words.empty()) return invalid("no program to run", "name one with argv()");
  if (std::any_of(words.begin(), words.end(), has_nul)) {
    return invalid("a word of the command '" + words[0] + "' holds NUL", "pass such data as input");
  }
  return {};
}

sm::Status check_files(const ExecRequest& request) {
  if (request.files.size() > sm::agent::kMaxStagedFiles) {
    return invalid("more than 1024 staged files", "write an archive and unpack it in the guest");
  }
  for (const auto& file : request.files) {
    if (file.path.empty() || file.path[0] != '/' || has_nul(file.path) || file.mode > 07777 ||
        file.path.size() > sm::agent::kMaxPath) {
      return invalid("'" + file.path.substr(0, file.path.find('\0')) + "' cannot be staged",
                     "use an absolute path and a mode up to 07777");
    }
  }
  return {};
}

}  // namespace

sm::Status check_request(const ExecRequest& request) {
  SM_TRY_STATUS(check_words(request.argv));
  if (request.detached && (request.tty || request.timeout_ms != 0 || !request.chain.empty())) {
    return invalid("a detached program on a terminal, with a timeout or with chained commands",
                   "run a script instead");
  }
  if (!request.output.empty() && (request.output[0] != '/' || has_nul(request.output) ||
                                  request.output.size() > sm::agent::kMaxPath)) {
    return invalid("the output file of a detached program is not an absolute path",
                   "use an absolute path in the guest");
  }
  for (const auto& words : request.chain) SM_TRY_STATUS(check_words(words));
  if (request.chain.size() > sm::agent::kMaxCommands) {
    return invalid("more than 1024 chained commands", "run a script instead");
  }
  if (!request.chain.empty() && (request.main || request.tty)) {
    return invalid("chained commands on a terminal or of a workload", "run a script instead");
  }
  if (has_nul(request.cwd) || has_nul(request.user) ||
      (!request.cwd.empty() && request.cwd[0] != '/')) {
    return invalid("the folder or user holds NUL, or the folder is not absolute",
                   "use an absolute path and a plain name");
  }
  return check_files(request);
}

void add_defaults(const Image::Impl& image, const std::vector<std::string>& vm_env,
                  ExecRequest& request) {
  if (!request.main) {
    request.create_cwd = request.cwd.empty();
    if (request.cwd.empty()) request.cwd = image.defaults.workdir;
    if (request.cwd.empty()) request.cwd = image.config.working_dir;
    if (request.user.empty()) request.user = image.defaults.user;
    if (request.user.empty()) request.user = image.config.user;
  }
  std::vector<std::string> env;
  for (const std::string& variable : image.config.env) {
    if (variable.find('=') != std::string::npos) env.push_back(variable);
  }
  for (const auto* more : {&image.defaults.env, &vm_env, &std::as_const(request.env)}) {
    env.insert(env.end(), more->begin(), more->end());
  }
  request.env = std::move(env);
}

namespace {

// The image's own command, as `supermachine run` would start it.
sm::Result<ExecRequest> workload_request(const Image::Impl& image, const ExecRequest& wanted) {
  sm::RunOptions options;
  options.image = image.reference;
  options.command = wanted.argv.empty() ? image.defaults.command : wanted.argv;
  options.workdir = wanted.cwd.empty() ? image.defaults.workdir : wanted.cwd;
  options.user = wanted.user.empty() ? image.defaults.user : wanted.user;
  const auto no_host = [](const std::string&) { return std::optional<std::string>(); };
  ExecRequest made = SM_TRY(sm::make_request(options, image.config, {}, no_host));
  ExecRequest out = wanted;
  out.argv = std::move(made.argv);
  out.cwd = std::move(made.cwd);
  out.user = std::move(made.user);
  out.create_cwd = true;
  return out;
}

// What image and configuration add to what the builder says.
sm::Result<ExecRequest> full_request(const ExecBuilder::Impl& builder,
                                     const std::function<void(ExecRequest&)>& change = {}) {
  if (builder.error) return sm::fail(*builder.error);
  const Image::Impl& image = *builder.vm->image;
  ExecRequest out = builder.request;
  if (out.main) out = SM_TRY(workload_request(image, builder.request));
  add_defaults(image, builder.vm->env, out);
  if (change) change(out);
  SM_TRY_STATUS(check_request(out));
  return out;
}

// A VM has one workload.
sm::Status claim_workload(Vm::Impl& vm) {
  const std::lock_guard lock(vm.mutex);
  if (std::exchange(vm.workload_claimed, true)) {
    return sm::fail(sm::Code::kInvalidArgument, "the VM's workload was started before",
                    "start a new VM, or run the command with exec_builder()");
  }
  return {};
}

void fill(ExecStatus& out, const sm::agent::ExitReport& report) {
  const int value = static_cast<int>(report.value);
  out.code = report.signalled ? 128 + value : value;
  out.signal = report.signalled ? value : 0;
  out.timed_out = report.timed_out;
  out.step = report.step;
  out.peak_rss_kib = report.peak_rss_kib;
  out.duration = std::chrono::nanoseconds(report.duration_ns);
}

std::string text_of(const std::vector<std::byte>& bytes) { return std::string(sm::as_text(bytes)); }

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = sm::as_byte_span(text);
  return {bytes.begin(), bytes.end()};
}

}  // namespace

ExecBuilder::ExecBuilder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ExecBuilder::~ExecBuilder() = default;
ExecBuilder::ExecBuilder(ExecBuilder&&) noexcept = default;
ExecBuilder& ExecBuilder::operator=(ExecBuilder&&) noexcept = default;

ExecBuilder& ExecBuilder::argv(std::vector<std::string> words) {
  impl_->request.argv = std::move(words);
  return *this;
}

ExecBuilder& ExecBuilder::env(const std::string& name, const std::string& value) {
  auto variable = make_variable(name, value);
  if (variable) {
    impl_->request.env.push_back(std::move(*variable));
  } else if (!impl_->error) {
    impl_->error = std::move(variable).error();
  }
  return *this;
}

ExecBuilder& ExecBuilder::cwd(const std::string& path) {
  impl_->request.cwd = path;
  return *this;
}

ExecBuilder& ExecBuilder::user(const std::string& user) {
  impl_->request.user = user;
  return *this;
}

ExecBuilder& ExecBuilder::tty(bool on) {
  impl_->request.tty = on;
  return *this;
}

ExecBuilder& ExecBuilder::window(WindowSize size) {
  impl_->request.window = {size.rows, size.columns};
  return *this;
}

ExecBuilder& ExecBuilder::timeout(std::chrono::milliseconds limit) {
  const auto count = std::max<std::chrono::milliseconds::rep>(limit.count(), 0);
  impl_->request.timeout_ms = static_cast<std::uint64_t>(count);
  return *this;
}

ExecBuilder& ExecBuilder::stdin_bytes(std::string bytes) {
  impl_->input = std::move(bytes);
  impl_->has_input = true;
  return *this;
}

ExecBuilder& ExecBuilder::keep_stdin(bool on) {
  impl_->request.keep_stdin = on;
  return *this;
}

ExecBuilder& ExecBuilder::stage_file(const std::string& path, std::string content,
                                     std::uint32_t mode) {
  impl_->request.files.push_back({path, mode, std::move(content)});
  return *this;
}

ExecBuilder& ExecBuilder::chain(std::vector<std::string> words) {
  impl_->request.chain.push_back(std::move(words));
  return *this;
}

ExecBuilder& ExecBuilder::output_limit(std::size_t bytes) {
  impl_->output_limit = bytes;
  return *this;
}

namespace {

using ClientPtr = std::shared_ptr<sm::ExecClient>;

// `keep_stdin` as spawn() and output() need it.
sm::Result<ExecRequest> prepare(const ExecBuilder::Impl& builder, bool keep_stdin) {
  ExecRequest request = SM_TRY(full_request(builder));
  request.keep_stdin = keep_stdin;
  if (request.main) SM_TRY_STATUS(claim_workload(*builder.vm));
  return request;
}

void spawn_on(const ExecBuilder::Impl& builder, const Done<ClientPtr>& done) {
  const auto request = prepare(builder, builder.request.keep_stdin || builder.has_input);
  if (!request) return done(to_public(request.error(), Operation::kOther));
  sm::ExecClient::start(
      builder.vm->context->loop, builder.vm->target(), *request,
      [vm = builder.vm, done, main = request->main, close_after = !builder.request.keep_stdin,
       input = builder.has_input ? std::optional(builder.input)
                                 : std::nullopt](sm::Result<ClientPtr> client) {
        if (!client) return done(to_public(client.error(), Operation::kExec));
        if (main) {
          const std::lock_guard lock(vm->mutex);
          vm->workload_client = *client;
        }
        if (input) {
          (*client)->write(bytes_of(*input), [c = *client, close_after](const sm::Status&) {
            if (close_after) c->close_input([](const sm::Status&) {});
          });
        }
        done(std::move(*client));
      });
}

void detach_on(const ExecBuilder::Impl& builder, const std::string& output,
               const Done<std::uint32_t>& done) {
  if (builder.has_input || builder.request.keep_stdin) {
    return done(Error(ErrorCode::kInvalidArgument, "a detached program with standard input",
                      "stage a file for it"));
  }
  auto request = full_request(builder, [&output](ExecRequest& r) {
    r.detached = true;
    r.output = output;
  });
  if (!request) return done(to_public(request.error(), Operation::kOther));
  const bool main = request->main;
  if (main) {
    if (auto status = claim_workload(*builder.vm); !status) {
      return done(to_public(status.error(), Operation::kOther));
    }
  }
  sm::detached_exec(builder.vm->context->loop, builder.vm->target(), *request,
                    [vm = builder.vm, main, done](const sm::Result<std::uint32_t>& pid) {
                      if (!pid) return done(to_public(pid.error(), Operation::kExec));
                      if (main) {
                        const std::lock_guard lock(vm->mutex);
                        vm->workload_detached = true;
                      }
                      done(*pid);
                    });
}

void output_on(const ExecBuilder::Impl& builder, const Done<ExecOutcome>& done) {
  const auto request = prepare(builder, builder.has_input);
  if (!request) return done(to_public(request.error(), Operation::kOther));
  sm::run_exec(builder.vm->context->loop, builder.vm->target(), *request, bytes_of(builder.input),
               builder.output_limit, [done](const sm::Result<sm::ExecOutput>& output) {
                 if (!output) return done(to_public(output.error(), Operation::kExec));
                 ExecOutcome outcome;
                 fill(outcome, output->report);
                 outcome.out = text_of(output->out);
                 outcome.err = text_of(output->err);
                 done(std::move(outcome));
               });
}

}  // namespace

Result<ExecChild> ExecBuilder::spawn() {
  const ContextPtr& context = impl_->vm->context;
  auto client = await<ClientPtr>(context, [&](const Done<ClientPtr>& d) { spawn_on(*impl_, d); });
  if (!client) return client.error();
  return ExecChild(std::make_unique<ExecChild::Impl>(context, std::move(*client)));
}

void ExecBuilder::spawn_async(std::function<void(Result<ExecChild>)> done) {
  const ContextPtr& context = impl_->vm->context;
  const auto answer = delivered<ExecChild>(context, std::move(done));
  spawn_on(*impl_, [context, answer](Result<ClientPtr> client) {
    if (!client) return answer(client.error());
    answer(ExecChild(std::make_unique<ExecChild::Impl>(context, std::move(*client))));
  });
}

Result<ExecOutcome> ExecBuilder::output() {
  return await<ExecOutcome>(impl_->vm->context,
                            [&](const Done<ExecOutcome>& d) { output_on(*impl_, d); });
}

void ExecBuilder::output_async(std::function<void(Result<ExecOutcome>)> done) {
  output_on(*impl_, delivered<ExecOutcome>(impl_->vm->context, std::move(done)));
}

Result<std::uint32_t> ExecBuilder::detach(const std::string& output) {
  return await<std::uint32_t>(impl_->vm->context,
                              [&](const Done<std::uint32_t>& d) { detach_on(*impl_, output, d); });
}

void ExecBuilder::detach_async(const std::string& output,
                               std::function<void(Result<std::uint32_t>)> done) {
  detach_on(*impl_, output, delivered<std::uint32_t>(impl_->vm->context, std::move(done)));
}

ExecChild::ExecChild(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ExecChild::~ExecChild() = default;
ExecChild::ExecChild(ExecChild&&) noexcept = default;
ExecChild& ExecChild::operator=(ExecChild&&) noexcept = default;

std::uint32_t ExecChild::pid() const { return impl_->client->pid(); }

namespace {

void read_on(sm::ExecClient& client, Stream stream, std::size_t max,
             const Done<std::string>& done) {
  client.read(stream, max, [done](const sm::Result<std::vector<std::byte>>& bytes) {
    if (!bytes) return done(to_public(bytes.error(), Operation::kExec));
    done(text_of(*bytes));
  });
}

std::function<void(sm::Status)> status_to(const Done<void>& done) {
  return [done](const sm::Status& status) { done(to_public(status, Operation::kExec)); };
}

void wait_on(sm::ExecClient& client, const Done<ExecStatus>& done) {
  client.wait([done](const sm::Result<sm::agent::ExitReport>& report) {
    if (!report) return done(to_public(report.error(), Operation::kExec));
    ExecStatus status;
    fill(status, *report);
    done(status);
  });
}

}  // namespace

Result<std::string> ExecChild::read_stdout(std::size_t max) {
  return await<std::string>(impl_->context, [&](const Done<std::string>& done) {
    read_on(*impl_->client, Stream::kStdout, max, done);
  });
}

Result<std::string> ExecChild::read_stderr(std::size_t max) {
  return await<std::string>(impl_->context, [&](const Done<std::string>& done) {
    read_on(*impl_->client, Stream::kStderr, max, done);
  });
}

void ExecChild::read_stdout_async(std::size_t max, std::function<void(Result<std::string>)> done) {
  read_on(*impl_->client, Stream::kStdout, max,
          delivered<std::string>(impl_->context, std::move(done)));
}

void ExecChild::read_stderr_async(std::size_t max, std::function<void(Result<std::string>)> done) {
  read_on(*impl_->client, Stream::kStderr, max,
          delivered<std::string>(impl_->context, std::move(done)));
}

Result<void> ExecChild::write_stdin(std::string_view bytes) {
  return await<void>(impl_->context, [&](const Done<void>& done) {
    impl_->client->write(bytes_of(bytes), status_to(done));
  });
}

void ExecChild::write_stdin_async(std::string_view bytes, std::function<void(Result<void>)> done) {
  impl_->client->write(bytes_of(bytes),
                       status_to(delivered<void>(impl_->context, std::move(done))));
}

Result<void> ExecChild::close_stdin() {
  return await<void>(impl_->context,
                     [&](const Done<void>& done) { impl_->client->close_input(status_to(done)); });
}

Result<ExecStatus> ExecChild::wait() {
  return await<ExecStatus>(impl_->context,
                           [&](const Done<ExecStatus>& done) { wait_on(*impl_->client, done); });
}

void ExecChild::wait_async(std::function<void(Result<ExecStatus>)> done) {
  wait_on(*impl_->client, delivered<ExecStatus>(impl_->context, std::move(done)));
}

Result<void> ExecChild::signal(int number) {
  return await<void>(impl_->context, [&](const Done<void>& done) {
    impl_->client->signal(number, status_to(done));
  });
}

Result<void> ExecChild::resize(WindowSize size) {
  return await<void>(impl_->context, [&](const Done<void>& done) {
    impl_->client->resize({size.rows, size.columns}, status_to(done));
  });
}

}  // namespace supermachine
