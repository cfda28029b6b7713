#include "runtime/snapshot_order.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <utility>
#include <vector>

#include "base/file.h"
#include "vmm/snapshot/capture_record.h"

namespace sm {

namespace {

Result<CaptureRecord> read_record(int file) {
  struct stat info {};
  if (::fstat(file, &info) < 0) return fail_errno("stat", errno);
  if (static_cast<std::uint64_t>(info.st_size) > kMaxCaptureBytes) {
    return fail(Code::kLimit, "the worker's record of a saved machine is too large");
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(info.st_size));
  if (::lseek(file, 0, SEEK_SET) < 0) return fail_errno("lseek", errno);
  SM_TRY_STATUS(read_exact(file, bytes));
  return decode_capture(bytes);
}

}  // namespace

Result<std::unique_ptr<SnapshotOrder>> SnapshotOrder::start(EventLoop& loop, WorkerProcess& worker,
                                                            SnapshotTarget target, OnDone on_done) {
  std::unique_ptr<SnapshotOrder> order(
      new SnapshotOrder(loop, std::move(target), std::move(on_done)));
  const SnapshotTarget& t = order->target_;
  order->writer_ = SM_TRY(SnapshotWriter::create(t.path, t.memory_bytes, t.replace));
  order->record_ = SM_TRY(memory_file("snapshot-record", {}));
  order->id_ = worker.next_request_id();
  std::vector<int> files = {order->writer_->memory_fd(), order->record_.get()};
  if (t.disk) files.push_back(SM_TRY(order->writer_->add_disk(*t.disk)));
  control::SnapshotRequest request{.id = order->id_, .changed_only = t.base.has_value()};
  request.disk = t.disk.has_value();
  SM_TRY_STATUS(worker.request(request, files));
  return order;
}

SnapshotOrder::~SnapshotOrder() { thread_.join(); }

// The worker is not trusted: its first answer counts.
void SnapshotOrder::on_done(const control::Done& done) {
  if (std::exchange(answered_, true)) return;
  thread_ = NamedThread("snapshot", [this, done, token = std::weak_ptr<int>(alive_)] {
    auto status = complete();
    result_ = status ? Result<control::Done>(done) : fail(std::move(status).error());
    loop_.post([this, token] {
      if (token.expired()) return;
      thread_.join();
      on_done_(*result_);
    });
  });
}

std::optional<Result<control::Done>> SnapshotOrder::finish() {
  alive_.reset();
  thread_.join();
  return result_;
}

void SnapshotOrder::on_refused(const control::Refused& refused) {
  if (std::exchange(answered_, true)) return;
  writer_.reset();
  on_done_(fail(error_from(refused.why)));
}

// Thread: its own, after the worker has written its last.
Status SnapshotOrder::complete() {
  CaptureRecord record = SM_TRY(read_record(record_.get()));
  SnapshotManifest& manifest = record.facts;
  if (manifest.memory_bytes != target_.memory_bytes ||
      manifest.base.has_value() != target_.base.has_value()) {
    return fail(Code::kCorrupt, "the worker's record is of another machine");
  }
  if (target_.base && manifest.base->memory_digest != target_.base->memory_digest) {
    return fail(Code::kInvalidArgument,
                target_.base->path + " is not the snapshot that this VM was restored from",
                "name that one as the base, or take a whole snapshot");
  }
  manifest.base = target_.base;
  manifest.disk = target_.disk;
  manifest.memory_digest.clear();  // drawn anew
  if (!target_.kernel_digest.empty()) manifest.kernel_digest = target_.kernel_digest;
  if (!target_.initramfs_digest.empty()) manifest.initramfs_digest = target_.initramfs_digest;
  manifest.annotations = target_.annotations;
  manifest.created_unix_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(
                                 std::chrono::system_clock::now().time_since_epoch())
                                 .count();
  if (target_.base) writer_->set_pages(std::move(record.changed));
  return writer_->commit(std::move(manifest), record.state);
}

}  // namespace sm
