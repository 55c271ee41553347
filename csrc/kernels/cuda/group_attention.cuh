#pragma once

#include <cstdint>

#include "kernels/cuda/kv_tile.cuh"
#include "kernels/cuda/softmax_state.h"
#include "kernels/cuda/tile_operands.cuh"

namespace blendserve::cuda {

// What one warp computes: the attention of a group's queries to the tiles that the warp reads.
//
// Scores are computed transposed, S^T[tokens, queries] = K Q^T, and so is the output, O^T[d, queries] = V^T P^T: the KV
// tile fills the 16 rows of the tensor core's first operand and the queries of a group its 8 columns.
template <typename T, typename Kv, int kHeadDim, int kQueryTiles>
class GroupAttention {
 public:
  // Starts the load of the queries: query_at(i) is the row of query i, [head_dim], or null, which counts as zero.
  template <typename QueryAt>
  __device__ void load_queries(QueryAt query_at) {
#pragma unroll
    for (int n = 0; n < kQueryTiles; ++n) {
      const T* query = query_at(n * 8 + lane_ / 4);
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        q_[n][k][0] = q_[n][k][1] = 0U;
        if (query != nullptr) {
          Operands::query(q_[n][k], query, kHeadDim, k, lane_);
        }
      }
    }
  }

  // Forgets all positions.
  __device__ void reset() {
#pragma unroll
    for (int n = 0; n < kQueryTiles; ++n) {
      state_[n][0] = state_[n][1] = SoftmaxState{};
#pragma unroll
      for (int m = 0; m < kSteps; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          o_[n][m][i] = 0.0F;
        }
      }
    }
  }

  // Takes what add_tile() needs out of shared memory: the scores, and the values transposed.
  __device__ void read_tile(std::uint32_t tile) {
    const std::uint32_t k_address = tile + Tile::offset(lane_ % 16, lane_ / 16);
    const std::uint32_t v_address = tile + Tile::kValues + Tile::offset(lane_ % 8 + lane_ / 16 * 8, lane_ / 8 % 2);
    float chains[2][kQueryTiles][4] = {};  // two independent chains of products
#pragma unroll
    for (int load = 0; load < kLoads; ++load) {
      std::uint32_t loaded[4];
      ptx::load_matrices(loaded, Tile::advance(k_address, load));
#pragma unroll
      for (int step = 0; step < Operands::kStepsPerLoad; ++step) {
        const int k = load * Operands::kStepsPerLoad + step;
        std::uint32_t keys[4];
        Operands::keys(keys, loaded, step);
#pragma unroll
        for (int n = 0; n < kQueryTiles; ++n) {
          ptx::multiply_add<Operand>(chains[k % 2][n], keys, q_[n][k]);
        }
      }
    }
#pragma unroll
    for (int load = 0; load < kLoads; ++load) {
      ptx::load_matrices_transposed(values_[load], Tile::advance(v_address, load));
    }
#pragma unroll
    for (int n = 0; n < kQueryTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores_[n][i] = chains[0][n][i] + chains[1][n][i];
      }
    }
  }

  // Adds the first `num_rows` (1..16) positions of the tile read. The others may hold anything, NaN included.
  __device__ void add_tile(int num_rows, float scale_log2) {
    if (num_rows < Tile::kTokens) {
      mask(num_rows);
    }
    std::uint32_t p[kQueryTiles][2];
#pragma unroll
    for (int n = 0; n < kQueryTiles; ++n) {
      update_state(n, scale_log2);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        p[n][i] = ptx::transpose_matrix(ptx::pack<Operand>(scores_[n][2 * i], scores_[n][2 * i + 1]));
      }
    }
#pragma unroll
    for (int load = 0; load < kLoads; ++load) {
#pragma unroll
      for (int step = 0; step < Operands::kStepsPerLoad; ++step) {
        std::uint32_t values[4];
        Operands::values(values, values_[load], step);
#pragma unroll
        for (int n = 0; n < kQueryTiles; ++n) {
          ptx::multiply_add<Operand>(o_[n][load * Operands::kStepsPerLoad + step], values, p[n]);
        }
      }
    }
  }

  // The state of query n * 8 + (lane % 4) * 2 + j over all the tokens of this warp.
  __device__ SoftmaxState state(int n, int j) const {
    SoftmaxState total = state_[n][j];
#pragma unroll
    for (int distance = 4; distance < 32; distance *= 2) {
      total.sum += __shfl_xor_sync(0xFFFFFFFF, total.sum, distance);
    }
    return total;
  }

  // Calls store(query of the tile, d, value) for every element of O^T that this lane holds.
  template <typename Store>
  __device__ void for_each_output(int n, Store store) const {
#pragma unroll
    for (int m = 0; m < kSteps; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = (i / 2) * 8 + lane_ / 4;
        store((lane_ % 4) * 2 + i % 2, m * 16 + Operands::element_of_row(row), o_[n][m][i]);
      }
    }
  }

 private:
  using Tile = KvTile<kKvRowBytes<Kv, kHeadDim>>;
  using Operands = TileOperands<T, Kv>;
  using Operand = typename Operands::Operand;
  static constexpr int kSteps = kHeadDim / 16;  // products over a head
  static constexpr int kLoads = kSteps / Operands::kStepsPerLoad;

  __device__ void mask(int num_rows) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool valid = lane_ / 4 + (i / 2) * 8 < num_rows;
      const int num_valid = num_rows - ((lane_ % 4) * 2 + (i / 2) * 8);  // of the two tokens whose values share a word
      const std::uint32_t kept = num_valid >= 2 ? 0xFFFFFFFFU : num_valid == 1 ? 0xFFFFU : 0U;
#pragma unroll
      for (int n = 0; n < kQueryTiles; ++n) {
        scores_[n][i] = valid ? scores_[n][i] : -INFINITY;
      }
#pragma unroll
      for (int load = 0; load < kLoads; ++load) {
        values_[load][i] &= kept;
      }
    }
  }

  // Turns scores into weights under the new maximum and rescales what was summed under the old one.
  __device__ void update_state(int n, float scale_log2) {
    float (&scores)[4] = scores_[n];
    float rescale[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float max = fmaxf(scores[j], scores[j + 2]);
#pragma unroll
      for (int distance = 4; distance < 32; distance *= 2) {
        max = fmaxf(max, __shfl_xor_sync(0xFFFFFFFF, max, distance));
      }
      max = fmaxf(max * scale_log2, state_[n][j].max);
      rescale[j] = ptx::exp2_approx(state_[n][j].max - max);
      scores[j] = ptx::exp2_approx(scores[j] * scale_log2 - max);
      scores[j + 2] = ptx::exp2_approx(scores[j + 2] * scale_log2 - max);
      state_[n][j] = {max, state_[n][j].sum * rescale[j] + scores[j] + scores[j + 2]};
    }
    if (__any_sync(0xFFFFFFFF, rescale[0] != 1.0F || rescale[1] != 1.0F)) {
#pragma unroll
      for (int m = 0; m < kSteps; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          o_[n][m][i] *= rescale[i % 2];
        }
      }
    }
  }

  int lane_ = static_cast<int>(threadIdx.x) % 32;
  std::uint32_t q_[kQueryTiles][kSteps][2];
  SoftmaxState state_[kQueryTiles][2];  // max over all of the warp's tokens, sum over those of this lane
  float o_[kQueryTiles][kSteps][4];
  float scores_[kQueryTiles][4];
  std::uint32_t values_[kLoads][4];  // as loaded
};

}  // namespace blendserve::cuda
