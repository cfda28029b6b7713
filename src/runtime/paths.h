// Where things are on this host: the program's own parts and the folders it writes.
#pragma once

#include <string>

#include "base/result.h"

namespace sm {

// The parts a VM is made of. Found, in this order: in $SUPERMACHINE_ASSETS; beside the program or
// the library that this code is part of, in an installed tree (lib/supermachine) or a build tree
// (guest).
struct Assets {
  std::string worker;     // supermachine-worker
  std::string kernel;     // vmlinux or bzImage
  std::string initramfs;  // cpio with init and agent
};
Result<Assets> find_assets();
// The same in one folder; the worker there or beside the program.
Result<Assets> assets_in_folder(const std::string& dir);

// The variable of this process's environment; empty when it is not set.
std::string environment(const char* name);

// ${XDG_CACHE_HOME:-$HOME/.cache}/supermachine: can be deleted at any time while nothing runs.
Result<std::string> cache_dir();
// ${XDG_DATA_HOME:-$HOME/.local/share}/supermachine: what cannot be made again, such as images.
Result<std::string> data_dir();
// ${XDG_STATE_HOME:-$HOME/.local/state}/supermachine: the records and logs of VMs. Made 0700.
Result<std::string> state_dir();
// ${XDG_CONFIG_HOME:-$HOME/.config}/supermachine: the user's files. Not created.
Result<std::string> config_dir();
// ${XDG_RUNTIME_DIR:-/tmp}/supermachine[-UID]: one private folder per running VM below it. Made
// 0700, refused when somebody else owns it.
Result<std::string> runtime_dir();
// A folder of the caller's choice with the same properties; made when missing.
Result<std::string> private_dir(const std::string& dir);

}  // namespace sm
