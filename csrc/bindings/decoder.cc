#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "bindings/bindings.h"
#include "bindings/checked_len.h"
#include "bindings/dlpack_view.h"
#include "bindings/kv_view.h"
#include "bindings/numpy_view.h"
#include "model/decoder_layer.h"
#include "model/lm_head.h"

namespace py = pybind11;

namespace blendserve::bindings {
namespace {

// The index arrays of one step, held for as long as its layers run.
class StepView {
 public:
  StepView(py::array positions, py::array slot_mapping, py::array qo_indptr, py::array kv_lens, py::array block_indptr,
           py::array block_table)
      : arrays_{positions, slot_mapping, qo_indptr, kv_lens, block_indptr, block_table} {
    step_.num_tokens = checked_len("positions", positions.size());
    step_.num_seqs = checked_len("kv_lens", kv_lens.size());
    step_.positions = indices<std::int32_t>("positions", positions, -1);
    step_.slot_mapping = indices<std::int64_t>("slot_mapping", slot_mapping, step_.num_tokens);
    step_.qo_indptr = indices<std::int32_t>("qo_indptr", qo_indptr, step_.num_seqs + 1);
    step_.kv_lens = indices<std::int32_t>("kv_lens", kv_lens, -1);
    step_.block_indptr = indices<std::int32_t>("block_indptr", block_indptr, step_.num_seqs + 1);
    step_.block_table = indices<BlockId>("block_table", block_table, step_.block_indptr[step_.num_seqs]);
    for (std::int32_t token = 0; token < step_.num_tokens; ++token) {
      if (step_.positions[token] >= 0) continue;
      throw InvalidInput("positions[" + std::to_string(token) + "] is " + std::to_string(step_.positions[token]) +
                         "; it must be 0 or more");
    }
  }

  const LayerStep& step() const { return step_; }

