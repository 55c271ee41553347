#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/huge_pages.h"
#include "plan/request_costs.h"

namespace blendserve {

// The shapes of many requests, a column for each property: without padding, and reordered with little memory.
class RequestShapes {
 public:
  std::size_t size() const { return prompt_lens_.size(); }
  RequestShape operator[](std::size_t index) const {
    return {{mean_lens_[index], second_moments_[index]}, prompt_lens_[index], is_known_[index] != 0};
  }

  // To be called while it is empty.
  void reserve(std::size_t count) {
    reserve_huge(mean_lens_, count);
    reserve_huge(second_moments_, count);
    reserve_huge(prompt_lens_, count);
    reserve_huge(is_known_, count);
  }
  void push_back(const RequestShape& shape) {
    mean_lens_.push_back(shape.output_len.mean);
    second_moments_.push_back(shape.output_len.second_moment);
    prompt_lens_.push_back(shape.prompt_len);
    is_known_.push_back(shape.is_length_known ? 1 : 0);
  }

  // Calls change(column) for every column: each must change in the same way.
  template <typename Change>
  void for_each_column(const Change& change) {
    change(mean_lens_);
    change(second_moments_);
    change(prompt_lens_);
    change(is_known_);
  }

 private:
  std::vector<double> mean_lens_;
  std::vector<double> second_moments_;
  std::vector<std::int32_t> prompt_lens_;
  std::vector<std::uint8_t> is_known_;
};

}  // namespace blendserve
