// What every connection may use. Owned by the Server, outlives the connections.
#pragma once

#include <cstdint>

#include "base/unique_fd.h"

namespace sm {
class EventLoop;
}

namespace sm::guest {

class ProcessTable;
class Server;
class Workload;

struct Services {
  EventLoop& loop;
  ProcessTable& processes;
  Workload& workload;
  Server& server;
};

}  // namespace sm::guest
