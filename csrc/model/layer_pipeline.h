#pragma once

#include <span>

#include "base/thread_pool.h"
#include "model/decoder_layer.h"
#include "model/nano_batch.h"

namespace blendserve {

struct PipelineBuffers {
  LayerBuffers first;
  LayerBuffers second;  // of a second nano-batch
};

// DecoderLayer::forward() of one layer after the other. Where it pays the step is split into two nano-batches, and the
// K and V that one attends to are read while the other multiplies: the same bits, sooner. Throws InvalidInput, `hidden`
// untouched, when step and caches do not fit together.
void run_layers(std::span<const CachedLayer> layers, float* hidden, const LayerStep& step, PipelineBuffers& buffers,
                ThreadPool& pool);

// The same, with the first `num_first_seqs` sequences as the first nano-batch: neither may be empty, and none of these
// may read blocks that others write.
void run_layers_overlapped(std::span<const CachedLayer> layers, float* hidden, const LayerStep& step,
                           std::int32_t num_first_seqs, PipelineBuffers& buffers, ThreadPool& pool);

}  // namespace blendserve
