#pragma once

#include <cstdint>
#include <vector>

namespace blendserve {

// A set of indices in [0, size) that knows a member's neighbours: a tree of bitmaps, each bit of a level telling
// whether a word of the level below has members. Every operation takes one word a level, of which 2^31 indices need
// six.
class IndexSet {
 public:
  explicit IndexSet(std::int32_t size);

  bool empty() const { return levels_.back().empty() || levels_.back().front() == 0; }
  bool contains(std::int32_t index) const;
  void insert(std::int32_t index);
  void erase(std::int32_t index);

  // The smallest member above `index`, and the largest below it; kNone if there is none.
  std::int32_t next(std::int32_t index) const;
  std::int32_t previous(std::int32_t index) const;

  static constexpr std::int32_t kNone = -1;

 private:
  using Word = std::uint64_t;
  static constexpr int kWordBits = 64;

  std::vector<std::vector<Word>> levels_;  // the indices first, one word last
};

}  // namespace blendserve
