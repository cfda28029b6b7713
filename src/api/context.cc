#include <supermachine/context.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "api/context_impl.h"
#include "api/errors.h"

namespace supermachine {

namespace {

constexpr std::uint64_t kMaxReserveMib = 1u << 30;

sm::StartLimits start_limits(const ContextOptions& options) {
  sm::StartLimits out;
  out.permits = options.max_concurrent_starts.value_or(sm::default_start_permits());
  out.reserve_bytes = options.reserve_memory_mib << 20;
  return out;
}

sm::Result<ContextPtr> make(const ContextOptions& options) {
  if (options.reserve_memory_mib > kMaxReserveMib) {
    return sm::fail(sm::Code::kInvalidArgument, "a reserve of more memory than any host has");
  }
  auto out = std::make_shared<Context::Impl>();
  out->assets = SM_TRY(options.assets_dir.empty() ? sm::find_assets()
                                                  : sm::assets_in_folder(options.assets_dir));
  out->cache_dir = options.cache_dir;
  if (out->cache_dir.empty()) out->cache_dir = SM_TRY(sm::cache_dir());
  out->runtime_dir = SM_TRY(options.runtime_dir.empty() ? sm::runtime_dir()
                                                        : sm::private_dir(options.runtime_dir));
  out->queued = options.completions == Completions::kQueue;
  if (out->queued) {
    out->queue_fd = sm::UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!out->queue_fd.valid()) return sm::fail_errno("eventfd", errno);
  }
  out->loop = SM_TRY(sm::LoopThread::start("supermachine"));
  out->gate = std::make_unique<sm::StartGate>(out->loop->loop(), start_limits(options),
                                              &sm::available_memory);
  return out;
}

}  // namespace

Result<Context> Context::create(const ContextOptions& options) {
  auto impl = make(options);
  if (!impl) return to_public(impl.error(), Operation::kOther);
  return Context(std::move(*impl));
}

Context::Context(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Context::Context(Context&&) noexcept = default;

Context& Context::operator=(Context&& other) noexcept {
  if (this != &other) {
    if (impl_) impl_->close();
    impl_ = std::move(other.impl_);
  }
  return *this;
}

Context::~Context() {
  if (impl_) impl_->close();
}

int Context::completion_fd() const { return impl_->queue_fd.get(); }
std::size_t Context::dispatch_completions() { return impl_->dispatch(); }

void Context::Impl::deliver(std::function<void()> completion) {
  if (queued) {
    {
      const std::lock_guard lock(mutex_);
      if (!closing_ || loop->on_thread()) {
        queue_.push_back(std::move(completion));
        const std::uint64_t one = 1;
        // A counter that cannot grow is not zero, and that is what counts.
        static_cast<void>(::write(queue_fd.get(), &one, sizeof(one)) < 0);
        return;
      }
    }
    return completion();
  }
  if (loop->on_thread()) return completion();
  const auto shared = std::make_shared<std::function<void()>>(std::move(completion));
  if (!loop->post([shared] { (*shared)(); })) (*shared)();
}

std::size_t Context::Impl::dispatch() {
  std::vector<std::function<void()>> now;
  {
    const std::lock_guard lock(mutex_);
    now.swap(queue_);
    std::uint64_t count = 0;
    if (queue_fd.valid()) static_cast<void>(::read(queue_fd.get(), &count, sizeof(count)) < 0);
  }
  for (const auto& completion : now) completion();
  return now.size();
}

bool Context::Impl::run_in_background(std::function<void(std::stop_token)> job) {
  const std::lock_guard lock(mutex_);
  if (closing_) return false;
  // Those that are over are joined at once.
  std::erase_if(jobs_, [](const Job& j) { return j.done->load(); });
  auto done = std::make_shared<std::atomic<bool>>(false);
  jobs_.push_back({sm::NamedThread("sm-job",
                                   [job = std::move(job), done, stop = stop_.get_token()] {
                                     job(stop);
                                     *done = true;
                                   }),
                   done});
  return true;
}

void Context::Impl::close() {
  std::list<Job> jobs;
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(closing_, true)) return;
    jobs.swap(jobs_);
  }
  stop_.request_stop();
  for (Job& job : jobs) job.thread.join();
  loop->stop();
  while (dispatch() > 0) {
  }
}

}  // namespace supermachine
