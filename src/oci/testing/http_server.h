// HttpServer: a small HTTP/1.1 server on the loopback for tests, as hostile as its handler wants it
// to be. One request for each connection; every connection has its thread.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace sm::testing {

struct HttpCall {
  std::string method;
  std::string target;  // with its query
  std::string head;    // request line and headers as they came
  std::string body;

  // The first header of that name, whatever its case; empty when there is none.
  std::string header(std::string_view name) const;
};

// The client's end of a connection.
class HttpPeer {
 public:
  HttpPeer(int fd, int stop_fd) : fd_(fd), stop_fd_(stop_fd) {}
  // Bytes as they are. False when the client has left.
  bool send(std::string_view bytes);
  using Headers = std::vector<std::pair<std::string, std::string>>;
  void respond(int status, std::string_view body, const Headers& headers = {});
  // Waits until the client has closed the connection or the server stops.
  void hold();

 private:
  int fd_;
  int stop_fd_;
};

class HttpServer {
 public:
  using Handler = std::function<void(const HttpCall& call, HttpPeer& peer)>;
  // Answers on 127.0.0.1 until it is destroyed. The handler runs on several threads.
  explicit HttpServer(Handler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // "127.0.0.1:PORT".
  const std::string& host() const { return host_; }
  std::string url() const { return "http://" + host_; }
  // "METHOD TARGET" of all requests so far.
  std::vector<std::string> log() const;

 private:
  void accept_all();
  void serve(UniqueFd connection);

  Handler handler_;
  UniqueFd listener_;
  UniqueFd stop_;
  std::string host_;
  mutable std::mutex mutex_;  // guards log_
  std::vector<std::string> log_;
  std::vector<std::jthread> connections_;  // of the acceptor
  std::jthread acceptor_;
};

}  // namespace sm::testing
