// Files of a guest, read and written whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/loop_thread.h"
#include "runtime/vm/started_vm.h"

namespace sm {

// `done` is called once, on the loop. Thread: the loop's. Errors: kNotFound, kPermission, kIo as
// the guest's file system says; kLimit for a file larger than `limit`; kGone.
void read_guest_file(LoopThread& loop, const std::shared_ptr<VmEndpoint>& vm,
                     const std::string& path, std::size_t limit,
                     std::function<void(Result<std::vector<std::byte>>)> done);
// A new file gets `mode`; an existing one keeps its own. Others see the old content or the new.
void write_guest_file(LoopThread& loop, const std::shared_ptr<VmEndpoint>& vm,
                      const std::string& path, std::uint32_t mode, std::vector<std::byte> content,
                      std::function<void(Status)> done);

}  // namespace sm
