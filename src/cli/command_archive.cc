// `save` and `load`.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/image_command.h"
#include "oci/store/archive.h"
#include "oci/text.h"
#include "runtime/images.h"

namespace sm {

namespace {

constexpr std::size_t kManyWords = 10'000;

struct SaveFlags {
  std::string output;
  std::string format = "docker-archive";
  std::string platform;
};

// Calls `write` on a descriptor; a regular file gets its name only when all of it was written.
Status write_output(const std::string& path, const std::function<Status(int)>& write) {
  if (path.empty()) {
    if (::isatty(STDOUT_FILENO) != 1) return write(STDOUT_FILENO);
    return fail(Code::kInvalidArgument, "an archive is not for a terminal",
                "use -o FILE, or redirect the output");
  }
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    const auto fd = SM_TRY(open_file(path, O_WRONLY));
    return write(fd.get());
  }
  std::string partial = path + ".XXXXXX";
  UniqueFd fd(::mkostemp(partial.data(), O_CLOEXEC));
  if (!fd.valid()) return fail_errno("create " + printable(path), errno);
  auto done = write(fd.get());
  if (done && (::fsync(fd.get()) != 0 || ::fchmod(fd.get(), 0644) != 0 ||
               ::rename(partial.c_str(), path.c_str()) != 0)) {
    done = fail_errno("write " + printable(path), errno);
  }
  if (!done) ::unlink(partial.c_str());
  return done;
}

Status save(const SaveFlags& flags, const std::vector<std::string>& words) {
  if (flags.format != "docker-archive" && flags.format != "oci-archive") {
    return fail(Code::kUnsupported, "--format " + flags.format + ": there is no such format",
                "use docker-archive or oci-archive");
  }
  const auto kind = flags.format == "oci-archive" ? ArchiveKind::kOci : ArchiveKind::kDocker;
  std::optional<Platform> platform;
  if (!flags.platform.empty()) platform = SM_TRY(parse_platform_text(flags.platform));
  const auto store = SM_TRY(ImageStore::open(SM_TRY(ImageFolders::find()).store));
  std::vector<StoredImage> images;
  for (const auto& word : words) images.push_back(SM_TRY(store.get(word, platform)));
  return write_output(flags.output, [&](int fd) { return save_images(store, images, kind, fd); });
}

// A pipe has no second look: its bytes go to a nameless file first.
Result<UniqueFd> seekable_input() {
  if (::lseek(STDIN_FILENO, 0, SEEK_CUR) >= 0)
    return UniqueFd(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
  auto fd = SM_TRY(unnamed_file(spool_folder()));
  std::vector<std::byte> buffer(1U << 20U);
  while (true) {
    const ssize_t got = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("read the archive", errno);
    if (got == 0) return fd;
    SM_TRY_STATUS(write_all(fd.get(), std::span(buffer).first(static_cast<std::size_t>(got))));
  }
}

Status load(const std::string& input, bool quiet) {
  const auto store = SM_TRY(ImageStore::open(SM_TRY(ImageFolders::find()).store));
  UniqueFd spooled;
  std::string path = input;
  if (input.empty()) {
    if (::isatty(STDIN_FILENO) == 1) {
      return fail(Code::kInvalidArgument, "no archive given", "use -i FILE, or redirect the input");
    }
    spooled = SM_TRY(seekable_input());
    path = "/proc/self/fd/" + std::to_string(spooled.get());
  }
  const auto loaded = SM_TRY_WITH(load_images(store, path),
                                  input.empty() ? std::string("standard input") : printable(input));
  for (const auto& image : loaded) {
    if (quiet) {
      fmt::print("{}\n", image.name.empty() ? image.id.text() : image.name);
    } else if (image.name.empty()) {
      fmt::print("Loaded image ID: {}\n", image.id.text());
    } else {
      fmt::print("Loaded image: {}\n", image.name);
    }
  }
  return {};
}

}  // namespace

void add_save(Command& app, Action& chosen) {
  Command* command = app.add_subcommand(
      "save", "Write images of the store to a tar file: save [OPTIONS] NAME|ID...");
  auto flags = std::make_shared<SaveFlags>();
  command->add_option("-o,--output", flags->output, "The file (default: standard output)")
      ->type_name("FILE");
  command
      ->add_option("--format", flags->format, "docker-archive (for `docker load`) or oci-archive")
      ->type_name("FORMAT")
      ->capture_default_str();
  command->add_option("--platform", flags->platform, "Which of an image's variants")
      ->type_name("OS/ARCH[/VARIANT]");
  set_image_action(*command, chosen, {1, kManyWords, "the image's name"}, {},
                   [flags](const auto& words) { return save(*flags, words); });
}

void add_load(Command& app, Action& chosen) {
  Command* command =
      app.add_subcommand("load", "Take the images of a tar file into the store: load [-i FILE]");
  auto input = std::make_shared<std::string>();
  auto quiet = std::make_shared<bool>(false);
  command->add_option("-i,--input", *input, "The file (default: standard input)")
      ->type_name("FILE");
  command->add_flag("-q,--quiet", *quiet, "Print only names");
  set_image_action(*command, chosen, {0, 0, ""}, {"--platform"},
                   [input, quiet](const auto&) { return load(*input, *quiet); });
}

}  // namespace sm
