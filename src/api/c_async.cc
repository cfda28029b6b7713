// The C interface: asynchronous forms.
#include <cstdlib>
#include <cstring>

#include "api/c_handles.h"

using supermachine::Error;
using supermachine::ErrorCode;
using supermachine::Result;
using namespace supermachine::c;

namespace {

// A value of a plain type, or `none` and an error.
template <class Given, class T>
std::function<void(Result<T>)> passing(void (*done)(void*, Given, supermachine_error*), void* user,
                                       Given none) {
  return [done, user, none](const Result<T>& value) {
    if (value) return done(user, static_cast<Given>(*value), nullptr);
    done(user, none, new supermachine_error{value.error()});
  };
}

}  // namespace

extern "C" {

void supermachine_image_from_oci_async(const supermachine_context* context, const char* reference,
                                       void (*done)(void*, supermachine_image*,
                                                    supermachine_error*),
                                       void* user) {
  supermachine::Image::from_oci_async(context->context, text(reference),
                                      giving<supermachine_image, supermachine::Image>(done, user));
}
void supermachine_image_from_snapshot_async(const supermachine_context* context, const char* dir,
                                            void (*done)(void*, supermachine_image*,
                                                         supermachine_error*),
                                            void* user) {
  supermachine::Image::from_snapshot_async(
      context->context, text(dir), giving<supermachine_image, supermachine::Image>(done, user));
}

void supermachine_vm_write_file_async(supermachine_vm* vm, const char* path, const void* data,
                                      size_t size, uint32_t mode,
                                      void (*done)(void*, supermachine_error*), void* user) {
  vm->get().write_file_async(text(path), bytes(data, size), mode, telling(done, user));
}
void supermachine_vm_read_file_async(supermachine_vm* vm, const char* path, size_t limit,
                                     void (*done)(void*, void*, size_t, supermachine_error*),
                                     void* user) {
  vm->get().read_file_async(text(path), limit, [done, user](const Result<std::string>& content) {
    if (!content) return done(user, nullptr, 0, new supermachine_error{content.error()});
    void* out = copy_of(*content);
    if (out != nullptr) return done(user, out, content->size(), nullptr);
    done(user, nullptr, 0,
         new supermachine_error{Error(ErrorCode::kLimit, "no memory for the file")});
  });
}
void supermachine_vm_connect_async(supermachine_vm* vm, uint16_t guest_port,
                                   void (*done)(void*, int, supermachine_error*), void* user) {
  vm->get().connect_async(guest_port, passing<int, int>(done, user, -1));
}
void supermachine_vm_pause_async(supermachine_vm* vm, void (*done)(void*, supermachine_error*),
                                 void* user) {
  vm->get().pause_async(telling(done, user));
}
void supermachine_vm_resume_async(supermachine_vm* vm, void (*done)(void*, supermachine_error*),
                                  void* user) {
  vm->get().resume_async(telling(done, user));
}
void supermachine_vm_snapshot_async(supermachine_vm* vm, const char* dir,
                                    void (*done)(void*, supermachine_error*), void* user) {
  vm->get().snapshot_async(text(dir), telling(done, user));
}
void supermachine_vm_snapshot_live_async(supermachine_vm* vm, const char* dir,
                                         void (*done)(void*, supermachine_error*), void* user) {
  vm->get().snapshot_live_async(text(dir), telling(done, user));
}
void supermachine_vm_snapshot_diff_async(supermachine_vm* vm, const char* dir, const char* base,
                                         void (*done)(void*, supermachine_error*), void* user) {
  vm->get().snapshot_diff_async(text(dir), text(base), telling(done, user));
}
void supermachine_vm_stop_async(supermachine_vm* vm, void (*done)(void*, supermachine_error*),
                                void* user) {
  vm->get().stop_async(telling(done, user));
}
void supermachine_exec_detach_async(supermachine_exec* exec, const char* output,
                                    void (*done)(void*, int64_t, supermachine_error*), void* user) {
  exec->builder.detach_async(text(output),
                             passing<int64_t, std::uint32_t>(done, user, int64_t{-1}));
}

}  // extern "C"
