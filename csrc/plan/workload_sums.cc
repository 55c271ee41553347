#include "plan/workload_sums.h"

#include <algorithm>

#include "plan/annotate.h"

namespace blendserve {

WorkloadSums workload_sums(const TreeLayout& layout, const RequestCosts& costs) {
  WorkloadSums sums;
  for (std::int32_t leaf = 0; leaf < layout.num_leaves(); ++leaf) {
    const auto index = static_cast<std::size_t>(leaf);
    const std::int32_t row = layout.rows[index];
    const std::int32_t len = costs.prompt_len(row);
    const std::int32_t own_len = len - layout.leaf_parent_depth(leaf);
    sums.add_segment(layout.lcp[index], len);
    sums.add_request(costs.has_cascade_attention() ? own_len : len, own_len, costs.output_len(row).mean,
                     costs.output_len(row).second_moment);
  }
  if (costs.has_cascade_attention()) {
    const auto longest = max_output_lens(layout, costs);
    for (std::size_t id = 0; id < layout.nodes.size(); ++id) {
      const TreeNode& node = layout.nodes[id];
      const double steps = std::max(longest[id] - 1, 0.0);
      sums.kv_reads += (node.depth - layout.parent_depth(node)) * steps;
    }
  }
  return sums;
}

}  // namespace blendserve
