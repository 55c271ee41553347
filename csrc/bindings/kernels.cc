#include <pybind11/numpy.h>

#include <limits>

#include "base/error.h"
#include "bindings/bindings.h"
#include "bindings/dlpack_view.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/kv_append.h"

namespace py = pybind11;

namespace blendserve::bindings {

namespace {

std::int32_t checked_len(const char* name, std::int64_t len) {
  if (len > std::numeric_limits<std::int32_t>::max()) {
    throw InvalidInput(std::string(name) + " is too long (" + std::to_string(len) + ")");
  }
  return static_cast<std::int32_t>(len);
}

// A one-dimensional index array of `len` elements; -1 is any length.
template <class T>
const T* indices(const char* name, const py::array& array, std::int64_t len) {
  if (!py::isinstance<py::array_t<T>>(array) || array.ndim() != 1 || (array.flags() & py::array::c_style) == 0) {
    throw InvalidInput(std::string(name) + " must be a contiguous array of dtype int" + std::to_string(8 * sizeof(T)) +
                       " with one dimension");
  }
  if (len >= 0 && array.size() != len) {
    throw InvalidInput(std::string(name) + " has " + std::to_string(array.size()) + " elements; it must have " +
                       std::to_string(len));
  }
  return static_cast<const T*>(array.data());
}

struct KvView {
  explicit KvView(const py::object& object) : view("kv", object) {
    view.require_shape("[num_blocks, 2, num_kv_heads, block_size, head_dim]", {-1, 2, -1, -1, -1});
    view.require_dense_from(0);
    dtype = view.require_dtype({kDlFloat32, kDlBFloat16}) == kDlBFloat16 ? KvDtype::kBFloat16 : KvDtype::kFloat32;
    layout = {.num_blocks = checked_len("kv", view.size(0)),
              .num_kv_heads = checked_len("kv", view.size(2)),
              .block_size = checked_len("kv", view.size(3)),
              .head_dim = checked_len("kv", view.size(4))};
  }

