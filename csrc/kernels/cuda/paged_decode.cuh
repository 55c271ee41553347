#pragma once

#include <cstdint>

#include "kernels/cuda/kv_tile.cuh"
#include "kernels/cuda/paged_decode.h"
#include "kernels/cuda/softmax_state.h"

namespace blendserve::cuda {

// Every warp streams its own tiles (warp w takes tiles w, w + 8, ... of each item) through its own ring of
// `num_stages` shared-memory stages: it waits for a tile, uses it, and at once starts the copy of the tile num_stages
// ahead, across the ends of items. No warp ever waits for another but to join the results at the end of an item.
//
// Scores are computed transposed, S^T[tokens, queries] = K Q^T, and so is the output, O^T[d, queries] = V^T P^T: the KV
// tile fills the 16 rows of the tensor core's first operand and the queries of a group its 8 columns.
template <typename T, int kHeadDim, int kQueryTiles>
class GroupAttention {
 public:
  static constexpr int kSteps = kHeadDim / 16;
  static constexpr int kQueries = 8;  // of one query tile

  // Queries of one row and KV head, [group, head_dim]; those past the group count as zero.
  __device__ void begin(const T* q, int group) {
    const auto* words = reinterpret_cast<const std::uint32_t*>(q);
#pragma unroll
    for (int n = 0; n < kQueryTiles; ++n) {
      const int query = n * kQueries + lane_ / 4;
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        const int word = (query * kHeadDim + k * 16) / 2 + lane_ % 4;
        q_[n][k][0] = query < group ? words[word] : 0U;
        q_[n][k][1] = query < group ? words[word + 4] : 0U;
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        state_[n][j] = SoftmaxState{};
      }
#pragma unroll
      for (int m = 0; m < kSteps; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          o_[n][m][i] = 0.0F;
        }
      }
    }
  }

  // Adds `num_rows` (1..16) positions. What shared memory holds past them may be anything, NaN included.
  __device__ void add_tile(std::uint32_t tile, int num_rows, float scale_log2) {
    float scores[kQueryTiles][4];
    score(tile, scores);
    std::uint32_t p[kQueryTiles][2];
#pragma unroll
    for (int n = 0; n < kQueryTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const bool valid = lane_ / 4 + (i / 2) * 8 < num_rows;
        scores[n][i] = valid ? scores[n][i] * scale_log2 : -INFINITY;
      }
      update_state(n, scores[n]);
      p[n][0] = ptx::transpose_matrix(ptx::pack<T>(scores[n][0], scores[n][1]));
      p[n][1] = ptx::transpose_matrix(ptx::pack<T>(scores[n][2], scores[n][3]));
    }
    if (num_rows == KvTile<kHeadDim>::kTokens) {
      add_values<false>(tile, num_rows, p);
    } else {
      add_values<true>(tile, num_rows, p);
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
        store((lane_ % 4) * 2 + i % 2, m * 16 + (i / 2) * 8 + lane_ / 4, o_[n][m][i]);
      }
    }
  }

 private:
  using Tile = KvTile<kHeadDim>;

  __device__ void score(std::uint32_t tile, float (&scores)[kQueryTiles][4]) const {
    float chains[2][kQueryTiles][4] = {};  // two independent chains of products
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      std::uint32_t keys[4];
      ptx::load_matrices(keys, tile + Tile::offset(0, lane_ % 16, k * 2 + lane_ / 16));
#pragma unroll
      for (int n = 0; n < kQueryTiles; ++n) {
        ptx::multiply_add<T>(chains[k % 2][n], keys, q_[n][k]);
      }
    }
#pragma unroll
    for (int n = 0; n < kQueryTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[n][i] = chains[0][n][i] + chains[1][n][i];
      }
    }
  }

  // Turns scores into weights under the new maximum and rescales what was summed under the old one.
  __device__ void update_state(int n, float (&scores)[4]) {
    float rescale[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float max = fmaxf(scores[j], scores[j + 2]);
#pragma unroll
      for (int distance = 4; distance < 32; distance *= 2) {
        max = fmaxf(max, __shfl_xor_sync(0xFFFFFFFF, max, distance));
      }
      max = fmaxf(max, state_[n][j].max);
      rescale[j] = ptx::exp2_approx(state_[n][j].max - max);
      scores[j] = ptx::exp2_approx(scores[j] - max);
      scores[j + 2] = ptx::exp2_approx(scores[j + 2] - max);
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

  template <bool kPartialTile>
  __device__ void add_values(std::uint32_t tile, int num_rows, const std::uint32_t (&p)[kQueryTiles][2]) {
#pragma unroll
    for (int m = 0; m < kSteps; ++m) {
      std::uint32_t values[4];
      ptx::load_matrices_transposed(values,
                                    tile + Tile::offset(1, lane_ % 8 + (lane_ / 16) * 8, m * 2 + (lane_ / 8) % 2));
      if constexpr (kPartialTile) {
        const int token = (lane_ % 4) * 2;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int left = num_rows - (token + (i / 2) * 8);
          values[i] = left >= 2 ? values[i] : left == 1 ? values[i] & 0xFFFFU : 0U;
        }
      }
#pragma unroll
      for (int n = 0; n < kQueryTiles; ++n) {
        ptx::multiply_add<T>(o_[n][m], values, p[n]);
      }
    }
  }

  int lane_ = static_cast<int>(threadIdx.x) % 32;
  std::uint32_t q_[kQueryTiles][kSteps][2];
  SoftmaxState state_[kQueryTiles][2];  // max over all of the warp's tokens, sum over those of this lane
  float o_[kQueryTiles][kSteps][4];
};

