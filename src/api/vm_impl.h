// What is behind Vm, PortForward and the pieces that vm.cc, exec.cc and pool.cc share.
#pragma once

#include <supermachine/pool.h>
#include <supermachine/vm.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "api/image_impl.h"
#include "proto/agent.h"
#include "runtime/client/exec_client.h"
#include "runtime/pool/vm_pool.h"

namespace supermachine {

struct Vm::Impl {
  ContextPtr context;
  std::shared_ptr<const Image::Impl> image;
  std::vector<std::string> env;  // of the VM's configuration
  std::shared_ptr<sm::VmEndpoint> endpoint;
  bool pooled = false;

  // What to talk to: once the VM was given back, it is somebody else's.
  std::shared_ptr<sm::VmEndpoint> target();
  // Gives the VM back. Idempotent, any thread.
  void release();
  std::shared_ptr<sm::ExecClient> workload();

  std::mutex mutex;
  sm::VmLease lease;
  bool released = false;
  bool workload_claimed = false;  // or it came with the snapshot
  bool workload_detached = false;
  std::weak_ptr<sm::ExecClient> workload_client;
};

std::shared_ptr<Vm::Impl> make_vm(const std::shared_ptr<const Image::Impl>& image,
                                  const VmConfig& config, sm::VmLease lease);
// A pool that makes VMs of an image. `ahead`: a worker process waits for the next one.
sm::Result<std::shared_ptr<sm::VmPool>> make_pool(const std::shared_ptr<const Image::Impl>& image,
                                                  const VmConfig& config,
                                                  const sm::PoolLimits& limits, bool ahead);

// How long one VM may take to come up, with its wait for the gate: the limits of a pool of one.
sm::PoolLimits limits_of_one(const VmConfig& config);
// "NAME=value" each: kInvalidArgument else, without the value.
sm::Status check_variables(const std::vector<std::string>& variables);
// The engine of VMs: "kvm" or "soft".
std::string engine_of(const Image::Impl& image, Engine engine);
// A program's environment, user and folder as image and VM have them, below the request's own.
void add_defaults(const Image::Impl& image, const std::vector<std::string>& vm_env,
                  sm::agent::ExecRequest& request);
// What the guest's agent would refuse as a broken message.
sm::Status check_request(const sm::agent::ExecRequest& request);

struct ExecBuilder::Impl {
  std::shared_ptr<Vm::Impl> vm;
  sm::agent::ExecRequest request;  // without what image and VM add
  std::string input;
  bool has_input = false;
  std::size_t output_limit = 16u << 20;
  std::optional<sm::Error> error;  // of the first wrong setting
};

struct ExecChild::Impl {
  Impl(ContextPtr c, std::shared_ptr<sm::ExecClient> e)
      : context(std::move(c)), client(std::move(e)) {}
  ~Impl() { client->close(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  Impl(Impl&&) = delete;
  Impl& operator=(Impl&&) = delete;

  const ContextPtr context;
  const std::shared_ptr<sm::ExecClient> client;
};

}  // namespace supermachine
