#include "policy/waiting_work.h"

namespace blendserve {

WaitingWork::WaitingWork(const Plan& plan, const OnlineEstimator& estimator)
    : plan_(plan),
      estimator_(estimator),
      classes_(estimator.num_classes() + 1),
      is_opened_(plan.layout().nodes.size(), false) {
  double output_len = 0;
  for (std::int32_t leaf = 0; leaf < plan.num_requests(); ++leaf) {
    const RequestShape shape = plan.tree().shapes[static_cast<std::size_t>(leaf)];
    sums_of(leaf).add(shape, 1);
    output_len += shape.output_len.mean;
  }
  prefill_s_ = plan.tree().total().compute_s - plan.model().decode_compute_s(output_len);
}

void WaitingWork::Sums::add(const RequestShape& shape, double sign) {
  output_len += sign * shape.output_len.mean;
  squared_means += sign * shape.output_len.mean * shape.output_len.mean;
  prompt_by_output += sign * shape.prompt_len * shape.output_len.mean;
}

WaitingWork::Sums& WaitingWork::sums_of(std::int32_t leaf) {
  if (plan_.tree().shapes[static_cast<std::size_t>(leaf)].is_length_known) return classes_.back();
  return classes_[estimator_.class_of(plan_.layout().rows[static_cast<std::size_t>(leaf)])];
}

void WaitingWork::take(std::int32_t leaf) {
  const TreeLayout& layout = plan_.layout();
  const RequestShape shape = plan_.tree().shapes[static_cast<std::size_t>(leaf)];
  sums_of(leaf).add(shape, -1);
  prefill_s_ -= plan_.model().segment_compute_s(layout.leaf_parent_depth(leaf), shape.prompt_len);
  for (NodeId id = layout.leaf_parents[static_cast<std::size_t>(leaf)];
       id != kNoNode && !is_opened_[static_cast<std::size_t>(id)]; id = layout.node(id).parent) {
    is_opened_[static_cast<std::size_t>(id)] = true;
    prefill_s_ -= plan_.model().segment_compute_s(layout.parent_depth(layout.node(id)), layout.node(id).depth);
  }
}

double WaitingWork::compute_s() const {
  double output_len = classes_.back().output_len;
  for (std::size_t i = 0; i + 1 < classes_.size(); ++i) {
    output_len += estimator_.scale(i).mean * classes_[i].output_len;
  }
  return prefill_s_ + plan_.model().decode_compute_s(output_len);
}

double WaitingWork::memory_s() const {
  const Sums& known = classes_.back();
  double reads = known.prompt_by_output + known.squared_means / 2;
  for (std::size_t i = 0; i + 1 < classes_.size(); ++i) {
    const LengthEstimate scale = estimator_.scale(i);
    reads += scale.mean * classes_[i].prompt_by_output + scale.second_moment * classes_[i].squared_means / 2;
  }
  return plan_.model().t_kv() * reads;
}

}  // namespace blendserve
