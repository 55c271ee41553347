#pragma once

#include <cstdint>
#include <limits>

#include "kernels/cuda/kv_tile.cuh"
#include "kernels/cuda/softmax_state.h"
#include "kernels/cuda/tile_operands.cuh"

namespace blendserve::cuda {

// From the product of a query and a key to a score in the base-2 domain.
struct ScoreMap {
  float scale;  // of the product, capped or not
  float cap;    // 0: none; else the score is cap * tanh(scale * product)

  __device__ float operator()(float product) const {
    const float scaled = scale * product;
    if (cap == 0.0F) {
      return scaled;
    }
    constexpr float kTwoLog2E = 2.8853900817779268F;
    return cap * (1.0F - 2.0F / (1.0F + ptx::exp2_approx(scaled * kTwoLog2E)));
  }
};

// softcap 0: none.
inline ScoreMap score_map(float scale, float softcap) {
  constexpr float kLog2E = 1.4426950408889634F;
  return softcap == 0.0F ? ScoreMap{scale * kLog2E, 0.0F} : ScoreMap{scale / softcap, softcap * kLog2E};
}

// The positions that the query rows of an item attend to: of those before `end`, a row's own and the `window` - 1
// before it.
struct Visibility {
  std::int32_t window;
  std::int32_t end;

  __device__ bool holds(std::int32_t row_position, std::int32_t position) const {
    return position <= row_position && position < end && position > row_position - window;
  }
  // Of the positions first..last.
  __device__ bool holds_some(std::int32_t row_position, std::int32_t first, std::int32_t last) const {
    return first <= row_position && first < end && last > row_position - window;
  }
};

// What one warp computes: the attention of 16 query rows to the tiles it is given. A head may have fewer elements than
// kHeadDim, by a multiple of 8: the others of its keys must be zero, those of its values finite.
//
// Scores are S[rows, tokens] = Q K^T. As the tensor core leaves them in registers, the weights are the first operand of
// O[rows, d] = P V.
template <typename T, typename Kv, int kHeadDim>
class RowAttention {
 public:
  static constexpr int kColumnTiles = kHeadDim / 8;  // of the output

  // Starts the load of the queries and forgets all positions. query_at(row) is a row's query, [head_dim], or null,
  // which counts as zero; position_of(row) its position, anything for a row without a query.
  template <typename QueryAt, typename PositionOf>
  __device__ void start(int head_dim, QueryAt query_at, PositionOf position_of) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int row = lane_ / 4 + j * 8;
      const T* query = query_at(row);
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        std::uint32_t halves[2] = {};
        if (query != nullptr) {
          Operands::query(halves, query, head_dim, k, lane_);
        }
        q_[k][j] = halves[0];
        q_[k][2 + j] = halves[1];
      }
      position_[j] = position_of(row);
      state_[j] = {std::numeric_limits<float>::lowest(), 0.0F};
    }
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        o_[n][i] = 0.0F;
      }
    }
  }

  // Adds what the rows see of the 16 positions from `position` on. All of the tile must be finite.
  __device__ void add_tile(std::uint32_t tile, std::int32_t position, const Visibility& visibility,
                           const ScoreMap& score) {
    const std::int32_t last = position + Tile::kTokens - 1;
    const bool sees_some =
        visibility.holds_some(position_[0], position, last) || visibility.holds_some(position_[1], position, last);
    if (!__any_sync(kAllLanes, sees_some)) {
      return;
    }
    float scores[2][4] = {};
    const std::uint32_t k_address = tile + Tile::offset(lane_ % 8 + lane_ / 16 * 8, lane_ / 8 % 2);
#pragma unroll
    for (int load = 0; load < kLoads; ++load) {
      std::uint32_t loaded[4];
      ptx::load_matrices(loaded, Tile::advance(k_address, load));
#pragma unroll
      for (int step = 0; step < Operands::kStepsPerLoad; ++step) {
        const int k = load * Operands::kStepsPerLoad + step;
        std::uint32_t keys[2][2];  // of 8 positions each
        Operands::key_columns(keys[0], keys[1], loaded, step);
        ptx::multiply_add<Operand>(scores[0], q_[k], keys[0]);
        ptx::multiply_add<Operand>(scores[1], q_[k], keys[1]);
      }
    }
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const std::int32_t at = position + n * 8 + lane_ % 4 * 2 + i % 2;
        scores[n][i] = visibility.holds(position_[i / 2], at) ? score(scores[n][i]) : -INFINITY;
      }
    }
    update_state(scores);
    const std::uint32_t weights[4] = {
        ptx::pack<Operand>(scores[0][0], scores[0][1]), ptx::pack<Operand>(scores[0][2], scores[0][3]),
        ptx::pack<Operand>(scores[1][0], scores[1][1]), ptx::pack<Operand>(scores[1][2], scores[1][3])};
    const std::uint32_t v_address = tile + Tile::kValues + Tile::offset(lane_ % 16, lane_ / 16);