// Walks the tiles that one warp reads, over all the items of its CTA.
class TileCursor {
 public:
  __device__ TileCursor(const DecodePlanView& plan, const std::int32_t* block_table, int warp)
      : item_(plan.items() + plan.cta_indptr()[blockIdx.x]),
        end_(plan.items() + plan.cta_indptr()[blockIdx.x + 1]),
        block_table_(block_table),
        warp_(warp) {
    enter();
  }

  __device__ bool valid() const { return item_ != end_; }

  __device__ TileSpan span() const {
    return {blocks_, kv_head_, position_, min(kDecodeTileTokens, kv_end_ - position_)};
  }

  __device__ void advance() {
    position_ += kDecodeWarps * kDecodeTileTokens;
    if (position_ >= kv_end_) {
      ++item_;
      enter();
    }
  }

 private:
  // Goes to this warp's first tile of item_, or of the next item that has one.
  __device__ void enter() {
    for (; item_ != end_; ++item_) {
      const DecodeItem item = *item_;
      position_ = item.kv_begin + warp_ * kDecodeTileTokens;
      if (position_ < item.kv_end) {
        kv_end_ = item.kv_end;
        kv_head_ = item.kv_head;
        blocks_ = block_table_ + item.first_block;
        return;
      }
    }
  }

  const DecodeItem* item_;
  const DecodeItem* end_;
  const std::int32_t* block_table_;
  const std::int32_t* blocks_ = nullptr;
  int warp_;
  std::int32_t kv_head_ = 0;
  std::int32_t kv_end_ = 0;
  std::int32_t position_ = 0;
};

// One warp's ring of stages: tiles are copied ahead in the order in which they are used.
template <int kHeadDim, typename TileCopy>
class TileRing {
 public:
  __device__ TileRing(std::uint32_t stages, std::uint32_t barriers, int num_stages, TileCursor cursor, TileCopy copy)
      : stages_(stages), barriers_(barriers), num_stages_(num_stages), cursor_(cursor), copy_(copy) {
    if (cursor_.valid()) {
      copy_.locate(cursor_.span());
    }
    for (int stage = 0; stage < num_stages_; ++stage) {
      start_copy(stage);
    }
  }

  // Waits for the next tile; it stays valid until release().
  __device__ std::uint32_t wait() const {
    ptx::wait_barrier(barrier(stage_), parity_);
    return stages_ + static_cast<std::uint32_t>(stage_ * KvTile<kHeadDim>::kBytes);
  }

  __device__ void release() {
    __syncwarp();
    start_copy(stage_);
    if (++stage_ == num_stages_) {
      stage_ = 0;
      parity_ ^= 1U;
    }
  }

 private:
  __device__ std::uint32_t barrier(int stage) const { return barriers_ + static_cast<std::uint32_t>(stage * 8); }

  __device__ void start_copy(int stage) {
    if (cursor_.valid()) {
      copy_.issue(stages_ + static_cast<std::uint32_t>(stage * KvTile<kHeadDim>::kBytes), barrier(stage));
      cursor_.advance();
      if (cursor_.valid()) {
        copy_.locate(cursor_.span());
      }
    }
  }

  std::uint32_t stages_;
  std::uint32_t barriers_;
  int num_stages_;
  int stage_ = 0;
  std::uint32_t parity_ = 0;
  TileCursor cursor_;
  TileCopy copy_;
};

// Shared memory of a CTA: the stages of all warps first (aligned to 1 KB for the swizzle), then this.
template <int kHeadDim, int kQueryTiles>
struct DecodeScratch {
  static constexpr int kRowFloats = kHeadDim + 4;  // padded: the lanes of a store fall into different banks

  float outputs[kDecodeWarps][8][kRowFloats];  // one query tile at a time
  SoftmaxState states[kDecodeWarps][kQueryTiles * 8];
  std::uint64_t barriers[kDecodeWarps][kMaxDecodeStages];
};

// Joins what the warps computed for one item and writes the output, or the partial result. Warp 0 has a tile of every
// item, so its maximum is finite. Ends with a barrier.
template <typename T, int kHeadDim, int kQueryTiles>
__device__ void write_item(const blendserve_paged_decode_params& params, const DecodeItem& item,
                           const GroupAttention<T, kHeadDim, kQueryTiles>& attention,
                           DecodeScratch<kHeadDim, kQueryTiles>& scratch, int group) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const PartialSlots slots = partial_slots(params);