  DlpackView view;
  KvLayout layout;
  KvDtype dtype;
};

DlpackView token_rows(const char* name, const py::object& object, const char* meaning, std::int64_t num_tokens,
                      std::int64_t num_heads, std::int64_t head_dim) {
  DlpackView view(name, object);
  view.require_dtype({kDlFloat32});
  view.require_shape(meaning, {num_tokens, num_heads, head_dim});
  view.require_dense_from(1);
  return view;
}

void paged_attention(const py::object& q, const py::object& kv, const py::object& out, const py::array& qo_indptr,
                     const py::array& kv_lens, const py::array& block_indptr, const py::array& block_table, float scale,
                     std::int32_t window, float softcap) {
  const KvView cache(kv);
  const DlpackView q_rows = token_rows("q", q, "[T, num_heads, head_dim]", -1, -1, cache.layout.head_dim);
  const DlpackView out_rows = token_rows("out", out, "the shape of q", q_rows.size(0), q_rows.size(1), q_rows.size(2));
  out_rows.require_dense_from(0);
  const std::int32_t num_seqs = checked_len("kv_lens", kv_lens.size());
  cpu::PagedAttentionParams params{.q = static_cast<const float*>(q_rows.data()),
                                   .kv = cache.view.data(),
                                   .out = static_cast<float*>(out_rows.data()),
                                   .qo_indptr = indices<std::int32_t>("qo_indptr", qo_indptr, num_seqs + 1),
                                   .kv_lens = indices<std::int32_t>("kv_lens", kv_lens, -1),
                                   .block_indptr = indices<std::int32_t>("block_indptr", block_indptr, num_seqs + 1),
                                   .block_table = nullptr,
                                   .q_stride = q_rows.stride(0),
                                   .num_tokens = checked_len("q", q_rows.size(0)),
                                   .num_seqs = num_seqs,
                                   .num_heads = checked_len("q", q_rows.size(1)),
                                   .window = window,
                                   .scale = scale,
                                   .softcap = softcap,
                                   .layout = cache.layout,
                                   .kv_dtype = cache.dtype};
  params.block_table = indices<BlockId>("block_table", block_table, params.block_indptr[num_seqs]);
  const py::gil_scoped_release release;
  cpu::paged_attention(params, default_thread_pool());
}

void kv_append(const py::object& k, const py::object& v, const py::object& kv, const py::array& slot_mapping) {
  constexpr const char* kMeaning = "[T, num_kv_heads, head_dim]";
  const KvView cache(kv);
  const std::int64_t num_tokens = slot_mapping.size();
  const DlpackView k_rows = token_rows("k", k, kMeaning, num_tokens, cache.layout.num_kv_heads, cache.layout.head_dim);
  const DlpackView v_rows = token_rows("v", v, kMeaning, num_tokens, cache.layout.num_kv_heads, cache.layout.head_dim);
  const cpu::KvAppendParams params{.k = static_cast<const float*>(k_rows.data()),
                                   .v = static_cast<const float*>(v_rows.data()),
                                   .slot_mapping = indices<std::int64_t>("slot_mapping", slot_mapping, -1),
                                   .kv = cache.view.data(),
                                   .k_stride = k_rows.stride(0),
                                   .v_stride = v_rows.stride(0),
                                   .num_tokens = num_tokens,
                                   .layout = cache.layout,
                                   .kv_dtype = cache.dtype};
  const py::gil_scoped_release release;
  cpu::kv_append(params, default_thread_pool());
}

void set_num_threads(int num_threads) {
  const py::gil_scoped_release release;
  default_thread_pool().resize(num_threads);
}

}  // namespace

void register_kernels(py::module_& m) {
  m.def("paged_attention", &paged_attention, py::arg("q"), py::arg("kv"), py::arg("out"), py::arg("qo_indptr"),
        py::arg("kv_lens"), py::arg("block_indptr"), py::arg("block_table"), py::arg("scale"), py::arg("window") = 0,
        py::arg("softcap") = 0.0F,
        R"(Causal attention of T query tokens of S sequences over a paged cache; writes `out`.

q: float32 [T, num_heads, head_dim], its rows may lie apart.  out: float32, the same shape, contiguous.
kv: one layer, float32 or bfloat16 [num_blocks, 2, num_kv_heads, block_size, head_dim], K then V.
qo_indptr: int32 [S + 1], the query tokens of each sequence, the last of its positions.
kv_lens: int32 [S], positions of each sequence, its query tokens among them.
block_indptr: int32 [S + 1] into block_table, int32, the blocks of each sequence in order of position.
scale: of the scores before softmax.
window: a token at position p attends to positions max(0, p - window + 1) to p; 0 is no window.
softcap: scaled scores become softcap * tanh(score / softcap); 0 is no cap.
Tensors are borrowed through __dlpack__, index arrays are numpy. Raises ValueError when anything does not fit together;
`out` is then untouched.)");
  m.def("kv_append", &kv_append, py::arg("k"), py::arg("v"), py::arg("kv"), py::arg("slot_mapping"),
        R"(Writes the K and V of T tokens to the paged cache, rounded to nearest even where it is bfloat16.

k, v: float32 [T, num_kv_heads, head_dim], their rows may lie apart.
kv: one layer, float32 or bfloat16 [num_blocks, 2, num_kv_heads, block_size, head_dim].
slot_mapping: int64 [T], block * block_size + offset, no slot twice.
Raises ValueError when anything does not fit together; `kv` is then untouched.)");
  m.def("set_num_threads", &set_num_threads, py::arg("num_threads"),
        "Sets how many threads the CPU kernels use, the calling one among them; results do not depend on it.");
  m.def(
      "num_threads", [] { return default_thread_pool().num_threads(); },
      "Threads the CPU kernels use; at first the CPUs this process may run on.");
  m.def("set_isa", &cpu::set_active_isa, py::arg("isa"),
        R"(Chooses the instruction set of the CPU kernels: "scalar", "avx2", "avx512" or "auto" (the best here).)");
  m.def(
      "isa", [] { return cpu::to_string(cpu::active_isa()); },
      R"(The instruction set of the CPU kernels: "scalar", "avx2" or "avx512".)");
}

}  // namespace blendserve::bindings
