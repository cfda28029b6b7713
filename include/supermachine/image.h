// Image: a container image, ready to be started as a VM. Immutable and cheap to copy; all functions
// may be called from any thread.
#pragma once

#include <supermachine/context.h>
#include <supermachine/error.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace supermachine {

// Whether a registry is asked: when the image is not here, always, never.
enum class PullPolicy { kMissing, kAlways, kNever };

class ImageBuilder;
class PoolBuilder;
class Vm;
struct BakeAccess;
struct BakeConfig;
struct VmConfig;
struct WarmupConfig;

class SUPERMACHINE_API Image {
 public:
  // Finds or pulls an image and converts what the cache lacks of its layers (seconds for a big
  // image, once). `reference`: oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME],
  // or a name as Docker takes it, which is pulled when it is not here. kNotFound, kImageInvalid,
  // kInvalidArgument, kLimit, kIo.
  static Result<Image> from_oci(const Context& context, const std::string& reference);
  static void from_oci_async(const Context& context, const std::string& reference,
                             std::function<void(Result<Image>)> done);
  // The same with defaults of one's own for its VMs.
  static ImageBuilder builder(const Context& context, const std::string& reference);

  // A snapshot of a VM (Vm::snapshot, `supermachine bake`), to start VMs from and for pools. They
  // have its memory and CPUs, and run what ran in it; environment, folder, user and command are
  // those of the image that it was made of. Reads the whole snapshot once after it was made.
  // Nothing may change in the folder while VMs run from it. kNotFound: it, or a layer of its image,
  // is not there; kInvalidArgument: it is of no image; kImageInvalid: it is damaged; kUnsupported:
  // of another version.
  static Result<Image> from_snapshot(const Context& context, const std::string& dir);
  static void from_snapshot_async(const Context& context, const std::string& dir,
                                  std::function<void(Result<Image>)> done);

  // Makes a VM of this image ready, saves it in the cache and returns the snapshot as an image, as
  // `supermachine bake` does; when there is one of the same inputs, that one, and no VM is started.
  // Inputs are the image, its builder's settings, the configuration, the engine and the guest's
  // kernel. Snapshots stay until they are removed (`supermachine snapshot rm`, with the tag).
  // kBakeFailed: the command ended before it was ready, or a warm-up command failed; kTimeout: not
  // ready within the limit; kInvalidArgument: the configuration, or this image is a snapshot; else
  // as Vm::start and Vm::snapshot. After an error nothing is kept.
  Result<Image> bake(const BakeConfig& config) const;
  void bake_async(const BakeConfig& config, std::function<void(Result<Image>)> done) const;
  // Runs commands in a VM of this image or snapshot and saves that, in the same way. What runs in
  // the snapshot goes on. kBakeFailed: a command failed or took too long; the text has the end of
  // what it printed. kExecNotFound, kPermission: it could not be started. After an error nothing is
  // kept.
  Result<Image> with_warmup(const WarmupConfig& config) const;
  void with_warmup_async(const WarmupConfig& config, std::function<void(Result<Image>)> done) const;

  ~Image();
  Image(const Image&);
  Image& operator=(const Image&);
  Image(Image&&) noexcept;
  Image& operator=(Image&&) noexcept;

  const std::string& reference() const;
  // "sha256:...": names the content of the image, also of a snapshot's.
  const std::string& digest() const;
  // Defaults of its VMs.
  std::uint64_t memory_mib() const;
  std::uint32_t vcpus() const;

  // See Vm::start and Pool.
  Result<Vm> start() const;
  Result<Vm> start(const VmConfig& config) const;
  PoolBuilder pool() const;

  struct Impl;
  const std::shared_ptr<const Impl>& impl() const { return impl_; }

 private:
  friend class ImageBuilder;
  friend struct BakeAccess;
  explicit Image(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

// One thread at a time.
class SUPERMACHINE_API ImageBuilder {
 public:
  ~ImageBuilder();
  ImageBuilder(ImageBuilder&&) noexcept;
  ImageBuilder& operator=(ImageBuilder&&) noexcept;

  ImageBuilder& memory_mib(std::uint64_t mib);  // 64 ... 1048576; default 256
  ImageBuilder& vcpus(std::uint32_t n);         // 1 ... 32; default 1
  // Over the image's own environment. `name` holds neither '=' nor NUL.
  ImageBuilder& env(const std::string& name, const std::string& value);
  ImageBuilder& user(const std::string& user);              // "name|uid[:group|gid]"
  ImageBuilder& workdir(const std::string& path);           // absolute
  ImageBuilder& pull(PullPolicy policy);                    // default kMissing
  ImageBuilder& command(std::vector<std::string> command);  // instead of the image's CMD

  Result<Image> build();
  void build_async(std::function<void(Result<Image>)> done);

 private:
  friend class Image;
  struct Impl;
  explicit ImageBuilder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace supermachine