#pragma unroll
  for (int n = 0; n < kQueryTiles; ++n) {
    attention.for_each_output(n, [&](int query, int d, float value) { scratch.outputs[warp][query][d] = value; });
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const SoftmaxState state = attention.state(n, j);
      if (lane < 4) {
        scratch.states[warp][n * 8 + lane * 2 + j] = state;
      }
    }
    __syncthreads();
    constexpr int kQuads = kHeadDim / 4;
    const int num_queries = min(8, group - n * 8);
    for (int at = static_cast<int>(threadIdx.x); at < num_queries * kQuads; at += kDecodeWarps * 32) {
      const int query = at / kQuads;
      const int d = at % kQuads * 4;
      const int head = n * 8 + query;
      SoftmaxState total = scratch.states[0][head];
#pragma unroll
      for (int other = 1; other < kDecodeWarps; ++other) {
        total = softmax_union(total, scratch.states[other][head]);
      }
      float4 sum = {0.0F, 0.0F, 0.0F, 0.0F};
#pragma unroll
      for (int other = 0; other < kDecodeWarps; ++other) {
        const float weight = softmax_weight(scratch.states[other][head], total.max);
        const float4 part = *reinterpret_cast<const float4*>(&scratch.outputs[other][query][d]);
        sum.x += weight * part.x;
        sum.y += weight * part.y;
        sum.z += weight * part.z;
        sum.w += weight * part.w;
      }
      if (item.partial == kNoPartial) {
        T* out =
            static_cast<T*>(params.out) + item.row * params.out_stride + (item.kv_head * group + head) * kHeadDim + d;
        const float inverse = 1.0F / total.sum;
        *reinterpret_cast<uint2*>(out) = {ptx::pack<T>(sum.x * inverse, sum.y * inverse),
                                          ptx::pack<T>(sum.z * inverse, sum.w * inverse)};
      } else {
        const std::int64_t slot = std::int64_t{item.partial} * group + head;
        *reinterpret_cast<float4*>(slots.outputs + slot * kHeadDim + d) = sum;
        if (d == 0) {
          slots.states[slot] = total;
        }
      }
    }
    __syncthreads();
  }
}

template <typename T, int kHeadDim, int kQueryTiles, template <int> typename TileCopy>
__global__ void __launch_bounds__(kDecodeWarps * 32, 1)
    paged_decode_kernel(const __grid_constant__ blendserve_paged_decode_params params,
                        const __grid_constant__ CUtensorMap kv_map, int num_stages, float scale_log2) {
#if __CUDA_ARCH__ < 900
  if constexpr (!TileCopy<kHeadDim>::kNeedsSm90) {
#else
  {
#endif
    using Tile = KvTile<kHeadDim>;
    extern __shared__ __align__(1024) unsigned char shared[];
    const int warp_bytes = num_stages * Tile::kBytes;
    auto& scratch = *reinterpret_cast<DecodeScratch<kHeadDim, kQueryTiles>*>(shared + kDecodeWarps * warp_bytes);

    const int warp = static_cast<int>(threadIdx.x) / 32;
    const std::uint32_t barriers = ptx::shared_address(scratch.barriers[warp]);
    if (threadIdx.x % 32 == 0) {
#pragma unroll 1
      for (int stage = 0; stage < num_stages; ++stage) {
        ptx::init_barrier(barriers + static_cast<std::uint32_t>(stage * 8), TileCopy<kHeadDim>::kArrivals);
      }
#if __CUDA_ARCH__ >= 900
      ptx::fence_barrier_init();
#endif
    }
    __syncwarp();

    const DecodePlanView plan(params.plan, params.num_ctas);
    TileRing<kHeadDim, TileCopy<kHeadDim>> ring(
        ptx::shared_address(shared) + static_cast<std::uint32_t>(warp * warp_bytes), barriers, num_stages,
        TileCursor(plan, params.block_table, warp), TileCopy<kHeadDim>(params, kv_map));

    const int group = params.num_heads / params.num_kv_heads;
    GroupAttention<T, kHeadDim, kQueryTiles> attention;
    const std::int32_t last = plan.cta_indptr()[blockIdx.x + 1];
    for (std::int32_t index = plan.cta_indptr()[blockIdx.x]; index < last; ++index) {
      const DecodeItem item = plan.items()[index];
      attention.begin(static_cast<const T*>(params.q) + item.row * params.q_stride + item.kv_head * group * kHeadDim,
                      group);
      for (std::int32_t position = item.kv_begin + warp * Tile::kTokens; position < item.kv_end;
           position += kDecodeWarps * Tile::kTokens) {
        attention.add_tile(ring.wait(), min(Tile::kTokens, item.kv_end - position), scale_log2);
        ring.release();
      }
      write_item<T, kHeadDim, kQueryTiles>(params, item, attention, scratch, group);
    }
  }
}

}  // namespace blendserve::cuda
