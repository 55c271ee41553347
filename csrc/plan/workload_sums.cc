#include "plan/workload_sums.h"

#include <algorithm>

namespace blendserve {

WorkloadSums workload_sums(const AnnotatedTree& tree, bool has_cascade_attention) {
  const TreeLayout& layout = tree.layout;
  WorkloadSums sums;
  for (std::int32_t leaf = 0; leaf < layout.num_leaves(); ++leaf) {
    const auto index = static_cast<std::size_t>(leaf);
    const RequestShape shape = tree.shapes[index];
    const std::int32_t own_len = shape.prompt_len - layout.leaf_parent_depth(leaf);
    sums.add_segment(layout.lcp[index], shape.prompt_len);
    sums.add_request(has_cascade_attention ? own_len : shape.prompt_len, own_len, shape.output_len.mean,
                     shape.output_len.second_moment);
  }
  if (has_cascade_attention) {
    const auto longest = max_output_lens(layout, tree.shapes);
    for (std::size_t id = 0; id < layout.nodes.size(); ++id) {
      const TreeNode& node = layout.nodes[id];
      const double steps = std::max(longest[id] - 1, 0.0);
      sums.kv_reads += (node.depth - layout.parent_depth(node)) * steps;
    }
  }
  return sums;
}

}  // namespace blendserve
