/* The C interface of supermachine: OCI images as microVMs. Plain C11; no exception crosses it.
 *
 * Objects are opaque and made by a function that returns them; each has a function that frees it,
 * which takes NULL. Texts are NUL-terminated UTF-8 and copied; byte strings have a length.
 * A function that can fail takes `error` as its last argument: NULL, or where to put an error
 * object that the caller frees. It then returns NULL, or -1 instead of 0. Threads, blocking and
 * what each function does are as in the C++ interface (supermachine/context.h, vm.h, exec.h,
 * pool.h).
 */
#ifndef SUPERMACHINE_C_SUPERMACHINE_H
#define SUPERMACHINE_C_SUPERMACHINE_H

#include <stddef.h>
#include <stdint.h>

#define SUPERMACHINE_C_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

typedef struct supermachine_error supermachine_error;
typedef struct supermachine_context supermachine_context;
typedef struct supermachine_image supermachine_image;
typedef struct supermachine_vm supermachine_vm;
typedef struct supermachine_exec supermachine_exec;
typedef struct supermachine_outcome supermachine_outcome;
typedef struct supermachine_pool supermachine_pool;
typedef struct supermachine_forward supermachine_forward;

/* ErrorCode of the C++ interface. */
typedef enum {
  SUPERMACHINE_OK = 0,
  SUPERMACHINE_INVALID_ARGUMENT = 1,
  SUPERMACHINE_INVALID_STATE = 2,
  SUPERMACHINE_NOT_FOUND = 3,
  SUPERMACHINE_PERMISSION = 4,
  SUPERMACHINE_IMAGE_INVALID = 5,
  SUPERMACHINE_UNSUPPORTED = 6,
  SUPERMACHINE_LIMIT = 7,
  SUPERMACHINE_IO = 8,
  SUPERMACHINE_TIMEOUT = 9,
  SUPERMACHINE_START_FAILED = 10,
  SUPERMACHINE_START_TIMEOUT = 11,
  SUPERMACHINE_ACQUIRE_TIMEOUT = 12,
  SUPERMACHINE_EXEC_NOT_FOUND = 13,
  SUPERMACHINE_EXEC_DENIED = 14,
  SUPERMACHINE_CONNECT_FAILED = 15,
  SUPERMACHINE_VM_GONE = 16,
  SUPERMACHINE_CLOSED = 17,
  SUPERMACHINE_INTERNAL = 18,
  SUPERMACHINE_BAKE_FAILED = 19
} supermachine_error_code;

/* "0.1.0" */
SUPERMACHINE_C_API const char* supermachine_version(void);

SUPERMACHINE_C_API supermachine_error_code
supermachine_error_get_code(const supermachine_error* error);
/* Both live as long as the error. */
SUPERMACHINE_C_API const char* supermachine_error_get_cause(const supermachine_error* error);
SUPERMACHINE_C_API const char* supermachine_error_get_remedy(const supermachine_error* error);
SUPERMACHINE_C_API void supermachine_error_free(supermachine_error* error);

/* Every member 0 or NULL: the default. `size` is sizeof of the struct: later versions add members
 * at the end. */
typedef struct {
  size_t size;
  const char* assets_dir;
  const char* cache_dir;
  const char* runtime_dir;
  size_t max_concurrent_starts;
  uint64_t reserve_memory_mib; /* 0: 256 */
  int queue_completions;       /* not 0: Completions::kQueue */
} supermachine_context_options;

/* `options` may be NULL. */
SUPERMACHINE_C_API supermachine_context* supermachine_context_new(
    const supermachine_context_options* options, supermachine_error** error);
/* Ends every VM of the context. */
SUPERMACHINE_C_API void supermachine_context_free(supermachine_context* context);
SUPERMACHINE_C_API int supermachine_context_completion_fd(const supermachine_context* context);
SUPERMACHINE_C_API size_t supermachine_context_dispatch(supermachine_context* context);

SUPERMACHINE_C_API supermachine_image* supermachine_image_from_oci(
    const supermachine_context* context, const char* reference, supermachine_error** error);
/* A snapshot's folder: see supermachine_vm_snapshot. */
SUPERMACHINE_C_API supermachine_image* supermachine_image_from_snapshot(
    const supermachine_context* context, const char* dir, supermachine_error** error);