 private:
  std::vector<py::array> arrays_;
  LayerStep step_;
};

std::vector<float> floats(const char* name, const std::optional<py::array>& array) {
  if (!array) return {};
  const auto values = span_of<float>(*array, name);
  return {values.begin(), values.end()};
}

Activation activation_of(const std::string& name) {
  if (name == "silu") return Activation::kSilu;
  if (name == "gelu_tanh") return Activation::kGeluTanh;
  throw InvalidInput("activation is \"" + name + R"("; it must be "silu" or "gelu_tanh")");
}

using LinearPtr = std::shared_ptr<const Linear>;
using Floats = std::optional<py::array>;

std::unique_ptr<DecoderLayer> make_layer(std::int32_t num_heads, std::int32_t num_kv_heads, float rms_norm_eps,
                                         const std::string& activation, float attention_scale, float attention_softcap,
                                         std::int32_t window, std::shared_ptr<RotaryTable> rotary,
                                         const Floats& attention_norm, const LinearPtr& qkv, const Floats& q_norm,
                                         const Floats& k_norm, const LinearPtr& attention_output,
                                         const Floats& post_attention_norm, const Floats& mlp_norm,
                                         const LinearPtr& gate_up, const LinearPtr& down, const Floats& post_mlp_norm) {
  const LayerShape shape{.hidden_size = checked_len("qkv", qkv->weights->num_inputs()),
                         .intermediate_size = checked_len("down", down->weights->num_inputs()),
                         .num_heads = num_heads,
                         .num_kv_heads = num_kv_heads,
                         .head_dim = checked_len("frequencies", 2 * rotary->half_dim()),
                         .rms_norm_eps = rms_norm_eps,
                         .activation = activation_of(activation),
                         .attention_scale = attention_scale,
                         .attention_softcap = attention_softcap,
                         .window = window};
  return std::make_unique<DecoderLayer>(
      shape,
      LayerWeights{.attention_norm = floats("attention_norm", attention_norm),
                   .qkv = *qkv,
                   .q_norm = floats("q_norm", q_norm),
                   .k_norm = floats("k_norm", k_norm),
                   .attention_output = *attention_output,
                   .post_attention_norm = floats("post_attention_norm", post_attention_norm),
                   .mlp_norm = floats("mlp_norm", mlp_norm),
                   .gate_up = *gate_up,
                   .down = *down,
                   .post_mlp_norm = floats("post_mlp_norm", post_mlp_norm)},
      std::move(rotary));
}

void forward(const DecoderLayer& layer, const py::object& hidden, const StepView& step, const py::object& kv,
             LayerBuffers& buffers) {
  const KvView cache(kv);
  const LayerShape& shape = layer.shape();
  if (cache.layout.num_kv_heads != shape.num_kv_heads || cache.layout.head_dim != shape.head_dim) {
    throw InvalidInput("kv has " + std::to_string(cache.layout.num_kv_heads) + " heads of " +
                       std::to_string(cache.layout.head_dim) + "; the layer has " + std::to_string(shape.num_kv_heads) +
                       " of " + std::to_string(shape.head_dim) + "; give the cache of this model");
  }
  const DlpackView rows("hidden", hidden);
  rows.require_dtype({kDlFloat32});
  rows.require_shape("[T, hidden_size]", {step.step().num_tokens, shape.hidden_size});
  rows.require_dense_from(0);
  const LayerKv layer_kv{.data = cache.view.data(), .layout = cache.layout, .dtype = cache.dtype};
  const py::gil_scoped_release release;
  layer.forward(static_cast<float*>(rows.data()), step.step(), layer_kv, buffers, default_thread_pool());
}

// The rows of `hidden` that are asked for, checked.
struct HeadInputs {
  HeadInputs(const LmHead& head, const py::object& hidden, const py::array& row_array) : view("hidden", hidden) {
    view.require_dtype({kDlFloat32});
    view.require_shape("[T, hidden_size]", {-1, head.hidden_size()});
    view.require_dense_from(0);
    rows = span_of<std::int32_t>(row_array, "rows");
    for (const std::int32_t row : rows) {
      if (row >= 0 && row < view.size(0)) continue;
      throw InvalidInput("rows has " + std::to_string(row) + "; it must be one of the rows 0 to " +
                         std::to_string(view.size(0) - 1) + " of hidden");
    }
  }
  const float* hidden() const { return static_cast<const float*>(view.data()); }

