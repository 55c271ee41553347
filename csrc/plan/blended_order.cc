#include "plan/blended_order.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "base/huge_pages.h"
#include "plan/ending_queue.h"

namespace blendserve {
namespace {

class Replay {
 public:
  Replay(const AnnotatedTree& tree, DualScan scan, double step_tokens)
      : tree_(tree), scan_(std::move(scan)), step_tokens_(step_tokens), running_(tree.layout.num_leaves()) {
    reserve_huge(order_, tree.layout.rows.size());
  }

  std::vector<std::int32_t> run() && {
    scan_.begin_steps();
    while (!scan_.is_exhausted()) {
      const std::int64_t next_step = admit_step() ? step_ + 1 : next_event();
      scan_.begin_steps(static_cast<double>(next_step - step_));
      step_ = next_step;
      running_.pop_all(step_, [this](std::int32_t leaf) { scan_.release(leaf); });
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
      const RequestShape shape = tree_.shapes[leaf];
      scan_.admit(candidate->leaf, candidate->side);
      order_.push_back(tree_.layout.rows[leaf]);
      left -= shape.prompt_len - tree_.layout.lcp[leaf] + 1;
      running_.push(step_ + static_cast<std::int64_t>(std::ceil(std::max(1.0, shape.output_len.mean))),
                    candidate->leaf);
      has_admitted = true;
    }
    return has_admitted;
  }

  // The step at which a request ends or the left side has credit again.
  std::int64_t next_event() const {
    constexpr double kFar = 1e15;
    return running_.next_step(step_ + static_cast<std::int64_t>(std::min(scan_.steps_until_credit(), kFar)));
  }

  const AnnotatedTree& tree_;
  DualScan scan_;
  double step_tokens_;
  std::int64_t step_ = 0;
  EndingQueue running_;
  std::vector<std::int32_t> order_;
};

}  // namespace

std::vector<std::int32_t> blended_order(const AnnotatedTree& tree, DualScan scan, double step_tokens) {
  return Replay(tree, std::move(scan), step_tokens).run();
}

}  // namespace blendserve