/* Asynchronous forms, here and below: `done` is called once, where the context's completions are
 * called, and owns what it gets: an object or a value, or else an error. */
SUPERMACHINE_C_API void supermachine_image_from_oci_async(
    const supermachine_context* context, const char* reference,
    void (*done)(void* user, supermachine_image* image, supermachine_error* error), void* user);
SUPERMACHINE_C_API void supermachine_image_from_snapshot_async(
    const supermachine_context* context, const char* dir,
    void (*done)(void* user, supermachine_image* image, supermachine_error* error), void* user);
SUPERMACHINE_C_API const char* supermachine_image_digest(const supermachine_image* image);
SUPERMACHINE_C_API void supermachine_image_free(supermachine_image* image);

/* Image::bake and BakeConfig. Every member 0 or NULL: the default. */
typedef struct {
  size_t size;
  const char* ready; /* "pre-exec", "listener[:PORT]", "heartbeat", "after-ms:N" or "request" */
  const char* log;
  const char* const* warmup; /* shell commands, ended by NULL */
  uint64_t quiesce_ms;
  uint64_t limit_ms;
  const char* engine;
  const char* tag;
  int no_cache; /* not 0: bake even if there is one of the same inputs */
  /* "request": returns 0 when the VM, which is lent, is ready. */
  int (*request)(void* user, supermachine_vm* vm);
  void* request_user;
  const char* request_name;
} supermachine_bake_options;
/* `options` may be NULL. */
SUPERMACHINE_C_API supermachine_image* supermachine_image_bake(
    const supermachine_image* image, const supermachine_bake_options* options,
    supermachine_error** error);
SUPERMACHINE_C_API void supermachine_image_bake_async(
    const supermachine_image* image, const supermachine_bake_options* options,
    void (*done)(void* user, supermachine_image* image, supermachine_error* error), void* user);

/* Image::with_warmup. */
typedef struct {
  size_t size;
  const char* const* argv; /* both ended by NULL */
  const char* const* env;  /* "NAME=value" */
  uint64_t timeout_ms;
} supermachine_warmup_command;
typedef struct {
  size_t size;
  const supermachine_warmup_command* const* commands; /* ended by NULL */
  uint64_t limit_ms;
  const char* engine;
  const char* tag;
  int no_cache;
} supermachine_warmup_options;
SUPERMACHINE_C_API supermachine_image* supermachine_image_with_warmup(
    const supermachine_image* image, const supermachine_warmup_options* options,
    supermachine_error** error);
SUPERMACHINE_C_API void supermachine_image_with_warmup_async(
    const supermachine_image* image, const supermachine_warmup_options* options,
    void (*done)(void* user, supermachine_image* image, supermachine_error* error), void* user);

typedef struct {
  size_t size;
  uint64_t memory_mib;
  uint32_t vcpus;
  const char* engine; /* "auto", "kvm" or "soft" */
  const char* hostname;
  const char* const* env; /* "NAME=value", ended by NULL */
  uint64_t start_timeout_ms;
  const char* const* secrets; /* "NAME=value", ended by NULL */
  int new_machine_id;         /* not 0: /etc/machine-id becomes a new one */
} supermachine_vm_config;

/* `config` may be NULL. */
SUPERMACHINE_C_API supermachine_vm* supermachine_vm_start(const supermachine_image* image,
                                                          const supermachine_vm_config* config,
                                                          supermachine_error** error);
SUPERMACHINE_C_API void supermachine_vm_start_async(
    const supermachine_image* image, const supermachine_vm_config* config,
    void (*done)(void* user, supermachine_vm* vm, supermachine_error* error), void* user);
SUPERMACHINE_C_API const char* supermachine_vm_id(const supermachine_vm* vm);
SUPERMACHINE_C_API int supermachine_vm_alive(const supermachine_vm* vm);
SUPERMACHINE_C_API int supermachine_vm_write_file(supermachine_vm* vm, const char* path,
                                                  const void* bytes, size_t size, uint32_t mode,
                                                  supermachine_error** error);
/* The bytes, to be freed with supermachine_bytes_free, and their number. */
SUPERMACHINE_C_API void* supermachine_vm_read_file(supermachine_vm* vm, const char* path,
                                                   size_t limit, size_t* size,
                                                   supermachine_error** error);
