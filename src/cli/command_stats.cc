// `stats`: what VMs use.
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <map>
#include <memory>

#include "base/clock.h"
#include "base/json.h"
#include "cli/image_command.h"
#include "cli/output.h"
#include "cli/sizes.h"
#include "cli/vm_command.h"
#include "cli/vm_commands.h"
#include "runtime/keeper/keeper_client.h"

namespace sm {

namespace {

// Between two looks: the share of a processor is taken over this time.
constexpr int kIntervalMs = 1000;

struct Typed {
  bool no_stream = false;
  bool no_trunc = false;
  std::string format;
};

struct Sample {
  VmRecord vm;
  KeeperStats stats;
  std::uint64_t at_ns = 0;
};

std::map<std::string, Sample> look(const VmRegistry& registry,
                                   const std::vector<std::string>& words) {
  std::map<std::string, Sample> out;
  std::vector<VmRecord> vms;
  if (words.empty()) {
    vms = registry.all().value_or(std::vector<VmRecord>());
  } else {
    for (const auto& word : words) {
      if (auto vm = registry.find(word)) vms.push_back(*std::move(vm));
    }
  }
  for (auto& vm : vms) {
    auto reply = ask_keeper(
        vm, {.verb = KeeperVerb::kStats, .signal = 0, .seconds = std::nullopt, .text = {}});
    // One that has ended uses nothing, and is left out unless it was named.
    if (!reply && words.empty()) continue;
    const std::string id = vm.id;
    out[id] = {std::move(vm), reply ? reply->stats : KeeperStats{}, monotonic_ns()};
  }
  return out;
}

double cpu_percent(const Sample& before, const Sample& after) {
  const auto span = static_cast<double>(after.at_ns - before.at_ns);
  if (span <= 0 || after.stats.cpu_ns < before.stats.cpu_ns) return 0;
  return 100.0 * static_cast<double>(after.stats.cpu_ns - before.stats.cpu_ns) / span;
}

std::string binary_size(std::uint64_t bytes) {
  if (bytes >= 1ull << 30) return fmt::format("{:.4g}GiB", static_cast<double>(bytes) / (1 << 30));
  if (bytes >= 1ull << 20) return fmt::format("{:.4g}MiB", static_cast<double>(bytes) / (1 << 20));
  return fmt::format("{:.4g}KiB", static_cast<double>(bytes) / (1 << 10));
}

void print(const std::map<std::string, Sample>& before, const std::map<std::string, Sample>& after,
           const Typed& typed, bool json) {
  std::vector<std::vector<std::string>> table = {
      {"VM ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "I/O", "PIDS"}};
  for (const auto& [id, sample] : after) {
    const auto earlier = before.find(id);
    const auto& s = sample.stats;
    const double cpu = earlier == before.end() ? 0 : cpu_percent(earlier->second, sample);
    const double share = s.memory_limit == 0 ? 0
                                             : 100.0 * static_cast<double>(s.memory_bytes) /
                                                   static_cast<double>(s.memory_limit);
    const std::string shown = typed.no_trunc ? id : short_vm_id(id);
    const std::string memory = binary_size(s.memory_bytes) + " / " + binary_size(s.memory_limit);
    const std::string io = human_size(s.read_bytes) + " / " + human_size(s.write_bytes);
    if (json) {
      fmt::print("{}\n", dump_json({{"ID", id},
                                    {"Name", sample.vm.name},
                                    {"CPUPerc", fmt::format("{:.2f}%", cpu)},
                                    {"CPUNs", s.cpu_ns},
                                    {"MemUsage", memory},
                                    {"MemBytes", s.memory_bytes},
                                    {"MemPerc", fmt::format("{:.2f}%", share)},
                                    {"BlockIO", io},
                                    {"PIDs", s.processes}}));
    } else {
      table.push_back({shown, sample.vm.name, fmt::format("{:.2f}%", cpu), memory,
                       fmt::format("{:.2f}%", share), io, std::to_string(s.processes)});
    }
  }
  if (!json) print_table(table);
  std::fflush(stdout);
}

Status stats(const Typed& typed, const std::vector<std::string>& words) {
  const bool json = SM_TRY(wants_json(typed.format));
  const auto registry = SM_TRY(VmRegistry::open());
  for (const auto& word : words) SM_TRY(registry.find(word));
  auto before = look(registry, words);
  const bool screen = !json && !typed.no_stream && ::isatty(STDOUT_FILENO) == 1;
  for (;;) {
    ::poll(nullptr, 0, kIntervalMs);
    auto after = look(registry, words);
    if (screen) fmt::print("\x1b[H\x1b[2J");
    print(before, after, typed, json);
    if (typed.no_stream || std::ferror(stdout) != 0) return {};
    before = std::move(after);
  }
}

}  // namespace

void add_stats(Command& app, Action& chosen) {
  Command* command =
      app.add_subcommand("stats", "Show what running VMs use: stats [OPTIONS] [VM...]");
  auto typed = std::make_shared<Typed>();
  command->add_flag("--no-stream", typed->no_stream, "Once");
  command->add_flag("--no-trunc", typed->no_trunc, "Print whole ids");
  command->add_option("--format", typed->format, "table, or json: one object per line")
      ->type_name("FORMAT");
  set_image_action(*command, chosen, {0, kManyVms, ""}, {"-a", "--all"},
                   [typed](const auto& words) { return stats(*typed, words); });
}

}  // namespace sm
