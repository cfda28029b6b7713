// Sizes, times and tables for people.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sm {

// "1.5GB": three digits, powers of 1000, as Docker has it.
std::string human_size(std::uint64_t bytes);

// "3 days ago" for an RFC 3339 time; "N/A" for one that cannot be read.
std::string human_age(std::string_view rfc3339);

// Columns padded to their widest cell, three blanks between them; the first row is the head. To
// standard output.
void print_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace sm
