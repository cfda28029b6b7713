#include "runtime/keeper/vm_registry.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <system_error>

#include "base/bytes.h"
#include "base/file.h"
#include "oci/locked_file.h"
#include "oci/text.h"
#include "runtime/paths.h"
#include "runtime/vm_dir.h"

namespace sm {

namespace {

constexpr int kNameTries = 64;
constexpr std::size_t kShortId = 12;
// From one record of a VM to the next; an error of a keeper is much shorter.
constexpr std::size_t kRecordGrowth = 4096;

struct flock whole_file() {
  struct flock out {};
  out.l_type = F_WRLCK;
  out.l_whence = SEEK_SET;
  return out;
}

// An open file description's lock, which can be looked at without being taken.
bool take_lock(int fd) {
  struct flock wanted = whole_file();
  return ::fcntl(fd, F_OFD_SETLK, &wanted) == 0;
}

bool is_locked(const std::string& path) {
  const auto fd = open_file(path, O_RDWR);
  if (!fd) return false;
  struct flock wanted = whole_file();
  return ::fcntl(fd->get(), F_OFD_GETLK, &wanted) == 0 && wanted.l_type != F_UNLCK;
}

bool exists(const std::string& path) {
  struct stat st {};
  return ::lstat(path.c_str(), &st) == 0;
}

void remove_tree(const std::string& path) {
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

// Room for the next record, which may come when the disk is full. Where that is not possible, it
// takes its chance.
void reserve_record(const std::string& fresh, std::size_t size) {
  const auto fd = open_file(fresh, O_WRONLY | O_CREAT, 0600);
  if (!fd) return;
  static_cast<void>(::posix_fallocate(fd->get(), 0, static_cast<off_t>(size + kRecordGrowth)));
}

Status write_record(const std::string& folder, const VmRecord& record) {
  const std::string fresh = folder + "/.record.json";
  const std::string text = encode_record(record);
  {
    // Not truncated: that would give the reserved room away.
    const UniqueFd fd = SM_TRY(open_file(fresh, O_WRONLY | O_CREAT, 0600));
    SM_TRY_STATUS(write_all(fd.get(), as_byte_span(text)));
    if (::ftruncate(fd.get(), static_cast<off_t>(text.size())) < 0) {
      return fail_errno("shorten " + fresh, errno);
    }
  }
  if (::rename(fresh.c_str(), (folder + "/record.json").c_str()) < 0) {
    return fail_errno("rename " + fresh, errno);
  }
  reserve_record(fresh, text.size());
  return {};
}

std::vector<std::string> entries(const std::string& path) {
  std::vector<std::string> out;
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(path.c_str()), ::closedir);
  if (!dir) return out;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") out.push_back(name);
  }
  return out;
}

tl::unexpected<Error> no_such_vm(const std::string& word) {
  return fail(Code::kNotFound, "there is no VM '" + printable(word) + "'",
              "see `supermachine ps -a`");
}

// The keeper died without a word.
void mark_lost(VmRecord& record) {
  record.lost = true;
  record.keeper_pid = 0;
  record.state = VmState::kExited;
  record.exit_code = 137;
  record.error = "the process that kept the VM was killed";
}

}  // namespace

Status HeldRecord::save() const { return write_record(folder_, record); }

// Copies of the descriptor in other processes do not matter.
void HeldRecord::release() {
  struct flock nothing = whole_file();
  nothing.l_type = F_UNLCK;
  if (lock_.valid()) ::fcntl(lock_.get(), F_OFD_SETLK, &nothing);
  lock_.reset();
}

Result<VmRegistry> VmRegistry::open() { return open_at(SM_TRY(state_dir())); }

Result<VmRegistry> VmRegistry::open_at(const std::string& folder) {
  if (!exists(folder + "/vms") || !exists(folder + "/names")) {
    SM_TRY_STATUS(make_dirs(folder + "/vms", 0700));
    SM_TRY_STATUS(make_dirs(folder + "/names", 0700));
  }
  return VmRegistry(folder);
}

Result<UniqueFd> VmRegistry::lock() const {
  return lock_file(folder_ + "/lock", LockKind::kExclusive);
}