SUPERMACHINE_C_API void supermachine_bytes_free(void* bytes);
SUPERMACHINE_C_API void supermachine_vm_write_file_async(
    supermachine_vm* vm, const char* path, const void* bytes, size_t size, uint32_t mode,
    void (*done)(void* user, supermachine_error* error), void* user);
SUPERMACHINE_C_API void supermachine_vm_read_file_async(
    supermachine_vm* vm, const char* path, size_t limit,
    void (*done)(void* user, void* bytes, size_t size, supermachine_error* error), void* user);
/* A connected stream socket, or -1. */
SUPERMACHINE_C_API int supermachine_vm_connect(supermachine_vm* vm, uint16_t guest_port,
                                               supermachine_error** error);
SUPERMACHINE_C_API void supermachine_vm_connect_async(supermachine_vm* vm, uint16_t guest_port,
                                                      void (*done)(void* user, int fd,
                                                                   supermachine_error* error),
                                                      void* user);
SUPERMACHINE_C_API supermachine_forward* supermachine_vm_expose_tcp(supermachine_vm* vm,
                                                                    uint16_t host_port,
                                                                    uint16_t guest_port,
                                                                    supermachine_error** error);
SUPERMACHINE_C_API uint16_t supermachine_forward_port(const supermachine_forward* forward);
SUPERMACHINE_C_API void supermachine_forward_free(supermachine_forward* forward);
/* To the process group of the VM's workload. */
SUPERMACHINE_C_API int supermachine_vm_signal(supermachine_vm* vm, int number,
                                              supermachine_error** error);
SUPERMACHINE_C_API int supermachine_vm_pause(supermachine_vm* vm, supermachine_error** error);
SUPERMACHINE_C_API int supermachine_vm_resume(supermachine_vm* vm, supermachine_error** error);
SUPERMACHINE_C_API void supermachine_vm_pause_async(
    supermachine_vm* vm, void (*done)(void* user, supermachine_error* error), void* user);
SUPERMACHINE_C_API void supermachine_vm_resume_async(
    supermachine_vm* vm, void (*done)(void* user, supermachine_error* error), void* user);
/* Saves the machine in a folder: the first leaves it paused, the others do not; the last holds what
 * differs from `base`, the snapshot that the VM was started from. */
SUPERMACHINE_C_API int supermachine_vm_snapshot(supermachine_vm* vm, const char* dir,
                                                supermachine_error** error);
SUPERMACHINE_C_API int supermachine_vm_snapshot_live(supermachine_vm* vm, const char* dir,
                                                     supermachine_error** error);
SUPERMACHINE_C_API int supermachine_vm_snapshot_diff(supermachine_vm* vm, const char* dir,
                                                     const char* base, supermachine_error** error);
SUPERMACHINE_C_API void supermachine_vm_snapshot_live_async(supermachine_vm* vm, const char* dir,
                                                            void (*done)(void* user,
                                                                         supermachine_error* error),
                                                            void* user);
SUPERMACHINE_C_API void supermachine_vm_snapshot_async(supermachine_vm* vm, const char* dir,
                                                       void (*done)(void* user,
                                                                    supermachine_error* error),
                                                       void* user);
SUPERMACHINE_C_API void supermachine_vm_snapshot_diff_async(
    supermachine_vm* vm, const char* dir, const char* base,
    void (*done)(void* user, supermachine_error* error), void* user);
SUPERMACHINE_C_API void supermachine_vm_stop_async(
    supermachine_vm* vm, void (*done)(void* user, supermachine_error* error), void* user);
SUPERMACHINE_C_API int supermachine_vm_stop(supermachine_vm* vm, supermachine_error** error);
/* A VM of a pool goes back to it; any other ends. */
SUPERMACHINE_C_API void supermachine_vm_free(supermachine_vm* vm);

/* What to run: ExecBuilder. Wrong settings are reported when it is run. `argv` ends with NULL. */
SUPERMACHINE_C_API supermachine_exec* supermachine_exec_new(supermachine_vm* vm,
                                                            const char* const* argv);
/* The image's own command; `argv`, which may be NULL, replaces its CMD. */
SUPERMACHINE_C_API supermachine_exec* supermachine_workload_new(supermachine_vm* vm,
                                                                const char* const* argv);
SUPERMACHINE_C_API void supermachine_exec_env(supermachine_exec* exec, const char* name,
                                              const char* value);
