// The C interface, on top of the C++ one.

#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include "api/c_handles.h"

using supermachine::Error;
using supermachine::ErrorCode;
using supermachine::Result;
using namespace supermachine::c;

extern "C" {

const char* supermachine_version(void) { return SM_VERSION; }

supermachine_error_code supermachine_error_get_code(const supermachine_error* error) {
  return static_cast<supermachine_error_code>(error->error.code());
}
const char* supermachine_error_get_cause(const supermachine_error* error) {
  return error->error.cause().c_str();
}
const char* supermachine_error_get_remedy(const supermachine_error* error) {
  return error->error.remedy().c_str();
}
void supermachine_error_free(supermachine_error* error) { delete error; }

supermachine_context* supermachine_context_new(const supermachine_context_options* options,
                                               supermachine_error** error) {
  const auto o = sized(options);
  supermachine::ContextOptions out;
  out.assets_dir = text(o.assets_dir);
  out.cache_dir = text(o.cache_dir);
  out.runtime_dir = text(o.runtime_dir);
  if (o.max_concurrent_starts > 0) out.max_concurrent_starts = o.max_concurrent_starts;
  if (o.reserve_memory_mib > 0) out.reserve_memory_mib = o.reserve_memory_mib;
  if (o.queue_completions != 0) out.completions = supermachine::Completions::kQueue;
  return give<supermachine_context>(supermachine::Context::create(out), error);
}
void supermachine_context_free(supermachine_context* context) { delete context; }
int supermachine_context_completion_fd(const supermachine_context* context) {
  return context->context.completion_fd();
}
size_t supermachine_context_dispatch(supermachine_context* context) {
  return context->context.dispatch_completions();
}

supermachine_image* supermachine_image_from_oci(const supermachine_context* context,
                                                const char* reference, supermachine_error** error) {
  return give<supermachine_image>(supermachine::Image::from_oci(context->context, text(reference)),
                                  error);
}
supermachine_image* supermachine_image_from_snapshot(const supermachine_context* context,
                                                     const char* dir, supermachine_error** error) {
  return give<supermachine_image>(supermachine::Image::from_snapshot(context->context, text(dir)),
                                  error);
}
const char* supermachine_image_digest(const supermachine_image* image) {
  return image->image.digest().c_str();
}
void supermachine_image_free(supermachine_image* image) { delete image; }

supermachine_vm* supermachine_vm_start(const supermachine_image* image,
                                       const supermachine_vm_config* config,
                                       supermachine_error** error) {
  const auto c = config_of(config);
  if (!c) return put_error(c.error(), error), nullptr;
  return give<supermachine_vm>(supermachine::Vm::start(image->image, *c), error);
}
void supermachine_vm_start_async(const supermachine_image* image,
                                 const supermachine_vm_config* config,
                                 void (*done)(void*, supermachine_vm*, supermachine_error*),
                                 void* user) {
  const auto c = config_of(config);
  if (!c) return done(user, nullptr, new supermachine_error{c.error()});
  supermachine::Vm::start_async(image->image, *c,
                                giving<supermachine_vm, supermachine::Vm>(done, user));
}
const char* supermachine_vm_id(const supermachine_vm* vm) {
  return const_cast<supermachine_vm*>(vm)->get().id().c_str();
}
int supermachine_vm_alive(const supermachine_vm* vm) {
  return const_cast<supermachine_vm*>(vm)->get().alive() ? 1 : 0;
}
int supermachine_vm_write_file(supermachine_vm* vm, const char* path, const void* data, size_t size,
                               uint32_t mode, supermachine_error** error) {
  return status_of(vm->get().write_file(text(path), bytes(data, size), mode), error);
}
void* supermachine_vm_read_file(supermachine_vm* vm, const char* path, size_t limit, size_t* size,
                                supermachine_error** error) {
  const auto content = vm->get().read_file(text(path), limit);
  if (!content) return put_error(content.error(), error), nullptr;
  void* out = copy_of(*content);
  if (out == nullptr) {
    put_error(Error(ErrorCode::kLimit, "no memory for the file"), error);
    return nullptr;
  }
  *size = content->size();
  return out;
}
void supermachine_bytes_free(void* data) { std::free(data); }
int supermachine_vm_connect(supermachine_vm* vm, uint16_t guest_port, supermachine_error** error) {
  const auto fd = vm->get().connect(guest_port);
  if (fd) return *fd;
  put_error(fd.error(), error);
  return -1;
}
supermachine_forward* supermachine_vm_expose_tcp(supermachine_vm* vm, uint16_t host_port,
                                                 uint16_t guest_port, supermachine_error** error) {
  return give<supermachine_forward>(vm->get().expose_tcp(host_port, guest_port), error);
}
uint16_t supermachine_forward_port(const supermachine_forward* forward) {
  return forward->forward.port();
}
void supermachine_forward_free(supermachine_forward* forward) { delete forward; }
int supermachine_vm_signal(supermachine_vm* vm, int number, supermachine_error** error) {
  return status_of(vm->get().signal(number), error);
}
int supermachine_vm_pause(supermachine_vm* vm, supermachine_error** error) {
  return status_of(vm->get().pause(), error);
}
int supermachine_vm_resume(supermachine_vm* vm, supermachine_error** error) {
  return status_of(vm->get().resume(), error);
}
int supermachine_vm_snapshot(supermachine_vm* vm, const char* dir, supermachine_error** error) {
  return status_of(vm->get().snapshot(text(dir)), error);
}
int supermachine_vm_snapshot_live(supermachine_vm* vm, const char* dir,
                                  supermachine_error** error) {
  return status_of(vm->get().snapshot_live(text(dir)), error);
}
int supermachine_vm_snapshot_diff(supermachine_vm* vm, const char* dir, const char* base,
                                  supermachine_error** error) {
  return status_of(vm->get().snapshot_diff(text(dir), text(base)), error);
}
int supermachine_vm_stop(supermachine_vm* vm, supermachine_error** error) {
  return status_of(vm->get().stop(), error);
}
void supermachine_vm_free(supermachine_vm* vm) { delete vm; }

supermachine_exec* supermachine_exec_new(supermachine_vm* vm, const char* const* argv) {
  auto* const out = new supermachine_exec{vm->get().exec_builder()};
  out->builder.argv(words(argv));
  return out;
}
supermachine_exec* supermachine_workload_new(supermachine_vm* vm, const char* const* argv) {
  auto* const out = new supermachine_exec{vm->get().workload_builder()};
  out->builder.argv(words(argv));
  return out;
}
void supermachine_exec_env(supermachine_exec* exec, const char* name, const char* value) {
  exec->builder.env(text(name), text(value));
}
void supermachine_exec_cwd(supermachine_exec* exec, const char* path) {
  exec->builder.cwd(text(path));
}
void supermachine_exec_user(supermachine_exec* exec, const char* user) {
  exec->builder.user(text(user));
}
void supermachine_exec_timeout_ms(supermachine_exec* exec, uint64_t ms) {
  constexpr uint64_t kLongest = 1ull << 48;
  exec->builder.timeout(std::chrono::milliseconds(std::min(ms, kLongest)));
}
void supermachine_exec_stdin(supermachine_exec* exec, const void* data, size_t size) {
  exec->builder.stdin_bytes(bytes(data, size));
}
void supermachine_exec_stage_file(supermachine_exec* exec, const char* path, const void* data,
                                  size_t size, uint32_t mode) {
  exec->builder.stage_file(text(path), bytes(data, size), mode);
}
void supermachine_exec_chain(supermachine_exec* exec, const char* const* argv) {
  exec->builder.chain(words(argv));
}
void supermachine_exec_output_limit(supermachine_exec* exec, size_t limit) {
  exec->builder.output_limit(limit);
}
supermachine_outcome* supermachine_exec_output(supermachine_exec* exec,
                                               supermachine_error** error) {
  return give<supermachine_outcome>(exec->builder.output(), error);
}
void supermachine_exec_output_async(supermachine_exec* exec,
                                    void (*done)(void*, supermachine_outcome*, supermachine_error*),
                                    void* user) {
  exec->builder.output_async(giving<supermachine_outcome, supermachine::ExecOutcome>(done, user));
}
int64_t supermachine_exec_detach(supermachine_exec* exec, const char* output,
                                 supermachine_error** error) {
  const auto pid = exec->builder.detach(text(output));
  if (!pid) return put_error(pid.error(), error), -1;
  return *pid;
}
void supermachine_exec_free(supermachine_exec* exec) { delete exec; }

int supermachine_outcome_status(const supermachine_outcome* outcome) {
  return outcome->outcome.code;
}
int supermachine_outcome_timed_out(const supermachine_outcome* outcome) {
  return outcome->outcome.timed_out ? 1 : 0;
}
uint32_t supermachine_outcome_step(const supermachine_outcome* outcome) {
  return outcome->outcome.step;
}
uint64_t supermachine_outcome_peak_rss_kib(const supermachine_outcome* outcome) {
  return outcome->outcome.peak_rss_kib;
}
uint64_t supermachine_outcome_duration_ns(const supermachine_outcome* outcome) {
  return static_cast<uint64_t>(outcome->outcome.duration.count());
}
const char* supermachine_outcome_stdout(const supermachine_outcome* outcome, size_t* size) {
  if (size != nullptr) *size = outcome->outcome.out.size();
  return outcome->outcome.out.c_str();
}
const char* supermachine_outcome_stderr(const supermachine_outcome* outcome, size_t* size) {
  if (size != nullptr) *size = outcome->outcome.err.size();
  return outcome->outcome.err.c_str();
}
void supermachine_outcome_free(supermachine_outcome* outcome) { delete outcome; }

supermachine_pool* supermachine_pool_new(const supermachine_image* image,
                                         const supermachine_pool_options* options,
                                         const supermachine_vm_config* config,
                                         supermachine_error** error) {
  const auto c = config_of(config);
  if (!c) return put_error(c.error(), error), nullptr;
  const auto o = sized(options);
  constexpr uint64_t kLongest = 1ull << 40;
  supermachine::PoolBuilder builder(image->image);
  builder.min(o.min).config(*c).restore_on_release(o.keep_on_release == 0);
  if (o.max > 0) builder.max(o.max);
  if (o.idle_timeout_ms < 0) builder.idle_timeout(std::nullopt);
  if (o.idle_timeout_ms > 0) {
    const auto ms = std::min(static_cast<uint64_t>(o.idle_timeout_ms), kLongest);
    builder.idle_timeout(std::chrono::milliseconds(ms));
  }
  if (o.acquire_timeout_ms > 0) {
    builder.acquire_timeout(std::chrono::milliseconds(std::min(o.acquire_timeout_ms, kLongest)));
  }
  return give<supermachine_pool>(builder.build(), error);
}
supermachine_vm* supermachine_pool_acquire(supermachine_pool* pool, supermachine_error** error) {
  return give<supermachine_vm>(pool->pool.acquire(), error);
}
void supermachine_pool_acquire_async(supermachine_pool* pool,
                                     void (*done)(void*, supermachine_vm*, supermachine_error*),
                                     void* user) {
  pool->pool.acquire_async(giving<supermachine_vm, supermachine::PooledVm>(done, user));
}
void supermachine_pool_get_stats(const supermachine_pool* pool, supermachine_pool_stats* stats) {
  const supermachine::PoolStats s = pool->pool.stats();
  *stats = {s.alive, s.starting, s.idle,          s.leased,    s.stopping, s.waiting, s.min,
            s.max,   s.acquired, s.acquired_warm, s.timed_out, s.died,     s.failed};
}
void supermachine_pool_free(supermachine_pool* pool) { delete pool; }

}  // extern "C"
