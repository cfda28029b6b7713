#include "agent/kernel_controls.h"

#include <fcntl.h>
#include <linux/random.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/root_disk.h"
#include "base/file.h"
#include "base/wipe.h"
#include "proto/agent.h"

namespace sm::guest {

namespace {

constexpr std::uint64_t kNanoseconds = 1'000'000'000;

// rand_pool_info with room for its bytes, which the kernel's header leaves open.
struct Entropy {
  int bits;
  int bytes;
  std::array<std::byte, agent::kSeedSize> seed;
};
static_assert(offsetof(Entropy, seed) == sizeof(rand_pool_info));

class Kernel final : public KernelControls {
 public:
  explicit Kernel(UniqueFd random) : random_(std::move(random)) {}

  Status seed_random(std::span<const std::byte> seed) override {
    Entropy entropy{};
    if (seed.size() != entropy.seed.size()) return fail(Code::kInternal, "the seed's size");
    entropy.bits = static_cast<int>(8 * seed.size());
    entropy.bytes = static_cast<int>(seed.size());
    std::memcpy(entropy.seed.data(), seed.data(), seed.size());
    const int mixed = ::ioctl(random_.get(), RNDADDENTROPY, &entropy);
    const int error = errno;
    wipe(entropy.seed);
    if (mixed < 0) return fail_errno("RNDADDENTROPY", error);
    // Without it the generator would go on with its old key for up to a minute.
    if (::ioctl(random_.get(), RNDRESEEDCRNG) < 0) return fail_errno("RNDRESEEDCRNG", errno);
    return {};
  }

  Status set_clock(std::uint64_t nanoseconds) override {
    timespec time{};
    time.tv_sec = static_cast<time_t>(nanoseconds / kNanoseconds);
    time.tv_nsec = static_cast<long>(nanoseconds % kNanoseconds);
    if (::clock_settime(CLOCK_REALTIME, &time) < 0) return fail_errno("clock_settime", errno);
    return {};
  }

  Status follow_root() override { return sm::guest::follow_root(); }
  Status set_hostname(const std::string& hostname) override {
    if (::sethostname(hostname.data(), hostname.size()) < 0) {
      return fail_errno("sethostname", errno);
    }
    return {};
  }

 private:
  UniqueFd random_;
};

}  // namespace

Result<std::unique_ptr<KernelControls>> open_kernel_controls() {
  UniqueFd random = SM_TRY(open_file("/dev/urandom", O_RDONLY));
  return std::make_unique<Kernel>(std::move(random));
}

}  // namespace sm::guest