SUPERMACHINE_C_API void supermachine_exec_cwd(supermachine_exec* exec, const char* path);
SUPERMACHINE_C_API void supermachine_exec_user(supermachine_exec* exec, const char* user);
SUPERMACHINE_C_API void supermachine_exec_timeout_ms(supermachine_exec* exec, uint64_t ms);
SUPERMACHINE_C_API void supermachine_exec_stdin(supermachine_exec* exec, const void* bytes,
                                                size_t size);
SUPERMACHINE_C_API void supermachine_exec_stage_file(supermachine_exec* exec, const char* path,
                                                     const void* bytes, size_t size, uint32_t mode);
SUPERMACHINE_C_API void supermachine_exec_chain(supermachine_exec* exec, const char* const* argv);
SUPERMACHINE_C_API void supermachine_exec_output_limit(supermachine_exec* exec, size_t bytes);
/* Runs it to its end. The exec may be used again. */
SUPERMACHINE_C_API supermachine_outcome* supermachine_exec_output(supermachine_exec* exec,
                                                                  supermachine_error** error);
SUPERMACHINE_C_API void supermachine_exec_output_async(
    supermachine_exec* exec,
    void (*done)(void* user, supermachine_outcome* outcome, supermachine_error* error), void* user);
/* Starts it and leaves it to itself; its id in the guest, or -1. `output`: NULL, or a file of the
 * guest. */
SUPERMACHINE_C_API int64_t supermachine_exec_detach(supermachine_exec* exec, const char* output,
                                                    supermachine_error** error);
SUPERMACHINE_C_API void supermachine_exec_detach_async(supermachine_exec* exec, const char* output,
                                                       void (*done)(void* user, int64_t pid,
                                                                    supermachine_error* error),
                                                       void* user);
SUPERMACHINE_C_API void supermachine_exec_free(supermachine_exec* exec);

/* Exit status, 128+n for a signal. */
SUPERMACHINE_C_API int supermachine_outcome_status(const supermachine_outcome* outcome);
SUPERMACHINE_C_API int supermachine_outcome_timed_out(const supermachine_outcome* outcome);
SUPERMACHINE_C_API uint32_t supermachine_outcome_step(const supermachine_outcome* outcome);
SUPERMACHINE_C_API uint64_t supermachine_outcome_peak_rss_kib(const supermachine_outcome* outcome);
SUPERMACHINE_C_API uint64_t supermachine_outcome_duration_ns(const supermachine_outcome* outcome);
/* They live as long as the outcome; a NUL follows the bytes. `size` may be NULL. */
SUPERMACHINE_C_API const char* supermachine_outcome_stdout(const supermachine_outcome* outcome,
                                                           size_t* size);
SUPERMACHINE_C_API const char* supermachine_outcome_stderr(const supermachine_outcome* outcome,
                                                           size_t* size);
SUPERMACHINE_C_API void supermachine_outcome_free(supermachine_outcome* outcome);

typedef struct {
  size_t size;
  size_t min;
  size_t max;                  /* 0: min, at least 1 */
  int64_t idle_timeout_ms;     /* 0: one minute; below 0: never */
  uint64_t acquire_timeout_ms; /* 0: 30 seconds */
  int keep_on_release;         /* not 0: VMs are handed out again as they are */
} supermachine_pool_options;

SUPERMACHINE_C_API supermachine_pool* supermachine_pool_new(
    const supermachine_image* image, const supermachine_pool_options* options,
    const supermachine_vm_config* config, supermachine_error** error);
/* Give it back with supermachine_vm_free. */
SUPERMACHINE_C_API supermachine_vm* supermachine_pool_acquire(supermachine_pool* pool,
                                                              supermachine_error** error);
SUPERMACHINE_C_API void supermachine_pool_acquire_async(
    supermachine_pool* pool,
    void (*done)(void* user, supermachine_vm* vm, supermachine_error* error), void* user);
typedef struct {
  size_t alive, starting, idle, leased, stopping, waiting, min, max;
  uint64_t acquired, acquired_warm, timed_out, died, failed;
} supermachine_pool_stats;
SUPERMACHINE_C_API void supermachine_pool_get_stats(const supermachine_pool* pool,
                                                    supermachine_pool_stats* stats);
SUPERMACHINE_C_API void supermachine_pool_free(supermachine_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
