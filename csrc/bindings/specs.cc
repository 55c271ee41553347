#include <pybind11/operators.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bindings/bindings.h"
#include "perf/architecture.h"
#include "perf/named_devices.h"
#include "perf/named_models.h"

namespace py = pybind11;

namespace blendserve::bindings {
namespace {

ModelSpec make_model(std::string name, std::int64_t num_layers, double attention_width, std::int64_t kv_width,
                     double num_params, double head_params, double embedding_params, std::int64_t num_experts,
                     std::int64_t experts_per_token, double expert_params, std::int64_t num_heads,
                     std::int64_t kv_lora_rank, std::int64_t rope_head_dim, std::int64_t weight_bytes,
                     std::int64_t kv_bytes, bool cascade_attention, std::optional<std::int64_t> max_context,
                     std::optional<std::int64_t> vocab_size) {
  ModelSpec spec{.name = std::move(name),
                 .num_layers = num_layers,
                 .attention_width = attention_width,
                 .kv_width = kv_width,
                 .num_params = num_params,
                 .head_params = head_params,
                 .embedding_params = embedding_params,
                 .num_experts = num_experts,
                 .experts_per_token = experts_per_token,
                 .expert_params = expert_params,
                 .num_heads = num_heads,
                 .kv_lora_rank = kv_lora_rank,
                 .rope_head_dim = rope_head_dim,
                 .weight_bytes = weight_bytes,
                 .kv_bytes = kv_bytes,
                 .cascade_attention = cascade_attention,
                 .max_context = max_context,
                 .vocab_size = vocab_size};
  spec.validate();
  return spec;
}

ModelSpec copy_model(const ModelSpec& model, std::optional<std::int64_t> weight_bytes,
                     std::optional<std::int64_t> kv_bytes, std::optional<bool> cascade_attention) {
  ModelSpec spec = model;
  spec.weight_bytes = weight_bytes.value_or(model.weight_bytes);
  spec.kv_bytes = kv_bytes.value_or(model.kv_bytes);
  spec.cascade_attention = cascade_attention.value_or(model.cascade_attention);
  spec.validate();
  return spec;
}

DeviceSpec make_device(std::string name, double flops_4_byte, double flops_2_byte, double flops_1_byte,
                       double bandwidth, double memory_bytes, std::int64_t tp, double beta,
                       std::int64_t num_nano_batches, std::int64_t token_tile, std::optional<double> kv_memory_bytes,
                       std::optional<MeasuredRates> measured) {
  DeviceSpec spec{.name = std::move(name),
                  .flops_4_byte = flops_4_byte,
                  .flops_2_byte = flops_2_byte,
                  .flops_1_byte = flops_1_byte,
                  .bandwidth = bandwidth,
                  .memory_bytes = memory_bytes,
                  .tp = tp,
                  .beta = beta,
                  .num_nano_batches = num_nano_batches,
                  .token_tile = token_tile,
                  .kv_memory_bytes = kv_memory_bytes,
                  .measured = std::move(measured)};
  spec.validate();
  return spec;
}

using Curve = std::vector<std::pair<double, double>>;

RateCurve curve_of(const Curve& pairs) {
  std::vector<RatePoint> points;
  for (const auto& [rows, flops] : pairs) points.push_back({rows, flops});
  return RateCurve(std::move(points));
}

Curve pairs_of(const RateCurve& curve) {
  Curve pairs;
  for (const RatePoint& point : curve.points()) pairs.emplace_back(point.rows, point.flops);
  return pairs;
}

MeasuredRates make_rates(std::int64_t element_bytes, const Curve& layers, const Curve& head,
                         double prefill_attention_flops, double decode_attention_bandwidth, double step_s) {
  MeasuredRates rates{.element_bytes = element_bytes,
                      .layers = curve_of(layers),
                      .head = curve_of(head),
                      .prefill_attention_flops = prefill_attention_flops,
                      .decode_attention_bandwidth = decode_attention_bandwidth,
                      .step_s = step_s};
  rates.validate();
  return rates;
}

py::str model_repr(const ModelSpec& model) {
  return py::str("ModelSpec({}: {:.3g} B parameters, {} layers, {}-byte weights, {}-byte KV cache)")
      .format(model.name, model.num_params / 1e9, model.num_layers, model.weight_bytes, model.kv_bytes);
}

py::str device_repr(const DeviceSpec& device) {
  return py::str("DeviceSpec({}: {:.3g} TFLOP/s of 2-byte elements, {:.4g} GB/s, {:.3g} GB, tp {}{})")
      .format(device.name, device.flops_2_byte / 1e12, device.bandwidth / 1e9, device.memory_bytes / 1e9, device.tp,
              device.measured ? ", measured" : "");
}

template <typename Named>
py::list names_of(std::span<const Named> entries) {
  py::list names;
  for (const Named& entry : entries) names.append(std::string(entry.name));
  return names;
}

void register_architecture(py::module_& m) {
  py::class_<Architecture>(m, "Architecture",
                           "The shape of a decoder-only transformer with gated MLPs; set its fields, then spec().")
      .def(py::init<>())
      .def_readwrite("vocab_size", &Architecture::vocab_size)
      .def_readwrite("hidden_size", &Architecture::hidden_size)
      .def_readwrite("intermediate_size", &Architecture::intermediate_size, "Of a dense layer's MLP.")
      .def_readwrite("num_layers", &Architecture::num_layers)
      .def_readwrite("num_heads", &Architecture::num_heads)
      .def_readwrite("num_kv_heads", &Architecture::num_kv_heads)
      .def_readwrite("head_dim", &Architecture::head_dim)
      .def_readwrite("tied_embeddings", &Architecture::tied_embeddings)
      .def_readwrite("qkv_bias", &Architecture::qkv_bias)
      .def_readwrite("output_bias", &Architecture::output_bias)
      .def_readwrite("mlp_bias", &Architecture::mlp_bias)
      .def_readwrite("qk_norm", &Architecture::qk_norm)
      .def_readwrite("norms_per_layer", &Architecture::norms_per_layer)
      .def_readwrite("num_experts", &Architecture::num_experts, "0: every layer is dense.")
      .def_readwrite("experts_per_token", &Architecture::experts_per_token)
      .def_readwrite("expert_size", &Architecture::expert_size)
      .def_readwrite("num_shared_experts", &Architecture::num_shared_experts)
      .def_readwrite("num_dense_layers", &Architecture::num_dense_layers, "Layers without experts.")
      .def_readwrite("q_lora_rank", &Architecture::q_lora_rank, "0: queries are not compressed.")
      .def_readwrite("kv_lora_rank", &Architecture::kv_lora_rank, "0: no latent attention.")
      .def_readwrite("qk_nope_head_dim", &Architecture::qk_nope_head_dim)
      .def_readwrite("qk_rope_head_dim", &Architecture::qk_rope_head_dim)
      .def_readwrite("v_head_dim", &Architecture::v_head_dim)
      .def_readwrite("max_context", &Architecture::max_context, "Tokens; 0: not stated.")
      .def("spec", &Architecture::spec, py::arg("name"), "The ModelSpec, its parameters counted from the shape.");
}

void register_model(py::module_& m) {
  py::class_<ModelSpec>(m, "ModelSpec", "What the performance model needs to know of a model. Immutable.")
      .def(py::init(&copy_model), py::arg("model"), py::kw_only(), py::arg("weight_bytes") = py::none(),
           py::arg("kv_bytes") = py::none(), py::arg("cascade_attention") = py::none(),
           "A copy with what is given replaced.")
      .def(py::init(&make_model), py::kw_only(), py::arg("name"), py::arg("num_layers"), py::arg("attention_width"),
           py::arg("kv_width"), py::arg("num_params"), py::arg("head_params") = 0.0, py::arg("embedding_params") = 0.0,
           py::arg("num_experts") = 0, py::arg("experts_per_token") = 0, py::arg("expert_params") = 0.0,
           py::arg("num_heads") = 0, py::arg("kv_lora_rank") = 0, py::arg("rope_head_dim") = 0,
           py::arg("weight_bytes") = 2, py::arg("kv_bytes") = 2, py::arg("cascade_attention") = false,
           py::arg("max_context") = py::none(), py::arg("vocab_size") = py::none(),
           "head_params and embedding_params (0 if tied) are those of num_params that measured devices charge apart; "
           "num_experts, experts_per_token and expert_params belong to a mixture of experts; num_heads, kv_lora_rank "
           "and rope_head_dim to latent attention, whose kv_width is 0. Raises ValueError for bad values.")
      .def_static("named", &ModelSpec::named, py::arg("name"), "One of named_models(), with 2-byte elements.")
      .def_readonly("name", &ModelSpec::name)
      .def_readonly("num_layers", &ModelSpec::num_layers)
      .def_readonly("attention_width", &ModelSpec::attention_width, "H: heads * head_dim.")
      .def_readonly("kv_width", &ModelSpec::kv_width, "H_kv: KV heads * head_dim; 0 with latent attention.")
      .def_readonly("num_params", &ModelSpec::num_params, "P: all parameters, embedding included, once if tied.")
      .def_readonly("head_params", &ModelSpec::head_params, "Of them the LM head's; 0: not told apart.")
      .def_readonly("embedding_params", &ModelSpec::embedding_params, "Of them those only looked up; 0 if tied.")
      .def_property_readonly("active_params", &ModelSpec::active_params, "Parameters a token multiplies with.")
      .def_property_readonly("layer_params", &ModelSpec::layer_params, "Of the active ones those of the layers.")
      .def_readonly("num_experts", &ModelSpec::num_experts)
      .def_readonly("experts_per_token", &ModelSpec::experts_per_token)
      .def_readonly("expert_params", &ModelSpec::expert_params, "Of the routed experts of all layers.")
      .def_readonly("num_heads", &ModelSpec::num_heads, "Only with latent attention, else 0.")
      .def_readonly("kv_lora_rank", &ModelSpec::kv_lora_rank)
      .def_readonly("rope_head_dim", &ModelSpec::rope_head_dim)
      .def_readonly("weight_bytes", &ModelSpec::weight_bytes, "Of one element.")
      .def_readonly("kv_bytes", &ModelSpec::kv_bytes, "Of one element.")
      .def_readonly("cascade_attention", &ModelSpec::cascade_attention)
      .def_readonly("max_context", &ModelSpec::max_context, "Tokens, or None.")
      .def_readonly("vocab_size", &ModelSpec::vocab_size, "Token ids are below it; None: not stated.")
      .def("__repr__", &model_repr)
      .def(py::self == py::self);
  m.def("named_models", [] { return names_of(named_models()); }, "The names that ModelSpec.named knows.");
}

void register_measured_rates(py::module_& m) {
  py::class_<MeasuredRates>(m, "MeasuredRates", "What one device was measured to do. Immutable.")
      .def(py::init(&make_rates), py::kw_only(), py::arg("element_bytes"), py::arg("layers"), py::arg("head"),
           py::arg("prefill_attention_flops"), py::arg("decode_attention_bandwidth"), py::arg("step_s") = 0.0,
           "layers and head are curves of (rows, FLOP/s). Raises ValueError for bad values.")
      .def_readonly("element_bytes", &MeasuredRates::element_bytes, "Of weights and KV cache.")
      .def_property_readonly(
          "layers", [](const MeasuredRates& self) { return pairs_of(self.layers); },
          "All that the layers do to a row but for attention, as FLOP/s of their products.")
      .def_property_readonly(
          "head", [](const MeasuredRates& self) { return pairs_of(self.head); }, "The LM head.")
      .def_readonly("prefill_attention_flops", &MeasuredRates::prefill_attention_flops)
      .def_readonly("decode_attention_bandwidth", &MeasuredRates::decode_attention_bandwidth, "B/s of KV.")
      .def_readonly("step_s", &MeasuredRates::step_s, "Of a step outside the model.")
      .def(py::self == py::self);
}

void register_device(py::module_& m) {
  py::class_<DeviceSpec>(m, "DeviceSpec",
                         "A device, or tp equal ones that work on every layer together; figures are of one. Immutable.")
      .def(py::init(&make_device), py::kw_only(), py::arg("name"), py::arg("flops_4_byte"), py::arg("flops_2_byte"),
           py::arg("flops_1_byte"), py::arg("bandwidth"), py::arg("memory_bytes"), py::arg("tp") = 1,
           py::arg("beta") = 0.5, py::arg("num_nano_batches") = 1, py::arg("token_tile") = 128,
           py::arg("kv_memory_bytes") = py::none(), py::arg("measured") = py::none(),
           "Raises ValueError for bad values.")
      .def_static("named", &DeviceSpec::named, py::arg("name"), py::kw_only(), py::arg("tp") = 1,
                  "One of named_devices(), by its data sheet.")
      .def_readonly("name", &DeviceSpec::name)
      .def_readonly("flops_4_byte", &DeviceSpec::flops_4_byte, "Dense FLOP/s; TF32 on GPUs.")
      .def_readonly("flops_2_byte", &DeviceSpec::flops_2_byte, "Dense FLOP/s of fp16 and bf16.")
      .def_readonly("flops_1_byte", &DeviceSpec::flops_1_byte, "Dense FLOP/s of fp8, or int8 where there is none.")
      .def_readonly("bandwidth", &DeviceSpec::bandwidth, "B/s.")
      .def_readonly("memory_bytes", &DeviceSpec::memory_bytes)
      .def_readonly("tp", &DeviceSpec::tp)
      .def_readonly("beta", &DeviceSpec::beta, "What overlap leaves of the shorter of compute and memory time.")
      .def_readonly("num_nano_batches", &DeviceSpec::num_nano_batches)
      .def_readonly("token_tile", &DeviceSpec::token_tile)
      .def_readonly("kv_memory_bytes", &DeviceSpec::kv_memory_bytes, "Of all tp devices; None: what the model leaves.")
      .def_readonly("measured", &DeviceSpec::measured, "What it was measured to do, or None: a data sheet's figures.")
      .def("__repr__", &device_repr)
      .def(py::self == py::self);
  m.def("named_devices", [] { return names_of(named_devices()); }, "The names that DeviceSpec.named knows.");
}

}  // namespace

void register_specs(py::module_& m) {
  register_architecture(m);
  register_model(m);
  register_measured_rates(m);
  register_device(m);
}

}  // namespace blendserve::bindings
