#include "runtime/keeper/port_publisher.h"

#include <arpa/inet.h>

#include <charconv>
#include <future>
#include <utility>

namespace sm {

namespace {

tl::unexpected<Error> bad_port(const std::string& text, const std::string& why) {
  return fail(Code::kInvalidArgument, "-p " + text + ": " + why,
              "write [IP:]HOST:GUEST, such as 8080:80 or 127.0.0.1:8080:80/tcp");
}

Result<std::uint16_t> number_of(const std::string& text, const std::string& whole, bool zero) {
  if (text.find('-') != std::string::npos) return bad_port(whole, "ranges are not supported");
  std::uint16_t out = 0;
  const char* const end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, out);
  if (error != std::errc() || at != end || (out == 0 && !zero)) {
    return bad_port(whole, "'" + text + "' is no port");
  }
  return out;
}

}  // namespace

Result<PortBinding> parse_port(const std::string& text) {
  std::string rest = text;
  if (const auto slash = rest.find('/'); slash != std::string::npos) {
    if (rest.substr(slash) != "/tcp") return bad_port(text, "only TCP can be published");
    rest.erase(slash);
  }
  if (rest.find('[') != std::string::npos) return bad_port(text, "IPv6 is not supported");
  PortBinding out;
  const auto last = rest.rfind(':');
  out.guest = SM_TRY(number_of(last == std::string::npos ? rest : rest.substr(last + 1), text,
                               /*zero=*/false));
  out.any = true;
  if (last == std::string::npos) return out;
  rest.erase(last);
  if (const auto colon = rest.rfind(':'); colon != std::string::npos) {
    out.ip = rest.substr(0, colon);
    rest.erase(0, colon + 1);
    in_addr address{};
    if (::inet_pton(AF_INET, out.ip.c_str(), &address) != 1) {
      return bad_port(text, "'" + out.ip + "' is no IPv4 address");
    }
  }
  if (!rest.empty()) out.host = SM_TRY(number_of(rest, text, /*zero=*/true));
  out.any = out.host == 0;
  return out;
}

std::string port_text(const PortBinding& port) {
  return port.ip + ":" + std::to_string(port.host) + "->" + std::to_string(port.guest) + "/tcp";
}

Result<std::unique_ptr<PortPublisher>> PortPublisher::open(const std::string& id,
                                                           const std::string& exec_socket,
                                                           const std::vector<PortBinding>& ports) {
  auto thread = SM_TRY(LoopThread::start("ports"));
  std::unique_ptr<PortPublisher> out(new PortPublisher(std::move(thread), ports));
  const auto vm = std::make_shared<VmEndpoint>(id, exec_socket);
  std::promise<Status> opened;
  auto done = opened.get_future();
  out->thread_->post([&] { opened.set_value(out->open_all(vm)); });
  SM_TRY_STATUS(done.get());
  return out;
}

PortPublisher::~PortPublisher() { thread_->stop(); }

Status PortPublisher::open_all(const std::shared_ptr<VmEndpoint>& vm) {
  for (PortBinding& port : bindings_) {
    auto forward = PortForward::open(*thread_, vm, port.any ? 0 : port.host, port.guest, port.ip);
    if (!forward) {
      return fail(Error(Code::kInvalidArgument, std::move(forward).error().cause())
                      .with("publish " + port_text(port))
                      .or_remedy("choose another port of this host, or 0 for a free one"));
    }
    port.host = (*forward)->port();
    forwards_.push_back(*std::move(forward));
  }
  return {};
}

}  // namespace sm
