// Which of the known words was meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sm {

// How many letters have to be put in, taken out, exchanged or swapped with their neighbour.
std::size_t edit_distance(std::string_view a, std::string_view b);

// The known word that is nearest; empty when none is near enough to be meant.
std::string nearest_word(std::string_view word, const std::vector<std::string>& known);

}  // namespace sm
