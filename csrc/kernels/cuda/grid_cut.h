#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

namespace blendserve::cuda {

// Cuts work that lies end to end into one equal stretch for each CTA of a grid. Work comes in steps, which are not cut:
// a stretch ends at the step nearest to its share of the total cost.
class GridCut {
 public:
  // Item numbers go to cta_indptr [num_ctas + 1].
  GridCut(std::int64_t total_cost, std::span<std::int32_t> cta_indptr)
      : total_cost_(total_cost), cta_indptr_(cta_indptr) {
    cta_indptr_[0] = 0;
  }

  // How many of the next `num_steps` steps go to one CTA as item number `item`: 1 or more.
  std::int64_t take(std::int64_t num_steps, std::int64_t step_cost, std::int32_t item) {
    std::int64_t fitting = 0;
    while ((fitting = (end_of_cta() - at_ + step_cost / 2) / step_cost) <= 0) {
      cta_indptr_[++cta_] = item;
    }
    const std::int64_t taken = std::min(num_steps, fitting);
    at_ += taken * step_cost;
    return taken;
  }

  void close(std::int32_t num_items) {
    std::fill(cta_indptr_.begin() + static_cast<std::ptrdiff_t>(cta_) + 1, cta_indptr_.end(), num_items);
  }

 private:
  std::int64_t end_of_cta() const {
    return total_cost_ * static_cast<std::int64_t>(cta_ + 1) / static_cast<std::int64_t>(cta_indptr_.size() - 1);
  }

  std::int64_t total_cost_;
  std::span<std::int32_t> cta_indptr_;
  std::size_t cta_ = 0;  // the CTA that gets the next item
  std::int64_t at_ = 0;  // cost given out so far
};

}  // namespace blendserve::cuda
