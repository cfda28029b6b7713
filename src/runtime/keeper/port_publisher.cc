#include "runtime/keeper/port_publisher.h"

#include <future>
#include <utility>

#include "runtime/keeper/port_spec.h"

namespace sm {

Result<std::unique_ptr<PortPublisher>> PortPublisher::open(const std::string& id,
                                                           const std::string& exec_socket,
                                                           const std::vector<PortBinding>& ports) {
  auto thread = SM_TRY(LoopThread::start("ports"));
  std::unique_ptr<PortPublisher> out(new PortPublisher(std::move(thread), ports));
  const auto vm = std::make_shared<VmEndpoint>(id, exec_socket);
  std::promise<Status> opened;
  auto done = opened.get_future();
  out->thread_->post([&] { opened.set_value(out->open_all(vm)); });
  SM_TRY_STATUS(done.get());
  return out;
}

PortPublisher::~PortPublisher() { thread_->stop(); }

Status PortPublisher::open_all(const std::shared_ptr<VmEndpoint>& vm) {
  for (PortBinding& port : bindings_) {
    HostPorts host{.ip = port.ip, .first = port.host, .last = port.host};
    if (port.any) {
      port.host = 0;
      host.first = port.first;
      host.last = port.last;
    }
    auto forward = PortForward::open(*thread_, vm, host, port.guest);
    if (!forward) {
      return fail(Error(Code::kInvalidArgument, std::move(forward).error().cause())
                      .with("publish " + port_text(port))
                      .or_remedy("choose another port of this host, or 0 for a free one"));
    }
    port.host = (*forward)->port();
    forwards_.push_back(*std::move(forward));
  }
  return {};
}

}  // namespace sm
