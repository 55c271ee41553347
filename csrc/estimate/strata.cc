#include "estimate/strata.h"

#include <algorithm>
#include <tuple>

namespace blendserve {

Strata top_level_strata(const TreeLayout& layout) {
  struct Place {
    std::int32_t stratum = 0;  // of an opened node: that of its own leaves
    bool is_open = false;
  };
  Strata strata;
  std::vector<Place> places(layout.nodes.size());
  const auto add_stratum = [&](std::int32_t level) {
    strata.sizes.push_back(0);
    strata.levels.push_back(level);
    return strata.size() - 1;
  };
  for (NodeId id = layout.root(); id >= 0; --id) {
    const TreeNode& node = layout.node(id);
    Place& place = places[static_cast<std::size_t>(id)];
    if (node.parent == kNoNode) {
      place = {add_stratum(0), true};
      continue;
    }
    const Place above = places[static_cast<std::size_t>(node.parent)];
    if (!above.is_open) {
      place = above;
      continue;
    }
    const std::int32_t level = strata.levels[static_cast<std::size_t>(above.stratum)];
    const bool is_open = node.end - node.begin > layout.num_leaves() / 2;
    place = {add_stratum(is_open ? level + 1 : level), is_open};
  }
  strata.leaf_strata.reserve(layout.rows.size());
  for (const NodeId parent : layout.leaf_parents) {
    const std::int32_t stratum = places[static_cast<std::size_t>(parent)].stratum;
    strata.leaf_strata.push_back(stratum);
    ++strata.sizes[static_cast<std::size_t>(stratum)];
  }
  return strata;
}

std::vector<std::int32_t> strata_by_rank(const Strata& strata) {
  std::vector<std::int32_t> ranked;
  for (std::int32_t stratum = 0; stratum < strata.size(); ++stratum) {
    if (strata.sizes[static_cast<std::size_t>(stratum)] > 0) ranked.push_back(stratum);
  }
  std::ranges::sort(ranked, {}, [&](std::int32_t stratum) {
    const auto index = static_cast<std::size_t>(stratum);
    return std::tuple(strata.levels[index], -strata.sizes[index], stratum);
  });
  return ranked;
}

}  // namespace blendserve
