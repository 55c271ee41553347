#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "estimate/evidence.h"
#include "perf/bounds.h"
#include "plan/conditional_split.h"
#include "plan/dual_scan.h"
#include "tree/prefix_tree.h"

namespace blendserve {

struct PlanConfig {
  LengthEstimate prior = LengthEstimate::exactly(256.0);  // of an output length about which nothing is known
  SplitConfig split;
  std::int32_t step_tokens = 2048;  // tokens a step computes, in the static order

  // Throws InvalidInput that names the value. The prior is checked with the lengths.
  void validate() const;
};

// Wall seconds of the stages of planning.
struct PlanTimes {
  double build_s = 0;
  double estimate_s = 0;
  double sort_s = 0;  // annotation, sorts, scan units and the order
  double split_s = 0;
};

// The figures of a plan. docs/metrics.md defines them.
struct PlanSummary {
  std::int64_t num_prompt_tokens = 0;
  std::int64_t num_unique_tokens = 0;
  std::int64_t num_nodes = 0;  // of the tree before splits
  Cost cost;                   // of the whole job by PAPER.md's closed forms, nothing computed twice
  Bound bound;
  SplitReport split;
  PlanTimes times;

  double sharing_ratio_optimal() const { return sharing_ratio(0); }
  double sharing_ratio_planned() const { return sharing_ratio(split.num_copied_tokens); }

 private:
  double sharing_ratio(std::int64_t num_copied_tokens) const;
};

// A job, ready to be scheduled: its tree with output lengths estimated, layer-sorted, its outliers split off.
// Immutable.
class Plan {
 public:
  // `build_s` is what the tree took, for the summary. Throws InvalidInput for a tree without requests, for lengths that
  // can't be used, and where the model does not fit the device.
  static std::shared_ptr<const Plan> make(const PrefixTree& tree, const KnownLengths& known, const CostModel& model,
                                          const PlanConfig& config, double build_s);
  // From what a plan consists of: `shapes` by row, `rows` and `lcp` of its layout, and its order. Throws InvalidInput
  // unless they belong together.
  static std::shared_ptr<const Plan> restore(CostModel model, const std::vector<RequestShape>& shapes,
                                             std::vector<std::int32_t> rows, std::vector<std::int32_t> lcp,
                                             std::vector<std::int32_t> order, const PlanSummary& summary);
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  // The planned tree.
  const AnnotatedTree& tree() const { return tree_; }
  const TreeLayout& layout() const { return tree_.layout; }
  const std::vector<ScanUnit>& units() const { return units_; }

  std::int32_t num_requests() const { return layout().num_leaves(); }
  const CostModel& model() const { return model_; }
  RequestCosts costs() const { return RequestCosts(model_); }

  // The dual scanner at the start of the job, for `capacity_tokens` of KV cache. Borrows this plan.
  DualScan scan(double capacity_tokens) const { return {tree_, units_, model_, capacity_tokens}; }
  // The rows in the order in which it admits them if every length is as estimated.
  const std::vector<std::int32_t>& order() const { return order_; }

  const PlanSummary& summary() const { return summary_; }

 private:
  Plan(CostModel model, RequestShapes shapes, TreeLayout layout);

  CostModel model_;
  AnnotatedTree tree_;
  std::vector<ScanUnit> units_;
  std::vector<std::int32_t> order_;
  PlanSummary summary_;
};

}  // namespace blendserve