bool VmRegistry::name_taken(const std::string& name) const {
  std::array<char, 128> id{};
  const std::string path = name_path(name);
  const ssize_t n = ::readlink(path.c_str(), id.data(), id.size());
  if (n <= 0) return false;
  return exists(folder_of(std::string(id.data(), static_cast<std::size_t>(n))));
}

// Under the registry's lock.
Status VmRegistry::claim_name(VmRecord& record) const {
  if (record.name.empty()) {
    record.name = random_vm_name();
    for (int i = 0; i < kNameTries && name_taken(record.name); ++i) record.name = random_vm_name();
    if (name_taken(record.name)) record.name += "_" + record.id.substr(0, kShortId);
  }
  if (name_taken(record.name)) {
    return fail(Code::kInvalidArgument, "the name '" + record.name + "' is used by another VM",
                "choose another name, or remove that VM: supermachine rm " + record.name);
  }
  const std::string path = name_path(record.name);
  ::unlink(path.c_str());  // of a VM that is gone
  if (::symlink(record.id.c_str(), path.c_str()) < 0) return fail_errno("link " + path, errno);
  return {};
}

// Under the registry's lock.
void VmRegistry::forget_name(const VmRecord& record) const {
  std::array<char, 128> id{};
  const std::string path = name_path(record.name);
  const ssize_t n = ::readlink(path.c_str(), id.data(), id.size());
  if (n > 0 && std::string_view(id.data(), static_cast<std::size_t>(n)) == record.id) {
    ::unlink(path.c_str());
  }
}

Result<HeldRecord> VmRegistry::create(VmRecord record) const {
  if (record.id.empty()) record.id = SM_TRY(random_vm_id());
  if (!record.name.empty()) SM_TRY_STATUS(check_name(record.name));
  // Who could not be read again could not be stopped.
  SM_TRY_WITH(parse_record(encode_record(record), "the VM's record"), "too many words or labels");
  HeldRecord out;
  out.folder_ = folder_of(record.id);
  const UniqueFd guard = SM_TRY(lock());
  SM_TRY_STATUS(claim_name(record));
  out.record = std::move(record);
  // Complete and locked before anybody can see it.
  const std::string fresh = folder_ + "/vms/.new-" + out.record.id;
  const auto make = [&]() -> Status {
    if (::mkdir(fresh.c_str(), 0700) < 0) return fail_errno("mkdir " + fresh, errno);
    out.lock_ = SM_TRY(open_file(fresh + "/lock", O_RDWR | O_CREAT | O_EXCL, 0600));
    if (!take_lock(out.lock_.get())) return fail_errno("lock " + fresh, errno);
    SM_TRY_STATUS(write_record(fresh, out.record));
    if (::rename(fresh.c_str(), out.folder_.c_str()) < 0) {
      return fail_errno("rename " + fresh, errno);
    }
    return {};
  };
  if (auto made = make(); !made) {
    remove_tree(fresh);
    forget_name(out.record);
    return fail(std::move(made).error());
  }
  return out;
}

Result<VmRecord> VmRegistry::read(const std::string& id) const {
  const std::string path = folder_of(id) + "/record.json";
  const auto load = [&]() -> Result<VmRecord> {
    if (!exists(path)) return no_such_vm(id);
    const std::string text = SM_TRY(read_file(path, kMaxRecord));
    VmRecord record = SM_TRY(parse_record(text, path));
    if (record.id != id) return fail(Code::kCorrupt, path + " is the record of another VM");
    return record;
  };
  VmRecord record = SM_TRY(load());
  if (!is_kept(record) || is_held(id)) return record;
  // Its keeper may have written the end between our two looks.
  record = SM_TRY(load());
  if (is_kept(record)) mark_lost(record);
  return record;
}

bool VmRegistry::is_held(const std::string& id) const { return is_locked(folder_of(id) + "/lock"); }

Result<std::vector<std::string>> VmRegistry::ids() const {
  auto out = entries(folder_ + "/vms");
  std::erase_if(out, [](const std::string& name) { return name[0] == '.'; });
  return out;
}

