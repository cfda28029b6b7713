// VcpuHold: how a device keeps the vCPU whose access it is just serving out of the guest until
// somebody releases it. One per machine; it outlives the machine's VcpuThreads.
//
// The device's callback does not block: hold() marks the vCPU and returns at once. The vCPU thread
// then finishes the access, so that the vCPU stands exactly behind the instruction, and parks
// before the next one. While parked it answers pause, stop and state requests as ever, so a hold
// cannot dead-lock with them.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <thread>

namespace sm {

class VcpuThread;

class VcpuHold {
 public:
  // Names one hold; 0 names none.
  using Token = std::uint64_t;

  // Holds the vCPU whose thread this is. Thread: a vCPU's, inside a BusDevice callback. On any
  // other thread there is nothing to hold and the token is 0.
  Token hold();
  // Ends one hold. Any thread, at any time, also before the vCPU has parked; a token that is 0,
  // unknown or released already is ignored.
  void release(Token token);
  void release_all();

 private:
  friend class VcpuThread;
  void attach(std::thread::id id, VcpuThread& thread);
  void detach(std::thread::id id);

  // Lock order: mutex_, then a VcpuThread's.
  std::mutex mutex_;
  Token next_ = 1;
  std::map<std::thread::id, VcpuThread*> threads_;
  std::map<Token, VcpuThread*> held_;
};

}  // namespace sm
