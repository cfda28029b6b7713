// What is behind the objects of the C interface, and how its calls are made of those of the C++
// one.
#pragma once

#include <supermachine/c/supermachine.h>
#include <supermachine/supermachine.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

struct supermachine_error {
  supermachine::Error error;
};
struct supermachine_context {
  supermachine::Context context;
};
struct supermachine_image {
  supermachine::Image image;
};
struct supermachine_vm {
  std::variant<supermachine::Vm, supermachine::PooledVm, supermachine::Vm*> holder;  // last: lent
  supermachine::Vm& get() {
    if (auto* lent = std::get_if<supermachine::Vm*>(&holder)) return **lent;
    if (auto* own = std::get_if<supermachine::Vm>(&holder)) return *own;
    return *std::get<supermachine::PooledVm>(holder);
  }
};
struct supermachine_exec {
  supermachine::ExecBuilder builder;
};
struct supermachine_outcome {
  supermachine::ExecOutcome outcome;
};
struct supermachine_pool {
  supermachine::Pool pool;
};
struct supermachine_forward {
  supermachine::PortForward forward;
};

namespace supermachine::c {

inline void put_error(const Error& error, supermachine_error** out) {
  if (out != nullptr) *out = new supermachine_error{error};
}

// A new object around the value, or nothing and the error.
template <class Handle, class T>
Handle* give(Result<T> result, supermachine_error** error) {
  if (result) return new Handle{std::move(*result)};
  put_error(result.error(), error);
  return nullptr;
}

inline int status_of(const Result<void>& result, supermachine_error** error) {
  if (result) return 0;
  put_error(result.error(), error);
  return -1;
}

inline std::string text(const char* value) { return value == nullptr ? std::string() : value; }

inline std::string bytes(const void* data, std::size_t size) {
  return size == 0 ? std::string() : std::string(static_cast<const char*>(data), size);
}

inline std::vector<std::string> words(const char* const* list) {
  std::vector<std::string> out;
  for (; list != nullptr && *list != nullptr; ++list) out.emplace_back(*list);
  return out;
}

// The caller's struct may be an older, shorter one.
template <class T>
T sized(const T* given) {
  T out{};
  if (given != nullptr) std::memcpy(&out, given, std::min(given->size, sizeof(T)));
  return out;
}

// For supermachine_bytes_free, with a NUL behind it; NULL: no memory.
inline void* copy_of(const std::string& content) {
  void* out = std::malloc(content.size() + 1);
  if (out != nullptr) std::memcpy(out, content.c_str(), content.size() + 1);
  return out;
}

Result<Engine> engine_of(const char* name);
Result<VmConfig> config_of(const supermachine_vm_config* given);

// A completion that gives a C function a new object, or an error, and its user's pointer.
template <class Handle, class T>
std::function<void(Result<T>)> giving(void (*done)(void*, Handle*, supermachine_error*),
                                      void* user) {
  return [done, user](Result<T> result) {
    supermachine_error* error = nullptr;
    Handle* handle = give<Handle>(std::move(result), &error);
    done(user, handle, error);
  };
}

inline std::function<void(Result<void>)> telling(void (*done)(void*, supermachine_error*),
                                                 void* user) {
  return [done, user](const Result<void>& result) {
    supermachine_error* error = nullptr;
    static_cast<void>(status_of(result, &error));
    done(user, error);
  };
}

}  // namespace supermachine::c
