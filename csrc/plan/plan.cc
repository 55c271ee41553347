#include "plan/plan.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>
#include <utility>

#include "base/error.h"
#include "estimate/tree_estimate.h"
#include "plan/annotate.h"
#include "plan/blended_order.h"
#include "plan/layer_sort.h"
#include "plan/workload_sums.h"

namespace blendserve {
namespace {

// Adds the wall seconds of its life to `total`.
class Stopwatch {
 public:
  explicit Stopwatch(double& total) : total_(total) {}
  ~Stopwatch() { total_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double& total_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

void check_permutation(const std::vector<std::int32_t>& rows, std::size_t num_requests, const char* name) {
  std::vector<bool> is_seen(num_requests, false);
  bool is_valid = rows.size() == num_requests;
  for (std::size_t i = 0; is_valid && i < rows.size(); ++i) {
    const auto row = static_cast<std::size_t>(rows[i]);
    is_valid = rows[i] >= 0 && row < num_requests && !is_seen[row];
    if (is_valid) is_seen[row] = true;
  }
  if (!is_valid) {
    throw InvalidInput(std::string(name) + " must name each of the " + std::to_string(num_requests) + " requests once");
  }
}

void check_lcp(const std::vector<std::int32_t>& lcp, const RequestShapes& shapes) {
  bool is_valid = lcp.size() == shapes.size() && (lcp.empty() || lcp.front() == 0);
  for (std::size_t i = 1; is_valid && i < lcp.size(); ++i) {
    is_valid = 0 <= lcp[i] && lcp[i] <= std::min(shapes[i - 1].prompt_len, shapes[i].prompt_len);
  }
  if (!is_valid) {
    throw InvalidInput("lcp must have the common prefix length of each request with the one before");
  }
}

void check_shapes(const std::vector<RequestShape>& shapes) {
  for (std::size_t row = 0; row < shapes.size(); ++row) {
    const auto [mean, second_moment] = shapes[row].output_len;
    if (shapes[row].prompt_len >= 0 && mean >= 0 && mean <= kMaxLength && second_moment >= 0 &&
        std::isfinite(second_moment)) {
      continue;
    }
    throw InvalidInput("request " + std::to_string(row) + " has prompt length " +
                       std::to_string(shapes[row].prompt_len) + ", expected output length " + std::to_string(mean) +
                       " and second moment " + std::to_string(second_moment));
  }
}

RequestShapes by_leaf(const std::vector<RequestShape>& by_row, const std::vector<std::int32_t>& rows) {
  RequestShapes shapes;
  shapes.reserve(rows.size());
  for (const std::int32_t row : rows) shapes.push_back(by_row[static_cast<std::size_t>(row)]);
  return shapes;
}

// By leaf of the tree.
RequestShapes shapes_of(const PrefixTree& tree, const LeafEstimates& output_len, const KnownLengths& known) {
  const std::vector<std::int32_t>& rows = tree.layout().rows;
  RequestShapes shapes;
  shapes.reserve(rows.size());
  for (std::int32_t leaf = 0; leaf < tree.num_requests(); ++leaf) {
    const std::int32_t row = rows[static_cast<std::size_t>(leaf)];
    shapes.push_back({output_len(leaf), tree.prompt_len(row), known.is_known(row)});
  }
  return shapes;
}

}  // namespace

void PlanConfig::validate() const {
  split.validate();
  if (step_tokens < 1) {
    throw InvalidInput("step_tokens is " + std::to_string(step_tokens) + "; it must be at least 1");
  }
}

double PlanSummary::sharing_ratio(std::int64_t num_copied_tokens) const {
  if (num_prompt_tokens == 0) return 0.0;
  return 1.0 - static_cast<double>(num_unique_tokens + num_copied_tokens) / static_cast<double>(num_prompt_tokens);
}

Plan::Plan(CostModel model, RequestShapes shapes, TreeLayout layout)
    : model_(std::move(model)), tree_(annotate(std::move(layout), std::move(shapes), costs())) {}

std::shared_ptr<const Plan> Plan::make(const PrefixTree& tree, const KnownLengths& known, const CostModel& model,
                                       const PlanConfig& config, double build_s) {
  if (tree.num_requests() == 0) throw InvalidInput("there are no requests to plan; give at least one prompt");
  config.validate();
  const auto capacity = static_cast<double>(model.kv_capacity_tokens());
  PlanSummary summary;
  summary.num_prompt_tokens = tree.num_prompt_tokens();
  summary.num_unique_tokens = tree.num_unique_tokens();
  summary.num_nodes = tree.num_nodes();
  PlanTimes& times = summary.times;
  times.build_s = build_s;
  RequestShapes shapes;
  {
    const Stopwatch watch(times.estimate_s);
    shapes = shapes_of(tree, LeafEstimates(tree, known, config.prior), known);
  }
  std::shared_ptr<Plan> plan;
  {
    const Stopwatch watch(times.sort_s);
    plan.reset(new Plan(model, std::move(shapes), tree.layout()));
    summary.bound = bound(model, workload_sums(plan->tree_, model.model().cascade_attention));
    summary.cost = plan->tree_.total();
    layer_sort(plan->tree_);
  }
  {
    const Stopwatch watch(times.split_s);
    summary.split = conditional_split(plan->tree_, config.split);
  }
  {
    const Stopwatch watch(times.sort_s);
    plan->units_ = scan_units(plan->tree_);
    plan->order_ = blended_order(plan->tree_, plan->scan(capacity), config.step_tokens);
  }
  plan->summary_ = summary;
  return plan;
}

std::shared_ptr<const Plan> Plan::restore(CostModel model, const std::vector<RequestShape>& shapes,
                                          std::vector<std::int32_t> rows, std::vector<std::int32_t> lcp,
                                          std::vector<std::int32_t> order, const PlanSummary& summary) {
  check_shapes(shapes);
  check_permutation(rows, shapes.size(), "rows");
  check_permutation(order, shapes.size(), "order");
  auto leaf_shapes = by_leaf(shapes, rows);
  check_lcp(lcp, leaf_shapes);
  const std::shared_ptr<Plan> plan(
      new Plan(std::move(model), std::move(leaf_shapes), TreeLayout::from_lcp(std::move(rows), std::move(lcp))));
  plan->units_ = scan_units(plan->tree_);
  plan->order_ = std::move(order);
  plan->summary_ = summary;
  return plan;
}

}  // namespace blendserve
