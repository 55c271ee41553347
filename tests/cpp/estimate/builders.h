#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "base/rng.h"
#include "tree/prefix_tree.h"
#include "tree/random_prompts.h"

namespace blendserve {

inline PrefixTree tree_of(const Prompts& prompts) {
  ThreadPool pool(1);
  return PrefixTree::build(Workload::from_prompts(prompts), pool);
}

// Groups of prompts: `size` of them begin with the token of their group and end with one of their own.
inline Prompts grouped_prompts(const std::vector<int>& sizes, std::vector<Token> prefix = {}) {
  Prompts prompts;
  for (std::size_t group = 0; group < sizes.size(); ++group) {
    for (int i = 0; i < sizes[group]; ++i) {
      prompts.push_back(prefix);
      prompts.back().push_back(static_cast<Token>(group));
      prompts.back().push_back(static_cast<Token>(i));
    }
  }
  return prompts;
}

// Draws of one seed, one after the other.
class Draws {
 public:
  explicit Draws(std::uint64_t seed) : seed_(seed) {}
  double uniform() { return random_uniform(seed_, counter_++); }
  double exponential(double mean) { return -mean * std::log1p(-uniform()); }
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log1p(-uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }
  std::size_t below(std::size_t end) { return static_cast<std::size_t>(uniform() * static_cast<double>(end)); }

 private:
  std::uint64_t seed_;
  std::uint64_t counter_ = 0;
};

}  // namespace blendserve