  DlpackView view;
  std::span<const std::int32_t> rows;
};

py::array_t<float> embed(const LmHead& head, const py::array& token_ids) {
  const auto ids = span_of<std::int32_t>(token_ids, "token_ids");
  py::array_t<float> out({static_cast<py::ssize_t>(ids.size()), static_cast<py::ssize_t>(head.hidden_size())});
  float* data = out.mutable_data();
  const py::gil_scoped_release release;
  head.embed(ids, data);
  return out;
}

py::array_t<float> logits(const LmHead& head, const py::object& hidden, const py::array& rows) {
  const HeadInputs inputs(head, hidden, rows);
  py::array_t<float> out({static_cast<py::ssize_t>(inputs.rows.size()), static_cast<py::ssize_t>(head.vocab_size())});
  float* data = out.mutable_data();
  const py::gil_scoped_release release;
  head.logits(inputs.hidden(), inputs.rows, data, default_thread_pool());
  return out;
}

py::array_t<std::int32_t> most_likely(const LmHead& head, const py::object& hidden, const py::array& rows) {
  const HeadInputs inputs(head, hidden, rows);
  py::array_t<std::int32_t> out(static_cast<py::ssize_t>(inputs.rows.size()));
  std::int32_t* data = out.mutable_data();
  const py::gil_scoped_release release;
  head.most_likely(inputs.hidden(), inputs.rows, data, default_thread_pool());
  return out;
}

}  // namespace

void register_decoder(py::module_& m) {
  py::class_<RotaryTable, std::shared_ptr<RotaryTable>>(m, "RotaryTable",
                                                        "Cosines and sines of rotary position embedding.")
      .def(py::init([](const py::array& frequencies) {
             return std::make_shared<RotaryTable>(floats("frequencies", frequencies));
           }),
           py::arg("frequencies"), "frequencies: float32 [head_dim / 2], radians per position.");

  py::class_<StepView>(m, "LayerStep", "The index arrays of one step, as the layers of a model share them.")
      .def(py::init<py::array, py::array, py::array, py::array, py::array, py::array>(), py::arg("positions"),
           py::arg("slot_mapping"), py::arg("qo_indptr"), py::arg("kv_lens"), py::arg("block_indptr"),
           py::arg("block_table"),
           "The arrays of a StepPlan, borrowed: slot_mapping int64, the others int32. Raises ValueError when their "
           "lengths do not fit together.");

  py::class_<LayerBuffers>(m, "LayerBuffers", "Memory that the layers of a model use one after another.")
      .def(py::init<>());

  py::class_<Linear, std::shared_ptr<Linear>>(m, "PackedLinear", "A linear layer: a PackedMatrix and its bias.")
      .def(py::init([](std::shared_ptr<cpu::PackedMatrix> weights, const Floats& bias) {
             return std::make_shared<Linear>(Linear{std::move(weights), floats("bias", bias)});
           }),
           py::arg("weights").none(false), py::arg("bias") = py::none(),
           "bias: float32 [num_outputs], copied, or None.");

  py::class_<LmHead>(m, "LmHead", "The end of a decoder on the CPU: norm, product with the vocabulary, softcap.")
      .def(py::init([](const Floats& norm, const LinearPtr& linear, float rms_norm_eps, float softcap) {
             return std::make_unique<LmHead>(floats("norm", norm), *linear, rms_norm_eps, softcap);
           }),
           py::kw_only(), py::arg("norm"), py::arg("linear").none(false), py::arg("rms_norm_eps"), py::arg("softcap"),
           "norm: float32 [hidden_size]. softcap: 0 for none.")
      .def("embed", &embed, py::arg("token_ids"),
           "The rows float32 [T, hidden_size] of the product's matrix, for tied embeddings; token_ids: int32 [T].")
      .def("logits", &logits, py::arg("hidden"), py::arg("rows"),
           "Logits float32 [M, vocab_size] of the rows int32 [M] of hidden, float32 [T, hidden_size].")
      .def("most_likely", &most_likely, py::arg("hidden"), py::arg("rows"),
           "The ids int32 [M] of the largest logits, lowest id first among equals; the logits are not kept.");

  py::class_<DecoderLayer>(m, "DecoderLayer", "One layer of a pre-norm decoder on the CPU, in float32.")
      .def(py::init(&make_layer), py::kw_only(), py::arg("num_heads"), py::arg("num_kv_heads"), py::arg("rms_norm_eps"),
           py::arg("activation"), py::arg("attention_scale"), py::arg("attention_softcap"), py::arg("window"),
           py::arg("rotary").none(false), py::arg("attention_norm"), py::arg("qkv").none(false), py::arg("q_norm"),
           py::arg("k_norm"), py::arg("attention_output").none(false), py::arg("post_attention_norm"),
           py::arg("mlp_norm"), py::arg("gate_up").none(false), py::arg("down").none(false), py::arg("post_mlp_norm"),
           R"(The shape follows from the matrices and the rotary table.

activation: "silu" or "gelu_tanh". attention_softcap and window: 0 for none. Norms: float32, copied; those a model lacks
are None. qkv stacks all of Q, then K, then V; gate_up gate, then up.
Raises ValueError that names the value which does not fit.)")
      .def("forward", &forward, py::arg("hidden"), py::arg("step"), py::arg("kv"), py::arg("buffers"),
           R"(Advances hidden, float32 [T, hidden_size], in place and appends the step's K and V to `kv`.

kv: float32 or bfloat16 [num_blocks, 2, num_kv_heads, block_size, head_dim]. A row is a function of its token's inputs
and of the K/V it attends to alone, bit for bit. Raises ValueError when step and cache do not fit together; `hidden` is
then untouched.)");
}

}  // namespace blendserve::bindings
