// KeeperServer: the control socket of a keeper. It outlives the event loops that serve it, of which
// there is one per run of the command. Thread: the loop's, the one that owns the server.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "runtime/keeper/keeper_protocol.h"

namespace sm {

class KeeperServer {
 public:
  // Limit: clients at a time; more are turned away.
  static constexpr std::size_t kMaxCalls = 64;

  using CallId = std::uint64_t;
  // To be answered by reply() or take(), now or later.
  using Handler = std::function<void(CallId, KeeperRequest)>;

  // A socket in the runtime folder; what an earlier keeper left there is replaced. Who comes before
  // serve() waits. kUnsupported when the path is too long.
  static Result<std::unique_ptr<KeeperServer>> listen(const std::string& path);
  ~KeeperServer();
  KeeperServer(const KeeperServer&) = delete;
  KeeperServer& operator=(const KeeperServer&) = delete;
  KeeperServer(KeeperServer&&) = delete;
  KeeperServer& operator=(KeeperServer&&) = delete;

  // Begins to serve on this loop; leave() before it goes. Calls stay open over both.
  Status serve(EventLoop& loop);
  // Before the first serve().
  void handle(Handler handler) { handler_ = std::move(handler); }
  void leave();
  // Nobody finds the socket any more. To be called while the VM's lock is held: afterwards the name
  // may be another keeper's.
  void hide();
  // Nobody can come any more; who waits to be let in is turned away. Open calls can still be
  // answered.
  void close();
  // A fork of this process has the server now.
  void disown();

  // Needs no loop. A client that has left hears nothing.
  void reply(CallId id, const KeeperReply& reply);
  // The connection after a reply without an error; an invalid one of a client that has left.
  UniqueFd take(CallId id);

 private:
  struct Call {
    UniqueFd socket;
    WatchId watch = WatchId::kNone;
    TimerId timer = TimerId::kNone;  // until the request is here
    std::vector<std::byte> buffer;
    bool asked = false;
  };

  KeeperServer(std::string path, UniqueFd listener)
      : path_(std::move(path)), listener_(std::move(listener)) {}
  void on_connection();
  void watch(CallId id);
  void unwatch(Call& call);
  void receive(CallId id);
  void forget(CallId id);

  std::string path_;  // empty: hidden
  UniqueFd listener_;
  Handler handler_;
  EventLoop* loop_ = nullptr;
  WatchId watch_ = WatchId::kNone;
  std::map<CallId, Call> calls_;
  CallId next_id_ = 1;
};

}  // namespace sm
