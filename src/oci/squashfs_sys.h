// Ownership and errors of libsquashfs objects, shared by the writer's two halves. Internal to oci/.
#pragma once

#include <sqfs/predef.h>

#include <memory>
#include <string_view>

#include "base/result.h"
#include "oci/squashfs_file.h"

namespace sm {

struct SqfsDestroy {
  template <class T>
  void operator()(T* object) const {
    sqfs_destroy(object);
  }
};
template <class T>
using SqfsPtr = std::unique_ptr<T, SqfsDestroy>;

struct SqfsFree {
  void operator()(sqfs_inode_generic_t* inode) const { sqfs_free(inode); }
};
using SqfsInode = std::unique_ptr<sqfs_inode_generic_t, SqfsFree>;

// The error behind a libsquashfs status that is not 0.
tl::unexpected<Error> squashfs_failure(std::string_view doing, int status,
                                       const SquashfsFile& file);

}  // namespace sm

// Returns from the enclosing function when a libsquashfs call fails.
#define SM_SQFS(call, doing, file)                            \
  do {                                                        \
    if (const int sm_status_ = (call); sm_status_ != 0)       \
      return ::sm::squashfs_failure(doing, sm_status_, file); \
  } while (false)
