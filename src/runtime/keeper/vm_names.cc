// Random names and ids of VMs.
#include <sys/random.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <string_view>

#include "runtime/keeper/vm_registry.h"

namespace sm {

namespace {

constexpr std::array<std::string_view, 48> kQualities = {
    "amber", "bold",   "brave",  "bright", "brisk",   "calm",  "clear",  "clever",
    "cosy",  "crisp",  "dapper", "deft",   "eager",   "early", "fair",   "fleet",
    "fond",  "gentle", "glad",   "golden", "grand",   "happy", "hardy",  "honest",
    "jolly", "keen",   "kind",   "lively", "lucid",   "lucky", "mellow", "merry",
    "mild",  "modest", "neat",   "nimble", "patient", "plain", "polite", "proud",
    "quick", "quiet",  "ready",  "silver", "steady",  "sunny", "tidy",   "warm"};

constexpr std::array<std::string_view, 64> kCreatures = {
    "adder",   "alder",  "badger",  "beaver",  "birch",  "bison",    "bittern", "cedar",
    "cicada",  "cod",    "crane",   "cricket", "curlew", "dormouse", "dove",    "eagle",
    "eel",     "elk",    "falcon",  "fern",    "finch",  "fox",      "gannet",  "goose",
    "grouse",  "gull",   "hare",    "hazel",   "heron",  "ibis",     "jackdaw", "jay",
    "kestrel", "kite",   "lapwing", "lark",    "linnet", "lynx",     "magpie",  "maple",
    "marten",  "merlin", "mole",    "newt",    "oak",    "osprey",   "otter",   "owl",
    "perch",   "pike",   "plover",  "puffin",  "quail",  "raven",    "robin",   "rowan",
    "seal",    "shrew",  "stoat",   "swift",   "tern",   "trout",    "vole",    "wren"};

}  // namespace

std::string random_vm_name() {
  std::uint32_t number = 0;
  // Names need not be secret: without random numbers all VMs are amber adders with a suffix.
  if (::getrandom(&number, sizeof(number), 0) != sizeof(number)) number = 0;
  return std::string(kQualities[number % kQualities.size()]) + "_" +
         std::string(kCreatures[(number >> 16) % kCreatures.size()]);
}

Result<std::string> random_vm_id() {
  std::array<char, 32> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return fail_errno("getrandom", errno);
  }
  return to_hex(std::string_view(bytes.data(), bytes.size()));
}

}  // namespace sm
