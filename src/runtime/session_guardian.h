// SessionGuardian: who looks after a session beside its terminal (keeper/keeper.h), and
// SessionControl, what it may do to it. Thread: the session's loop.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <span>

#include "base/event_loop.h"
#include "base/result.h"
#include "proto/agent.h"
#include "runtime/snapshot_order.h"

namespace sm {

struct SessionOutcome;

class SessionControl {
 public:
  virtual ~SessionControl() = default;
  // The command has been started and has not ended.
  virtual bool running() const = 0;
  // To the command. Before it runs, a signal that asks for the end ends the VM.
  virtual void signal(int number) = 0;
  // Ends the VM now, without asking the guest: status 128 + number. One whose command has ended and
  // that writes out its files is left to it, unless the number is SIGKILL.
  virtual void end(int number) = 0;
  // Takes the guest off the CPU, or lets it go on. `done` is called once, or never when the VM ends
  // before.
  virtual void pause(bool pause, std::function<void(Status)> done) = 0;
  // Saves the VM, which then goes on, or stands still if it did before. `done` is called once, also
  // when the VM ends meanwhile.
  virtual void save(SnapshotTarget target, SnapshotOrder::OnDone done) = 0;
  virtual pid_t worker_pid() const = 0;
  // The command's standard input and terminal.
  virtual std::size_t input_room() const = 0;
  virtual void input(std::span<const std::byte> bytes) = 0;
  virtual void resize(agent::WindowSize size) = 0;
};

class SessionGuardian {
 public:
  virtual ~SessionGuardian() = default;
  // Before there is a worker. `loop` and `control` are valid until on_end() has returned.
  virtual Status on_begin(EventLoop& loop, SessionControl& control) = 0;
  virtual void on_started() = 0;
  // `bytes` empty: the end of the stream.
  virtual void on_output(agent::Stream stream, std::span<const std::byte> bytes) = 0;
  virtual void on_input_room() = 0;
  // Comes for every on_begin() that succeeded.
  virtual void on_end(const SessionOutcome& outcome) = 0;
};

}  // namespace sm
