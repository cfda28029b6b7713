// Context: what everything else of the library belongs to: its thread, the gate that limits how
// many VMs start at a time, the folders. There is no global state; a program usually has one
// context, and two of them know nothing of each other.
//
// Moved-from objects can be destroyed and assigned to, nothing else.
//
// Threads. Every class says which of its functions may be called from several threads at a time.
// A function without a suffix blocks the caller. Its asynchronous form (`..._async`) returns at
// once and calls `done` exactly once:
//   Completions::kLibraryThread  on the library's own thread. `done` must not block; blocking calls
//                                of the library fail there with kInvalidState.
//   Completions::kQueue          within dispatch_completions(), that is on a thread of yours:
//                                poll completion_fd() in your event loop. Blocking calls are fine.
//                                What is still queued is called when the context is destroyed.
#pragma once

#include <supermachine/error.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace supermachine {

enum class Completions { kLibraryThread, kQueue };

struct ContextOptions {
  // Folder with the worker, the guest's kernel and its initramfs. Empty: $SUPERMACHINE_ASSETS, or
  // the installed ones.
  std::string assets_dir;
  // Converted images, shared by all programs. Empty: ${XDG_CACHE_HOME:-$HOME/.cache}/supermachine.
  std::string cache_dir;
  // Private folders of running VMs. Empty: ${XDG_RUNTIME_DIR:-/tmp}/supermachine[-UID].
  std::string runtime_dir;
  // VMs that may start at a time, 0 for any number. Default: 16, or 4 for each CPU if that is more.
  std::optional<std::size_t> max_concurrent_starts;
  // Memory of the host that is never given to VMs: a start waits for a few seconds and then fails
  // with kLimit when less than this and the VM's memory is available.
  std::uint64_t reserve_memory_mib = 256;
  Completions completions = Completions::kLibraryThread;
};

class SUPERMACHINE_API Context {
 public:
  // kNotFound: no assets; kPermission, kIo: a folder cannot be used.
  static Result<Context> create(const ContextOptions& options = {});
  // Ends every VM of the context, then returns. Objects that belong to it may outlive it; their
  // functions then fail with kClosed or kVmGone. Not from a completion.
  ~Context();
  Context(Context&&) noexcept;
  Context& operator=(Context&&) noexcept;

  // Readable while completions are queued; -1 with kLibraryThread. Owned by the context.
  int completion_fd() const;
  // Calls what is queued now; how many that were. Any thread.
  std::size_t dispatch_completions();

  struct Impl;
  const std::shared_ptr<Impl>& impl() const { return impl_; }

 private:
  explicit Context(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace supermachine