Result<std::vector<VmRecord>> VmRegistry::all() const {
  std::vector<VmRecord> out;
  for (const std::string& id : SM_TRY(ids())) {
    auto record = read(id);
    if (!record) {
      if (record.error().code() == Code::kNotFound) continue;  // removed meanwhile
      VmRecord damaged;
      damaged.id = id;
      damaged.state = VmState::kExited;
      damaged.error = record.error().cause();
      damaged.lost = true;
      out.push_back(std::move(damaged));
      continue;
    }
    if (record->lost && record->auto_remove) {
      if (auto held = hold(id); held && remove(*std::move(held))) continue;
    }
    out.push_back(*std::move(record));
  }
  std::sort(out.begin(), out.end(),
            [](const auto& a, const auto& b) { return a.created_ns < b.created_ns; });
  return out;
}

Result<std::string> VmRegistry::id_of(const std::string& word) const {
  if (word.empty() || word[0] == '.' || word.find('/') != std::string::npos) {
    return no_such_vm(word);
  }
  std::array<char, 128> target{};
  const ssize_t n = ::readlink(name_path(word).c_str(), target.data(), target.size());
  if (n > 0) {
    std::string id(target.data(), static_cast<std::size_t>(n));
    if (exists(folder_of(id))) return id;
  }
  std::string found;
  for (const std::string& id : SM_TRY(ids())) {
    if (id == word) return id;
    if (!id.starts_with(word)) continue;
    if (!found.empty()) {
      return fail(Code::kInvalidArgument, "'" + word + "' is the beginning of several ids",
                  "give more digits, or a name");
    }
    found = id;
  }
  if (found.empty()) return no_such_vm(word);
  return found;
}

Result<VmRecord> VmRegistry::find(const std::string& word) const {
  return read(SM_TRY(id_of(word)));
}

Result<HeldRecord> VmRegistry::hold(const std::string& id) const {
  HeldRecord out;
  out.folder_ = folder_of(id);
  auto lock = open_file(out.folder_ + "/lock", O_RDWR);
  if (!lock) return no_such_vm(id);
  out.lock_ = *std::move(lock);
  if (!take_lock(out.lock_.get())) {
    return fail(Code::kInvalidArgument, "the VM " + short_vm_id(id) + " is running",
                "stop it first: supermachine stop " + short_vm_id(id));
  }
  // What was opened may be a folder that is being removed.
  if (!is_same_file(out.lock_.get(), out.folder_ + "/lock")) return no_such_vm(id);
  out.record = SM_TRY(read(id));
  // Our own lock is one, too.
  if (is_kept(out.record)) mark_lost(out.record);
  return out;
}

Status VmRegistry::rename(HeldRecord& held, const std::string& name) const {
  if (name.empty()) return fail(Code::kInvalidArgument, "an empty name");
  SM_TRY_STATUS(check_name(name));
  const UniqueFd guard = SM_TRY(lock());
  VmRecord renamed = held.record;
  renamed.name = name;
  SM_TRY_STATUS(claim_name(renamed));
  forget_name(held.record);
  held.record.name = name;
  return held.save();
}

Status VmRegistry::discard(const std::string& id) const {
  const std::string gone = folder_ + "/vms/.gone-" + id;
  if (::rename(folder_of(id).c_str(), gone.c_str()) < 0) return fail_errno("remove " + id, errno);
  remove_tree(gone);
  return {};
}

Status VmRegistry::remove(HeldRecord held) const {
  const UniqueFd guard = SM_TRY(lock());
  SM_TRY_STATUS(discard(held.record.id));
  forget_name(held.record);
  return {};
}

Status VmRegistry::remove_unreadable(const std::string& word) const {
  const std::string id = SM_TRY(id_of(word));
  const UniqueFd guard = SM_TRY(lock());
  if (is_held(id)) {
    return fail(Code::kInvalidArgument, "the VM " + short_vm_id(id) + " is running");
  }
  return discard(id);
}

void VmRegistry::sweep() const {
  const auto guard = lock();
  if (!guard) return;
  for (const std::string& name : entries(folder_ + "/vms")) {
    const std::string path = folder_ + "/vms/" + name;
    if (name[0] == '.' && !is_locked(path + "/lock")) remove_tree(path);
  }
  for (const std::string& name : entries(folder_ + "/names")) {
    if (!name_taken(name)) ::unlink(name_path(name).c_str());
  }
}

std::string short_vm_id(const std::string& id) { return id.substr(0, kShortId); }

}  // namespace sm
