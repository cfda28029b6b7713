#include "runtime/pool/start_gate_core.h"

#include <algorithm>
#include <string>

namespace sm {

namespace {

// Memory becomes free without anybody telling us.
constexpr Duration kMemoryPoll = std::chrono::milliseconds(250);

Error too_little_memory(std::uint64_t wanted, std::uint64_t available) {
  return Error(Code::kLimit,
               "the host has too little free memory for another VM (" +
                   std::to_string(available >> 20) + " MiB available, " +
                   std::to_string(wanted >> 20) + " MiB wanted)",
               "stop VMs, or give them less memory");
}

}  // namespace

TicketId StartGateCore::request(std::uint64_t memory_bytes, TimePoint now) {
  const TicketId ticket{next_ticket_++};
  queue_.push_back({ticket, memory_bytes, now, std::nullopt});
  return ticket;
}

void StartGateCore::finish(TicketId ticket) {
  starting_.erase(ticket);
  std::erase_if(queue_, [&](const Waiting& w) { return w.ticket == ticket; });
}

bool StartGateCore::may_start(const Waiting& start, TimePoint now) const {
  return limits_.permits == 0 || starting_.size() < limits_.permits ||
         now >= start.since + limits_.valve;
}

bool StartGateCore::fits(const Waiting& start, std::optional<std::uint64_t> available) const {
  if (!available) return true;
  std::uint64_t left = *available;
  const auto take = [&left](std::uint64_t bytes) {
    if (bytes > left) return false;
    left -= bytes;
    return true;
  };
  return take(limits_.reserve_bytes) &&
         std::all_of(starting_.begin(), starting_.end(),
                     [&](const auto& entry) { return take(entry.second); }) &&
         take(start.bytes);
}

std::vector<StartGateCore::Decision> StartGateCore::decide(TimePoint now,
                                                           std::optional<std::uint64_t> available) {
  std::vector<Decision> out;
  next_.reset();
  while (!queue_.empty()) {
    Waiting& first = queue_.front();
    if (!may_start(first, now)) {
      next_ = first.since + limits_.valve;
      break;
    }
    if (fits(first, available)) {
      starting_.emplace(first.ticket, first.bytes);
      out.push_back({first.ticket, std::nullopt});
      queue_.pop_front();
      continue;
    }
    if (!first.short_of_memory_since) first.short_of_memory_since = now;
    const TimePoint last = *first.short_of_memory_since + limits_.memory_patience;
    if (now < last) {
      next_ = std::min(now + kMemoryPoll, last);
      break;
    }
    out.push_back({first.ticket, too_little_memory(first.bytes, available.value_or(0))});
    queue_.pop_front();
  }
  return out;
}

std::optional<TimePoint> StartGateCore::next_decision() const { return next_; }

}  // namespace sm
