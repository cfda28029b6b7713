// Session: what serves one request after the hello. Implementations: ExecSession, FileSession,
// ResumeSession.
#pragma once

#include "base/result.h"
#include "proto/agent.h"

namespace sm::guest {

class Connection;

class Session {
 public:
  // The connection is closed: whatever still runs for it is ended.
  virtual ~Session() = default;
  // A frame that follows the request. An error is a violation of the protocol and ends the
  // connection.
  virtual Status on_frame(const agent::Frame& frame) = 0;
  // The connection can queue output again.
  virtual void on_room() = 0;
  // The connection is lost because this machine is a copy of the one in which it was open. True:
  // the session goes on without one, and says Server::drop_kept() when it is over.
  virtual bool outlive_connection() { return false; }
  // One that did gets another connection; false when it is over.
  virtual bool attach(Connection& /*connection*/) { return false; }
};

// An ErrorReport as a value: what a session could not do.
using SessionError = agent::ErrorReport;

}  // namespace sm::guest
