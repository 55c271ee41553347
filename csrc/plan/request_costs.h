#pragma once

#include <cstdint>

#include "estimate/length_estimate.h"
#include "perf/cost_model.h"

namespace blendserve {

// Seconds of the two resources that work takes.
struct Cost {
  double compute_s = 0;
  double memory_s = 0;

  Cost& operator+=(const Cost& other) {
    compute_s += other.compute_s;
    memory_s += other.memory_s;
    return *this;
  }
  double total() const { return compute_s + memory_s; }
  // compute / memory, +infinity without memory time.
  double density() const { return blendserve::density(compute_s, memory_s); }
};

// What the costs of a request depend on.
struct RequestShape {
  LengthEstimate output_len;
  std::int32_t prompt_len = 0;
  bool is_length_known = false;  // else output_len is an estimate
};

// What requests cost where they stand in a tree, by PAPER.md's closed forms with E[d] and E[d²] for d and d². Borrows
// the model.
class RequestCosts {
 public:
  explicit RequestCosts(const CostModel& model) : model_(&model) {}

  const CostModel& model() const { return *model_; }
  bool has_cascade_attention() const { return model_->model().cascade_attention; }

  // A request whose first `shared_len` tokens are computed elsewhere: the rest of its prompt, and its output. With
  // cascade attention these tokens are also read elsewhere.
  Cost leaf(const RequestShape& request, std::int32_t shared_len) const {
    const double p = request.prompt_len;
    const LengthEstimate& d = request.output_len;
    return {model_->segment_compute_s(shared_len, p) + model_->decode_compute_s(d.mean),
            model_->memory_s(has_cascade_attention() ? p - shared_len : p, d.mean, d.second_moment)};
  }

  // A shared segment [begin, end), computed once. With cascade attention it is read once a step for all requests below
  // it: for at least as many steps as the longest of them, `max_steps`, takes.
  Cost segment(std::int32_t begin, std::int32_t end, double max_steps) const {
    return {model_->segment_compute_s(begin, end),
            has_cascade_attention() ? model_->memory_s(end - begin, max_steps, 0) : 0.0};
  }

 private:
  const CostModel* model_;
};

}  // namespace blendserve
