#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "tree/prefix_tree.h"

namespace blendserve {
namespace {

constexpr std::size_t kTokensShown = 8;

// One segment of the tree: an inner node, or the rest of one prompt.
struct Segment {
  std::int32_t begin = 0;  // first leaf
  std::int32_t end = 0;
  std::int32_t from = 0;  // tokens [from, to) of the leaf's prompt
  std::int32_t to = 0;
  std::int32_t level = 0;
};

std::vector<std::int32_t> node_levels(const TreeLayout& layout) {
  std::vector<std::int32_t> levels(layout.nodes.size(), 0);
  for (std::size_t id = layout.nodes.size() - 1; id-- > 0;) {
    levels[id] = levels[static_cast<std::size_t>(layout.nodes[id].parent)] + 1;
  }
  return levels;
}

// From left to right, parents before their children.
std::vector<Segment> segments_in_order(const PrefixTree& tree) {
  const TreeLayout& layout = tree.layout();
  const auto levels = node_levels(layout);
  std::vector<Segment> segments;
  for (std::size_t id = 0; id < layout.nodes.size(); ++id) {
    const TreeNode& node = layout.nodes[id];
    segments.push_back({node.begin, node.end, layout.parent_depth(node), node.depth, levels[id]});
  }
  for (std::int32_t leaf = 0; leaf < tree.num_requests(); ++leaf) {
    const auto index = static_cast<std::size_t>(leaf);
    segments.push_back({leaf, leaf + 1, layout.leaf_parent_depth(leaf), tree.prompt_len(layout.rows[index]),
                        levels[static_cast<std::size_t>(layout.leaf_parents[index])] + 1});
  }
  std::ranges::stable_sort(segments, [](const Segment& a, const Segment& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.level < b.level;
  });
  return segments;
}

}  // namespace

std::string PrefixTree::to_string(std::int32_t max_lines) const {
  std::ostringstream text;
  std::int32_t num_lines = 0;
  const auto segments = segments_in_order(*this);
  for (const Segment& segment : segments) {
    if (num_lines++ == max_lines) {
      text << "... " << static_cast<std::int64_t>(segments.size()) - max_lines << " more\n";
      break;
    }
    const std::int32_t row = layout_.rows.empty() ? 0 : layout_.rows[static_cast<std::size_t>(segment.begin)];
    text << std::string(2 * static_cast<std::size_t>(segment.level), ' ') << '[' << segment.from << ", " << segment.to
         << ") ";
    if (segment.end - segment.begin == 1 && segment.level > 0) {
      text << "request " << row;
    } else {
      text << segment.end - segment.begin << " requests";
    }
    if (segment.to > segment.from) {
      const auto tokens = prompt(row).subspan(static_cast<std::size_t>(segment.from),
                                              static_cast<std::size_t>(segment.to - segment.from));
      text << ":";
      for (const Token token : tokens.first(std::min(kTokensShown, tokens.size()))) text << ' ' << token;
      if (tokens.size() > kTokensShown) text << " ...";
    }
    text << '\n';
  }
  return text.str();
}

}  // namespace blendserve