#pragma unroll
    for (int load = 0; load < kLoads; ++load) {
      std::uint32_t loaded[4];
      ptx::load_matrices_transposed(loaded, Tile::advance(v_address, load));
#pragma unroll
      for (int step = 0; step < Operands::kStepsPerLoad; ++step) {
        const int m = load * Operands::kStepsPerLoad + step;
        std::uint32_t values[2][2];  // of 8 elements each
        Operands::value_columns(values[0], values[1], loaded, step);
        ptx::multiply_add<Operand>(o_[2 * m], weights, values[0]);
        ptx::multiply_add<Operand>(o_[2 * m + 1], weights, values[1]);
      }
    }
  }

  // Of row lane / 4 + j * 8, over all positions added.
  __device__ SoftmaxState state(int j) const {
    SoftmaxState total = state_[j];
    total.sum += __shfl_xor_sync(kAllLanes, total.sum, 1);
    total.sum += __shfl_xor_sync(kAllLanes, total.sum, 2);
    return total;
  }

  // Calls store(row, column, two neighbouring elements) for a share of what this lane holds of the unnormalised output:
  // n and n + 1, n being even, are together all of columns n * 8 to n * 8 + 15.
  template <typename Store>
  __device__ void for_each_pair(int n, Store store) const {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int row = lane_ / 4 + j * 8;
      if constexpr (Operands::kInterleavesRows) {
        const int in_tile = n % 2;  // of the two columns that this lane holds of either tile
        const int even = n - in_tile;
        store(row, even * 8 + lane_ % 4 * 4 + in_tile * 2,
              float2{o_[even][2 * j + in_tile], o_[even + 1][2 * j + in_tile]});
      } else {
        store(row, n * 8 + lane_ % 4 * 2, float2{o_[n][2 * j], o_[n][2 * j + 1]});
      }
    }
  }

 private:
  using Tile = KvTile<kKvRowBytes<Kv, kHeadDim>>;
  using Operands = TileOperands<T, Kv>;
  using Operand = typename Operands::Operand;
  static constexpr int kSteps = kHeadDim / 16;
  static constexpr int kLoads = kSteps / Operands::kStepsPerLoad;
  static constexpr unsigned kAllLanes = 0xFFFFFFFF;

  // Turns scores into weights under the new maximum and rescales what was summed under the old one.
  __device__ void update_state(float (&scores)[2][4]) {
    float rescale[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float max = fmaxf(fmaxf(scores[0][2 * j], scores[0][2 * j + 1]), fmaxf(scores[1][2 * j], scores[1][2 * j + 1]));
      max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, 1));
      max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, 2));
      max = fmaxf(max, state_[j].max);
      rescale[j] = ptx::exp2_approx(state_[j].max - max);
      float sum = state_[j].sum * rescale[j];
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int i = 2 * j; i < 2 * j + 2; ++i) {
          scores[n][i] = ptx::exp2_approx(scores[n][i] - max);
          sum += scores[n][i];
        }
      }
      state_[j] = {max, sum};
    }
    if (__any_sync(kAllLanes, rescale[0] != 1.0F || rescale[1] != 1.0F)) {
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          o_[n][i] *= rescale[i / 2];
        }
      }
    }
  }

  int lane_ = static_cast<int>(threadIdx.x) % 32;
  std::uint32_t q_[kSteps][4];
  std::int32_t position_[2];  // of the rows lane / 4 and lane / 4 + 8
  SoftmaxState
      state_[2];  // finite from the start: a row may see nothing of what its warp reads; the sums are of this lane
  float o_[kColumnTiles][4];
};

}  // namespace blendserve::cuda
