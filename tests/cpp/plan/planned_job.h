#pragma once

#include <cstdint>
#include <vector>

#include "plan/annotate.h"
#include "plan/layer_sort.h"
#include "plan/request_costs.h"
#include "tree/prefix_tree.h"
#include "tree/random_prompts.h"

namespace blendserve {

// A device on which a token of compute, and 100 tokens of KV read, take a second: densities are easy to work out.
inline CostModel simple_model(bool cascade_attention = false) {
  ModelSpec model{.name = "simple", .num_layers = 1};
  model.attention_width = 1e-12;  // not 0, which is refused
  model.kv_width = 1;
  model.num_params = 1;
  model.weight_bytes = 2;
  model.kv_bytes = 2;
  model.cascade_attention = cascade_attention;
  DeviceSpec device{.name = "simple", .memory_bytes = 4e9};
  device.flops_4_byte = device.flops_2_byte = device.flops_1_byte = 2;
  device.bandwidth = 400;
  return {model, device};
}

// Prompts with known output lengths, and all that planning needs of them.
struct PlannedJob {
  PrefixTree tree;
  CostModel model;
  RequestCosts costs;
  AnnotatedTree planned;

  PlannedJob(const Prompts& prompts, const std::vector<double>& output_lens, bool cascade_attention = false)
      : tree(build(prompts)),
        model(simple_model(cascade_attention)),
        costs(model),
        planned(annotate(tree.layout(), shapes_of(tree, output_lens), costs)) {}
  PlannedJob(const PlannedJob&) = delete;
  PlannedJob& operator=(const PlannedJob&) = delete;

  void sort() { layer_sort(planned); }

  const TreeLayout& layout() const { return planned.layout; }
  std::int64_t num_unique_tokens() const {
    std::int64_t count = 0;
    for (std::size_t i = 0; i < layout().rows.size(); ++i) count += tree.prompt_len(layout().rows[i]) - layout().lcp[i];
    return count;
  }

  // Two thousand tokens or so, half of the requests with outputs about a hundred times as long as the others'.
  static std::vector<double> random_lengths(std::uint64_t seed, std::size_t count) {
    std::vector<double> lens;
    for (std::size_t i = 0; i < count; ++i) {
      const double draw = random_uniform(seed + 1000, i);
      lens.push_back(draw < 0.5 ? 1 + 20 * draw : 1000 * draw);
    }
    return lens;
  }

 private:
  static PrefixTree build(const Prompts& prompts) {
    ThreadPool pool(1);
    return PrefixTree::build(Workload::from_prompts(prompts), pool);
  }
  static RequestShapes shapes_of(const PrefixTree& tree, const std::vector<double>& output_lens) {
    RequestShapes shapes;
    for (const std::int32_t row : tree.layout().rows) {
      shapes.push_back({LengthEstimate::exactly(output_lens[static_cast<std::size_t>(row)]), tree.prompt_len(row)});
    }
    return shapes;
  }
};

}  // namespace blendserve
