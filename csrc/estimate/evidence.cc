#include "estimate/evidence.h"

#include <string>

#include "base/error.h"

namespace blendserve {
namespace {

template <typename T, typename IsValid>
void check_each(const char* name, std::span<const T> values, std::int32_t num_requests, const char* remedy,
                const IsValid& is_valid) {
  if (values.size() != static_cast<std::size_t>(num_requests)) {
    throw InvalidInput(std::string(name) + " has " + std::to_string(values.size()) + " values for " +
                       std::to_string(num_requests) + " requests");
  }
  for (std::size_t row = 0; row < values.size(); ++row) {
    if (is_valid(values[row])) continue;
    throw InvalidInput(std::string(name) + "[" + std::to_string(row) + "] is " + std::to_string(values[row]) + "; " +
                       remedy);
  }
}

}  // namespace

void check_max_output_lens(std::span<const std::int32_t> max_output_lens, const PrefixTree& tree) {
  if (max_output_lens.empty()) return;
  check_each("max_output_lengths", max_output_lens, tree.num_requests(), "it must be 1 or more",
             [](std::int32_t len) { return len >= 1; });
}

void KnownLengths::check(const PrefixTree& tree) const {
  if (!lengths.empty()) {
    check_each("output_lengths", lengths, tree.num_requests(), "a length is 0 to 2147483647, or -1 if it is not known",
               [](double len) { return len == kUnknownLength || (len >= 0.0 && len <= kMaxLength); });
  }
  if (!weights.empty()) {
    check_each("evidence_weights", weights, tree.num_requests(), "a weight is 0, or 1e-9 to 1e9",
               [](double weight) { return weight == 0.0 || (weight >= 1e-9 && weight <= 1e9); });
  }
  check_max_output_lens(max_output_lens, tree);
}

bool KnownLengths::has_evidence() const {
  for (std::size_t row = 0; row < lengths.size(); ++row) {
    if (evidence_weight(static_cast<std::int32_t>(row)) > 0.0) return true;
  }
  return false;
}

}  // namespace blendserve
