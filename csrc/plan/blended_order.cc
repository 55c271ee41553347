#include "plan/blended_order.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <queue>
#include <utility>

namespace blendserve {
namespace {

struct Ending {
  double step = 0;
  std::int32_t leaf = 0;

  friend bool operator>(const Ending& a, const Ending& b) {
    return a.step != b.step ? a.step > b.step : a.leaf > b.leaf;
  }
};

class Replay {
 public:
  Replay(const AnnotatedTree& tree, DualScan scan, double step_tokens)
      : tree_(tree), scan_(std::move(scan)), step_tokens_(step_tokens) {
    order_.reserve(tree.layout.rows.size());
  }

  std::vector<std::int32_t> run() && {
    scan_.begin_steps();
    while (!scan_.is_exhausted()) {
      const double num_steps = admit_step() ? 1.0 : steps_until_event();
      step_ += num_steps;
      scan_.begin_steps(num_steps);
      end_requests();
    }
    return std::move(order_);
  }

 private:
  // Whether anything was admitted. A step always has room for one request, whatever decodes.
  bool admit_step() {
    double left = std::max(step_tokens_ - static_cast<double>(running_.size()), 1.0);
    bool has_admitted = false;
    while (left > 0) {
      const auto candidate = scan_.next();
      if (!candidate) break;
      const auto leaf = static_cast<std::size_t>(candidate->leaf);
      const RequestShape& shape = tree_.shapes[leaf];
      scan_.admit(candidate->leaf, candidate->side);
      order_.push_back(tree_.layout.rows[leaf]);
      left -= shape.prompt_len - tree_.layout.lcp[leaf] + 1;
      running_.push({step_ + std::max(1.0, shape.output_len.mean), candidate->leaf});
      has_admitted = true;
    }
    return has_admitted;
  }

  // Until the left side has credit again or a request ends.
  double steps_until_event() const {
    const double until_credit = scan_.steps_until_credit();
    if (running_.empty()) return until_credit;
    return std::max(1.0, std::min(until_credit, std::ceil(running_.top().step - step_)));
  }

  void end_requests() {
    while (!running_.empty() && running_.top().step <= step_) {
      scan_.release(running_.top().leaf);
      running_.pop();
    }
  }

  const AnnotatedTree& tree_;
  DualScan scan_;
  double step_tokens_;
  double step_ = 0;
  std::priority_queue<Ending, std::vector<Ending>, std::greater<>> running_;
  std::vector<std::int32_t> order_;
};

}  // namespace

std::vector<std::int32_t> blended_order(const AnnotatedTree& tree, DualScan scan, double step_tokens) {
  return Replay(tree, std::move(scan), step_tokens).run();
}

}  // namespace blendserve
