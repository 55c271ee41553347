#pragma once

#include <stdint.h>

// The C ABI of libblendserve_cuda. Pointers are device pointers of the current device unless named host_*, streams are
// cudaStream_t as integers, every launch is asynchronous on its stream. Functions return a blendserve_status;
// blendserve_last_error() then says, for the calling thread, which operation failed, on what value, and the remedy.
#ifdef __cplusplus
extern "C" {
#endif

#define BLENDSERVE_CUDA_ABI_VERSION 3
#define BLENDSERVE_CUDA_API __attribute__((visibility("default")))

enum blendserve_status { BLENDSERVE_OK = 0, BLENDSERVE_INVALID_INPUT = 1, BLENDSERVE_CUDA_ERROR = 2 };
enum blendserve_dtype { BLENDSERVE_BFLOAT16 = 0, BLENDSERVE_FLOAT16 = 1, BLENDSERVE_FLOAT8_E4M3 = 2 };

// Queries, new keys and values, and results have one `dtype`, a 16-bit one. Cached keys and values have `kv_dtype`, the
// same or e4m3: then a number x is kept as the e4m3 number nearest to x / scale, 448 at most, and read as that times
// scale. Scales are positive, and 1 for a 16-bit cache.

// How KV tiles reach shared memory: auto takes the bulk tensor copy where the device (sm_90 or newer) and the page
// size (a multiple of 16) allow it, else cp.async.
enum blendserve_kv_copy { BLENDSERVE_KV_COPY_AUTO = 0, BLENDSERVE_KV_COPY_ASYNC = 1, BLENDSERVE_KV_COPY_BULK = 2 };

// The decoding rows of a step, one query token each. Arrays are on the host.
struct blendserve_decode_batch {
  const int32_t* kv_lens;       // [num_rows]
  const int32_t* block_indptr;  // [num_rows + 1] into the block table
  const int32_t* block_table;   // [num_blocks], or null: do not look for blocks that rows share
  int64_t num_blocks;
  int64_t max_partials;  // slots of the workspace, 2 * num_ctas at least; more let more rows share
  int32_t num_rows;
  int32_t num_kv_heads;
  int32_t group;  // num_heads / num_kv_heads
  int32_t head_dim;
  int32_t block_size;
  int32_t num_ctas;
  int32_t kv_element_bytes;  // of a cached element: 1 or 2
};

// What blendserve_decode_plan wrote.
struct blendserve_decode_plan_summary {
  int64_t used_bytes;  // to be copied to the device
  int32_t num_partials;
  int32_t num_shared_items;  // 0: nothing is read for several rows at once
};

struct blendserve_paged_decode_params {
  const void* q;               // [num_rows, num_heads, head_dim], rows q_stride elements apart
  void* out;                   // [num_rows, num_heads, head_dim], rows out_stride elements apart
  const void* kv;              // one layer as in csrc/base/kv_layout.h
  const int32_t* block_table;  // blocks of each row, in order of position
  const void* plan;            // a copy of what blendserve_decode_plan wrote, for the same num_ctas and max_partials
  void* workspace;             // max_partials * blendserve_decode_partial_bytes, aligned to 16
  int64_t workspace_bytes;
  int64_t q_stride;
  int64_t out_stride;
  int64_t num_blocks;
  int64_t max_partials;
  int32_t num_heads;
  int32_t num_kv_heads;
  int32_t head_dim;    // 64 or 128
  int32_t block_size;  // any
  int32_t num_ctas;    // the SM budget: the grid has exactly this many CTAs, one to a multiprocessor
  int32_t dtype;
  int32_t kv_dtype;
  int32_t kv_copy;
  int32_t read_shared;  // launch the kernel of the plan's shared items: 1 unless it has none
  float scale;          // multiplies q.k
  float k_scale;
  float v_scale;
};

// Sequences of a step for blendserve_paged_attention: sequence s has qo_lens[s] query tokens from first_tokens[s] on,
// the last of its kv_lens[s] positions. Arrays are on the host.
struct blendserve_attention_batch {
  const int32_t* first_tokens;  // [num_seqs]
  const int32_t* qo_lens;       // [num_seqs]
  const int32_t* kv_lens;       // [num_seqs]
  const int32_t* first_blocks;  // [num_seqs] index into the block table
  int32_t num_seqs;
  int32_t num_kv_heads;
  int32_t group;  // num_heads / num_kv_heads
  int32_t head_dim;
  int32_t window;  // positions a token attends to, itself included; 0: all before it
  int32_t num_ctas;
};

struct blendserve_paged_attention_params {
  const void* q;               // [num_tokens, num_heads, head_dim], rows q_stride elements apart
  void* out;                   // [num_tokens, num_heads, head_dim], rows out_stride elements apart
  const void* kv;              // one layer as in csrc/base/kv_layout.h
  const int32_t* block_table;  // of the step
  const void* plan;            // a copy of what blendserve_attention_plan wrote for the same shape, window and num_ctas
  void* workspace;             // blendserve_attention_workspace_bytes, aligned to 16
  int64_t workspace_bytes;
  int64_t q_stride;
  int64_t out_stride;
  int64_t num_blocks;
  int32_t num_heads;
  int32_t num_kv_heads;
  int32_t head_dim;    // a multiple of 8 up to 256, of 16 with an e4m3 cache
  int32_t block_size;  // any
  int32_t num_ctas;    // the SM budget: the grid has exactly this many CTAs, one to a multiprocessor
  int32_t dtype;
  int32_t kv_dtype;
  int32_t window;
  float scale;    // multiplies q.k
  float softcap;  // 0: none; else a scaled score becomes softcap * tanh(score / softcap)
  float k_scale;
  float v_scale;
};

// What blendserve_flashinfer_plan_prefill wrote: arrays of int32 at byte offsets of the plan, by FlashInfer's rules.
struct blendserve_flashinfer_plan {
  int64_t q_indptr;
  int64_t page_indptr;
  int64_t pages;
  int64_t last_page_lens;
  int64_t requests;
  int64_t q_tiles;
  int64_t kv_tiles;
  int64_t merge_indptr;
  int64_t o_indptr;
  int64_t chunk_tokens;
  int64_t used_bytes;          // to be copied to the device
  int64_t num_partial_tokens;  // in the workspace; 0: no tile's positions are split
  int32_t first_token;
  int32_t num_seqs;
  int32_t num_tokens;
  int32_t num_tiles;
};

struct blendserve_flashinfer_prefill_params {
  const void* q;     // [num_tokens, num_heads, head_dim], rows q_stride elements apart
  void* out;         // [num_tokens, num_heads, head_dim], dense
  const void* kv;    // one layer as in csrc/base/kv_layout.h
  const void* plan;  // a copy of what blendserve_flashinfer_plan_prefill wrote for the same shape
  void* workspace;   // blendserve_attention_workspace_bytes of the plan's num_ctas, aligned to 16
  int64_t workspace_bytes;
  int64_t q_stride;
  int32_t num_heads;
  int32_t num_kv_heads;
  int32_t head_dim;  // 64 or 128
  int32_t block_size;
  int32_t dtype;
  float scale;  // multiplies q.k
  struct blendserve_flashinfer_plan planned;
};

struct blendserve_kv_append_params {
  void* q;                      // [num_tokens, num_heads, head_dim], rows q_stride elements apart; only to be rotated
  void* k;                      // [num_tokens, num_kv_heads, head_dim], rows k_stride elements apart
  void* v;                      // the same, rows v_stride elements apart; only read
  void* kv;                     // one layer as in csrc/base/kv_layout.h
  const int64_t* slot_mapping;  // [num_tokens] block * block_size + offset
  const void* cos;              // [num_tokens, head_dim], factors of an element; null: q and k stay as they are
  const void* signed_sin;       // [num_tokens, head_dim], factors of the element half a head away
  int64_t q_stride;
  int64_t k_stride;
  int64_t v_stride;
  int32_t num_tokens;
  int32_t num_heads;
  int32_t num_kv_heads;
  int32_t head_dim;  // a multiple of 16
  int32_t block_size;
  int32_t dtype;
  int32_t kv_dtype;
  float k_scale;
  float v_scale;
};

BLENDSERVE_CUDA_API int32_t blendserve_cuda_abi_version(void);
BLENDSERVE_CUDA_API const char* blendserve_last_error(void);

// Host only. Bytes of a buffer that holds the plan of any batch of up to max_rows rows.
BLENDSERVE_CUDA_API int64_t blendserve_decode_plan_bytes(int32_t max_rows, int32_t num_kv_heads, int32_t num_ctas,
                                                         int64_t max_partials);

// Host only. Plans one step into host_plan (aligned to 16).
BLENDSERVE_CUDA_API int32_t blendserve_decode_plan(const struct blendserve_decode_batch* batch, void* host_plan,
                                                   int64_t host_plan_bytes,
                                                   struct blendserve_decode_plan_summary* summary);

// Host only. Of one partial slot: `group` unnormalised outputs with their softmax states.
BLENDSERVE_CUDA_API int64_t blendserve_decode_partial_bytes(int32_t group, int32_t head_dim);

BLENDSERVE_CUDA_API int32_t blendserve_paged_decode(const struct blendserve_paged_decode_params* params,
                                                    int64_t stream);

// Host only. Bytes of a buffer that holds the plan of `batch`.
BLENDSERVE_CUDA_API int64_t blendserve_attention_plan_bytes(const struct blendserve_attention_batch* batch);

// Host only. Plans one step into host_plan (aligned to 16); used_bytes of it are to be copied to the device.
BLENDSERVE_CUDA_API int32_t blendserve_attention_plan(const struct blendserve_attention_batch* batch, void* host_plan,
                                                      int64_t host_plan_bytes, int64_t* used_bytes);

// Host only.
BLENDSERVE_CUDA_API int64_t blendserve_attention_workspace_bytes(int32_t num_ctas, int32_t head_dim);

// Causal attention of any number of query tokens per sequence.
BLENDSERVE_CUDA_API int32_t blendserve_paged_attention(const struct blendserve_paged_attention_params* params,
                                                       int64_t stream);

// Host only. 1 when the library is built with FlashInfer's prefill kernels; without them the functions below that can
// fail do.
BLENDSERVE_CUDA_API int32_t blendserve_has_flashinfer(void);

// Host only. Bytes of a buffer that holds the plan of `batch`.
BLENDSERVE_CUDA_API int64_t blendserve_flashinfer_plan_bytes(const struct blendserve_attention_batch* batch,
                                                             int32_t block_size);

// Host only. Plans sequences whose query tokens follow each other into host_plan (aligned to 16). block_table is on the
// host. num_ctas says how finely the positions of few tiles are split; the kernel takes as many multiprocessors as it
// likes.
BLENDSERVE_CUDA_API int32_t blendserve_flashinfer_plan_prefill(const struct blendserve_attention_batch* batch,
                                                               const int32_t* block_table, int64_t num_table_blocks,
                                                               int32_t block_size, void* host_plan,
                                                               int64_t host_plan_bytes,
                                                               struct blendserve_flashinfer_plan* planned);

// Causal attention of the planned sequences, by FlashInfer.
BLENDSERVE_CUDA_API int32_t blendserve_flashinfer_prefill(const struct blendserve_flashinfer_prefill_params* params,
                                                          int64_t stream);

// Rotates q and k in place, if there are factors, then appends k and v.
BLENDSERVE_CUDA_API int32_t blendserve_kv_append(const struct blendserve_kv_append_params* params, int64_t stream);

#ifdef __cplusplus
}
#endif
