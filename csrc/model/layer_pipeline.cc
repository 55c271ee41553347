#include "model/layer_pipeline.h"

#include <vector>

#include "kernels/cpu/attention_tasks.h"
#include "kernels/cpu/memory_tasks.h"
#include "model/overlap.h"

namespace blendserve {
namespace {

// Attention of a nano-batch beside what multiply() does with the threads it is given: num_products multiply-adds.
template <class Multiply>
void attend_beside(const NanoBatch& batch, const CachedLayer& at, std::int64_t num_products, ThreadPool& pool,
                   const Multiply& multiply) {
  const cpu::PagedAttentionParams params = batch.attention(at);
  cpu::AttentionTasks attention(params, {.each_split = true});
  cpu::MemoryTasks tasks(
      {.run = [&](std::int64_t task) { attention.run(task); },
       .list_memory = [&](std::int64_t task,
                          std::vector<const std::byte*>& pieces) { attention.list_memory(task, pieces); },
       .num_tasks = attention.num_tasks(),
       .num_bytes = attention.num_bytes()},
      num_products, pool.num_threads());
  multiply(Threads{.pool = pool, .beside = &tasks});
  tasks.finish(pool);
  attention.merge(pool);
}

LayerCosts costs_of(const CachedLayer& at) {
  const KvLayout& layout = at.kv.layout;
  return {.products_per_token = at.layer->num_products(),
          .kv_position_bytes = std::int64_t{2} * layout.num_kv_heads * layout.head_dim * element_bytes(at.kv.dtype),
          .weight_bytes = at.layer->weight_bytes()};
}

// Runs of memory shorter than a piece would be fetched with what lies behind them.
bool has_whole_pieces(const LayerKv& kv) { return kv.layout.tile_size() * element_bytes(kv.dtype) >= cpu::kPieceBytes; }

}  // namespace

void run_layers(std::span<const CachedLayer> layers, float* hidden, const LayerStep& step, PipelineBuffers& buffers,
                ThreadPool& pool) {
  if (layers.empty() || step.num_tokens == 0) return;
  const LayerKv& kv = layers[0].kv;
  const std::int32_t num_first =
      has_whole_pieces(kv) ? overlap_split(step, costs_of(layers[0]), kv.layout.block_size) : 0;
  if (num_first > 0) {
    run_layers_overlapped(layers, hidden, step, num_first, buffers, pool);
    return;
  }
  for (const CachedLayer& each : layers) each.layer->forward(hidden, step, each.kv, buffers.first, pool);
}

void run_layers_overlapped(std::span<const CachedLayer> layers, float* hidden, const LayerStep& step,
                           std::int32_t num_first_seqs, PipelineBuffers& buffers, ThreadPool& pool) {
  const std::int64_t hidden_size = layers[0].layer->shape().hidden_size;
  const NanoBatch first(step, 0, num_first_seqs, hidden, hidden_size, buffers.first);
  const NanoBatch second(step, num_first_seqs, step.num_seqs, hidden, hidden_size, buffers.second);
  first.begin(layers[0], {pool});
  attend_beside(first, layers[0], second.num_tokens() * layers[0].layer->num_begin_products(), pool,
                [&](const Threads& threads) { second.begin(layers[0], threads); });
  for (std::size_t i = 0; i + 1 < layers.size(); ++i) {
    const CachedLayer& at = layers[i];
    const CachedLayer& next = layers[i + 1];
    const std::int64_t products = at.layer->num_end_products() + next.layer->num_begin_products();
    attend_beside(second, at, first.num_tokens() * products, pool, [&](const Threads& threads) {
      first.end(at, threads);
      first.begin(next, threads);
    });
    attend_beside(first, next, second.num_tokens() * products, pool, [&](const Threads& threads) {
      second.end(at, threads);
      second.begin(next, threads);
    });
  }
  const CachedLayer& last = layers.back();
  attend_beside(second, last, first.num_tokens() * last.layer->num_end_products(), pool,
                [&](const Threads& threads) { first.end(last, threads); });
  second.end(last, {pool});
}

}  // namespace blendserve
