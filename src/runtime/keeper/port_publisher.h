// PortPublisher: the published ports of a VM, on a thread of their own. They stay while the VM is
// restarted. Thread: the owner's.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/client/port_forward.h"
#include "runtime/keeper/vm_record.h"
#include "runtime/loop_thread.h"

namespace sm {

class PortPublisher {
 public:
  // Listens on all of them, or on none: a port in use is kInvalidArgument.
  static Result<std::unique_ptr<PortPublisher>> open(const std::string& id,
                                                     const std::string& exec_socket,
                                                     const std::vector<PortBinding>& ports);
  ~PortPublisher();
  PortPublisher(const PortPublisher&) = delete;
  PortPublisher& operator=(const PortPublisher&) = delete;
  PortPublisher(PortPublisher&&) = delete;
  PortPublisher& operator=(PortPublisher&&) = delete;

  // With the ports of the host that were free.
  const std::vector<PortBinding>& bindings() const { return bindings_; }

 private:
  PortPublisher(std::unique_ptr<LoopThread> thread, std::vector<PortBinding> ports)
      : thread_(std::move(thread)), bindings_(std::move(ports)) {}
  Status open_all(const std::shared_ptr<VmEndpoint>& vm);

  std::unique_ptr<LoopThread> thread_;
  std::vector<std::shared_ptr<PortForward>> forwards_;
  std::vector<PortBinding> bindings_;
};

}  // namespace sm
