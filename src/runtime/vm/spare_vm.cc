#include "runtime/vm/spare_vm.h"

#include <utility>

namespace sm {

namespace {

// JSON holds neither more than a message nor paths that are no UTF-8.
bool arrives_unchanged(const control::RestoreRequest& request) {
  const auto bytes = control::encode(request);
  control::MessageParser parser;
  parser.feed(bytes);
  const auto message = parser.next();
  if (!message || !message->has_value()) return false;
  const auto* read = std::get_if<control::RestoreRequest>(&**message);
  return read != nullptr && read->arguments == request.arguments;
}

}  // namespace

Result<std::unique_ptr<SpareVm>> SpareVm::create(EventLoop& loop, const VmSource& source,
                                                 const std::string& runtime_dir) {
  auto command = source.spare_worker();
  if (!command) return nullptr;
  std::string id = SM_TRY(random_id());
  VmDir dir = SM_TRY(VmDir::create(runtime_dir, id));
  command->log_file = dir.worker_log();
  std::unique_ptr<SpareVm> out(new SpareVm(std::move(id), std::move(dir)));
  out->worker_ =
      SM_TRY(WorkerProcess::spawn(loop, *command,
                                  {.on_event = [](const control::Event&) {},
                                   .on_failure = [](Error) {},
                                   .on_exit = [spare = out.get()](int) { spare->ended_ = true; }}));
  return out;
}

std::unique_ptr<WorkerProcess> SpareVm::become(const VmLaunch& launch,
                                               WorkerProcess::Callbacks callbacks) {
  const control::RestoreRequest request{launch.worker.arguments};
  const bool has_files = launch.worker.root_disk || launch.worker.root_disk_source;
  if (!waits() || !launch.restored || has_files || !arrives_unchanged(request)) return nullptr;
  worker_->set_callbacks(std::move(callbacks));
  worker_->request(request);
  return std::move(worker_);
}

}  // namespace sm
