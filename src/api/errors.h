// The library's inner errors as its public ones. The same inner code means different things to
// callers of different operations.
#pragma once

#include <supermachine/error.h>

#include "base/result.h"

namespace supermachine {

enum class Operation { kOther, kImage, kStart, kAcquire, kExec, kFile, kConnect, kSnapshot, kBake };

Error to_public(const sm::Error& error, Operation operation);

inline Result<void> to_public(const sm::Status& status, Operation operation) {
  if (status) return {};
  return to_public(status.error(), operation);
}

}  // namespace supermachine
