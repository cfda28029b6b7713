// The socket pair between init and the agent: fixed-size messages on SOCK_SEQPACKET, so that one
// receive is one message. Also what init hands the agent at its start. See
// docs/reference/agent-protocol.md, "Inside the guest".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/names.h"

namespace sm::guest {

// Descriptors the agent is started with.
inline constexpr int kAgentLinkFd = 3;
inline constexpr int kAgentSettingsFd = 4;
inline constexpr int kAgentLayersFd = 5;  // the folder in which the layers are mounted

enum class LinkType : std::uint8_t {
  kReady = 1,          // agent: it listens
  kWorkloadStart = 2,  // agent: the workload is prepared and waits for kRelease
  kRelease = 3,        // init: the start was reported
  kWorkloadExit = 4,   // agent: exit status 0..255; nothing is left to do
  kSignal = 5,         // init: signal number for the workload's process group
};

struct LinkMessage {
  LinkType type;
  std::uint32_t value = 0;
};

struct LinkEnds {
  UniqueFd init;
  UniqueFd agent;
};
// Both ends non-blocking and close-on-exec.
Result<LinkEnds> make_link();

// kIo when the peer does not take messages now, kGone when it has ended.
Status send_link(int fd, LinkMessage message);
// The next message, nothing when none is waiting, kGone when the peer has ended.
Result<std::optional<LinkMessage>> receive_link(int fd);

// What the agent needs to know of the boot configuration. Passed in a memory file, never in the
// environment or the arguments, which other processes can read.
struct AgentSettings {
  std::string hostname;
  std::vector<std::string> env;  // base environment of every process
  std::vector<HostEntry> hosts;  // what init has added to /etc/hosts
};
std::vector<std::byte> encode_settings(const AgentSettings& settings);
Result<AgentSettings> decode_settings(std::span<const std::byte> bytes);

}  // namespace sm::guest
