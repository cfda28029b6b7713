// Baking: a VM of an image is made ready once and saved; every VM of the result goes on from there.
// See Image::bake and Image::with_warmup.
#pragma once

#include <supermachine/error.h>
#include <supermachine/vm.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace supermachine {

// When the VM is ready to be saved. With all but kPreExec the image's command has been started,
// detached: its end ends the VM, and every VM of the result.
enum class BakeWhen {
  kPreExec,    // at once; no command runs
  kListener,   // a TCP port of the guest is listened on that was not before
  kHeartbeat,  // the command has written to the file in $SUPERMACHINE_READY_FILE
  kAfter,      // some time after the command's start
  kRequest,    // BakeConfig::request has returned
};

struct BakeConfig {
  BakeWhen when = BakeWhen::kPreExec;
  std::uint16_t port = 0;              // kListener: this one; 0: any
  std::chrono::milliseconds after{0};  // kAfter; at most a day
  // kRequest: returns when the VM is ready; its error ends the bake. It is called on a thread of
  // the library's, where blocking calls are fine, and must end soon once its calls fail with
  // kVmGone: so they do when the limit has passed or the context is closed. It must neither end,
  // pause nor keep the VM, nor throw.
  std::function<Result<void>(Vm&)> request;
  // kRequest: the name of what `request` does: two that do the same have the same, all others do
  // not. 1 to 256 bytes without NUL.
  std::string request_name;
  // The command's output is appended to this file of the guest (absolute), or dropped.
  std::string log;
  // Shell commands, each for /bin/sh -c, once it is ready; each must end with status 0.
  std::vector<std::string> warmup;
  std::chrono::milliseconds quiesce{0};  // waits so long before it saves
  // For all of it but the VM's start, which has that of VmConfig, and the writing.
  std::chrono::milliseconds limit = std::chrono::minutes(5);
  Engine engine = Engine::kAuto;
  // Name in the cache, as of `supermachine bake --tag`: another snapshot of that name is replaced.
  // Empty: named after its inputs, and one of the same inputs and any name is used.
  std::string tag;
  bool use_cache = true;  // false: bake even if there is one of the same inputs
};

// One command of Image::with_warmup, with the image's environment, user and folder.
struct WarmupCommand {
  std::vector<std::string> argv;  // looked up in the guest's PATH
  std::vector<std::string> env;   // "NAME=value", over the image's; they are in the memory saved
  std::chrono::milliseconds timeout{0};  // zero: none but WarmupConfig::limit
};

struct WarmupConfig {
  std::vector<WarmupCommand> commands;  // at least one; each must end with status 0
  std::chrono::milliseconds limit = std::chrono::minutes(5);  // for all of them
  Engine engine = Engine::kAuto;
  std::string tag;        // as BakeConfig::tag
  bool use_cache = true;  // as BakeConfig::use_cache
};

}  // namespace supermachine
