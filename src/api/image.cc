#include <supermachine/image.h>
#include <supermachine/pool.h>
#include <supermachine/vm.h>

#include <optional>
#include <utility>

#include "api/errors.h"
#include "api/image_impl.h"
#include "runtime/bake/fingerprint.h"
#include "runtime/engine_choice.h"
#include "runtime/image_layers.h"

namespace supermachine {

struct ImageBuilder::Impl {
  ContextPtr context;
  std::string reference;
  ImageDefaults defaults;
  std::optional<sm::Error> error;  // of the first wrong setting
};

sm::Result<std::string> make_variable(const std::string& name, const std::string& value) {
  if (name.empty() || name.find_first_of(std::string("=\0", 2)) != std::string::npos ||
      value.find('\0') != std::string::npos) {
    return sm::fail(sm::Code::kInvalidArgument,
                    "'" + name.substr(0, name.find('\0')) + "' is not an environment variable",
                    "names are not empty and hold no '='; neither names nor values hold NUL");
  }
  return name + "=" + value;
}

Image::Image(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Image::~Image() = default;
Image::Image(const Image&) = default;
Image& Image::operator=(const Image&) = default;
Image::Image(Image&&) noexcept = default;
Image& Image::operator=(Image&&) noexcept = default;

Result<Image> Image::from_oci(const Context& context, const std::string& reference) {
  return builder(context, reference).build();
}

void Image::from_oci_async(const Context& context, const std::string& reference,
                           std::function<void(Result<Image>)> done) {
  builder(context, reference).build_async(std::move(done));
}

ImageBuilder Image::builder(const Context& context, const std::string& reference) {
  return ImageBuilder(
      std::make_unique<ImageBuilder::Impl>(ImageBuilder::Impl{context.impl(), reference, {}, {}}));
}

const std::string& Image::reference() const { return impl_->reference; }
const std::string& Image::digest() const { return impl_->digest; }
std::uint64_t Image::memory_mib() const { return impl_->defaults.memory_mib; }
std::uint32_t Image::vcpus() const { return impl_->defaults.vcpus; }

Result<Vm> Image::start() const { return Vm::start(*this); }
Result<Vm> Image::start(const VmConfig& config) const { return Vm::start(*this, config); }
PoolBuilder Image::pool() const { return PoolBuilder(*this); }

ImageBuilder::ImageBuilder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ImageBuilder::~ImageBuilder() = default;
ImageBuilder::ImageBuilder(ImageBuilder&&) noexcept = default;
ImageBuilder& ImageBuilder::operator=(ImageBuilder&&) noexcept = default;

ImageBuilder& ImageBuilder::memory_mib(std::uint64_t mib) {
  impl_->defaults.memory_mib = mib;
  return *this;
}

ImageBuilder& ImageBuilder::vcpus(std::uint32_t n) {
  impl_->defaults.vcpus = n;
  return *this;
}

ImageBuilder& ImageBuilder::env(const std::string& name, const std::string& value) {
  auto variable = make_variable(name, value);
  if (variable) {
    impl_->defaults.env.push_back(std::move(*variable));
  } else if (!impl_->error) {
    impl_->error = std::move(variable).error();
  }
  return *this;
}

ImageBuilder& ImageBuilder::user(const std::string& user) {
  impl_->defaults.user = user;
  return *this;
}

ImageBuilder& ImageBuilder::workdir(const std::string& path) {
  impl_->defaults.workdir = path;
  return *this;
}

ImageBuilder& ImageBuilder::pull(PullPolicy policy) {
  impl_->defaults.pull = policy;
  return *this;
}

ImageBuilder& ImageBuilder::command(std::vector<std::string> command) {
  impl_->defaults.command = std::move(command);
  return *this;
}

namespace {

sm::PullPolicy pull_of(PullPolicy policy) {
  if (policy == PullPolicy::kAlways) return sm::PullPolicy::kAlways;
  return policy == PullPolicy::kNever ? sm::PullPolicy::kNever : sm::PullPolicy::kMissing;
}

// Blocks: on the caller's thread or on one of the context's.
Result<std::shared_ptr<const Image::Impl>> load(const ContextPtr& context,
                                                const std::string& reference,
                                                const ImageDefaults& defaults,
                                                const std::stop_token& stop) {
  auto folders = sm::ImageFolders::find();
  if (!folders) return to_public(folders.error(), Operation::kOther);
  folders->layers = context->cache_dir + "/layers";
  sm::ImageRequest wanted;
  wanted.name = reference;
  wanted.pull = pull_of(defaults.pull);
  auto loaded = sm::prepare_image(wanted, *folders, {}, stop);
  if (!loaded) return to_public(loaded.error(), Operation::kImage);
  const sm::Assets& assets = context->assets;
  auto engine = sm::resolve_engine("auto", assets, context->cache_dir);
  auto kernel = sm::cached_digest(assets.kernel, context->cache_dir);
  auto initramfs = sm::cached_digest(assets.initramfs, context->cache_dir);
  for (const auto* part : {&engine, &kernel, &initramfs}) {
    if (!*part) return to_public(part->error(), Operation::kOther);
  }
  auto out = std::make_shared<Image::Impl>();
  out->context = context;
  out->auto_engine = std::move(*engine);
  out->kernel_digest = std::move(*kernel);
  out->initramfs_digest = std::move(*initramfs);
  out->reference = reference;
  out->digest = std::move(loaded->digest);
  out->config = std::move(loaded->config);
  out->layers = std::move(loaded->layers);
  out->in_use = std::move(loaded->in_use);
  out->defaults = defaults;
  return std::shared_ptr<const Image::Impl>(std::move(out));
}

}  // namespace

Result<Image> ImageBuilder::build() {
  if (impl_->context->loop->on_thread()) {
    return Error(ErrorCode::kInvalidState, "a blocking call on the library's own thread",
                 "use the asynchronous form in completions, or Completions::kQueue");
  }
  if (impl_->error) return to_public(*impl_->error, Operation::kImage);
  auto impl = load(impl_->context, impl_->reference, impl_->defaults, {});
  if (!impl) return impl.error();
  return Image(std::move(*impl));
}

void ImageBuilder::build_async(std::function<void(Result<Image>)> done) {
  const ContextPtr& context = impl_->context;
  const auto answer = delivered<Image>(context, std::move(done));
  if (impl_->error) return answer(to_public(*impl_->error, Operation::kImage));
  const auto job = [context, answer, reference = impl_->reference,
                    defaults = impl_->defaults](std::stop_token stop) {
    auto impl = load(context, reference, defaults, stop);
    answer(impl ? Result<Image>(Image(std::move(*impl))) : Result<Image>(impl.error()));
  };
  if (!context->run_in_background(job)) {
    answer(Error(ErrorCode::kClosed, "the context is closed"));
  }
}

}  // namespace supermachine
